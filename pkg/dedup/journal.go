package dedup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A journal holds the entries of a generation until that is a table. It is
// frames one after the other, integers little endian:
//
//	u32 length of the payload, u32 CRC-32C of it
//	payload: u64 mark of the key, covered (see covered.encode), entries
//
// A frame is written once a second and not synced: it survives the end of the
// process, however that ends, and not the loss of power. What is missing is
// found again in the log, from the position covered by the last whole frame.
const (
	frameHead = 8
	maxFrame  = 64 << 20
)

type journal struct {
	path string
	file *os.File
	end  int64 // of the last frame that is known to be whole
}

func createJournal(path string) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{path: path, file: file}, nil
}

// write adds a frame. After an error the next one is written in its place.
func (j *journal) write(key uint64, c covered, entries []entry) error {
	b := make([]byte, frameHead, frameHead+12+12*len(c)+entrySize*len(entries))
	b = binary.LittleEndian.AppendUint64(b, key)
	b = c.encode(b)
	for i := range entries {
		b = appendEntry(b, &entries[i])
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-frameHead))
	binary.LittleEndian.PutUint32(b[4:], sum(b[frameHead:]))
	if _, err := j.file.WriteAt(b, j.end); err != nil {
		return err
	}
	j.end += int64(len(b))
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// openJournal reads a journal up to its last whole frame, and goes on from there.
func openJournal(path string, key uint64, c covered, each func(*entry)) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, file: file}
	for {
		n, err := j.frame(key, c, each)
		if errors.Is(err, errForm) || errors.Is(err, io.EOF) {
			return j, nil // torn by a crash, or the end
		}
		if err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		j.end += n
	}
}

// frame reads the frame at end.
func (j *journal) frame(key uint64, c covered, each func(*entry)) (int64, error) {
	var head [frameHead]byte
	if n, err := j.file.ReadAt(head[:], j.end); err != nil {
		if n > 0 && errors.Is(err, io.EOF) {
			err = errForm
		}
		return 0, err
	}
	length := binary.LittleEndian.Uint32(head[:])
	if length > maxFrame || length < 12 {
		return 0, errForm
	}
	payload := make([]byte, length)
	if _, err := j.file.ReadAt(payload, j.end+frameHead); err != nil {
		if errors.Is(err, io.EOF) {
			err = errForm
		}
		return 0, err
	}
	if sum(payload) != binary.LittleEndian.Uint32(head[4:]) || binary.LittleEndian.Uint64(payload) != key {
		return 0, errForm
	}
	is, rest, err := decodeCovered(payload[8:])
	if err != nil || len(rest)%entrySize != 0 {
		return 0, errForm
	}
	c.merge(is)
	for ; len(rest) > 0; rest = rest[entrySize:] {
		e := readEntry(rest)
		each(&e)
	}
	return frameHead + int64(length), nil
}
