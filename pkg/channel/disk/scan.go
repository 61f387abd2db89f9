package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// scan walks the frames of a segment.
type scan struct {
	log     *Log
	name    string
	file    File
	segment *segment
	covered uint64 // frames below this LSN are in the checkpoint
	chunk   chunk
	batch   []scanned // frames of a batch whose last has not come yet
	end     int64     // of the last whole batch
	footer  bool
	bad     error // what the first bad frame was
}

type scanned struct {
	frame
	off     int64
	payload []byte
}

func (sc *scan) damaged(reason string) error {
	if sc.bad != nil {
		reason = sc.bad.Error() + ", but " + reason
	}
	return &CorruptError{File: sc.name, Offset: sc.end, Reason: reason}
}

// run applies frames up to the first that is not valid.
func (sc *scan) run() error {
	size := sc.segment.size
	off := int64(segmentHeader)
	sc.end = off
	for off < size && !sc.footer {
		h, payload, err := sc.chunk.frame(sc.file, sc.segment.seed, off, size, size)
		if err == nil && h.witness > sc.segment.base+uint64(off) {
			err = errors.New("witness lies in the future")
		}
		if _, ok := errors.AsType[*readError](err); ok {
			return fmt.Errorf("read %s at %d: %w", sc.name, off, err)
		}
		if err != nil {
			sc.bad = err
			return nil
		}
		sc.batch = append(sc.batch, scanned{h, off, nil})
		if h.kind != kindEvent { // an event's payload is only verified
			sc.batch[len(sc.batch)-1].payload = append([]byte(nil), payload...)
		}
		off += h.size()
		if h.flags&flagMore != 0 {
			continue
		}
		for i := range sc.batch {
			if err := sc.log.redo(&sc.batch[i], sc.segment.base, sc.covered); err != nil {
				return &CorruptError{File: sc.name, Offset: sc.batch[i].off, Reason: err.Error()}
			}
		}
		sc.footer = h.kind == kindFooter
		sc.batch, sc.end = sc.batch[:0], off
	}
	return nil
}

// lookAhead tells a torn write from damage: nothing that was durable may
// lie behind the end of the valid frames.
func (sc *scan) lookAhead(t *torn) error {
	size := sc.segment.size
	from, err := nonZero(sc.file, sc.end, size)
	if err != nil || from == size {
		return err
	}
	if sc.footer {
		return sc.damaged("bytes follow the footer")
	}
	t.discarded = true
	limit := sc.segment.base + uint64(sc.end)
	var magic [4]byte
	binary.LittleEndian.PutUint32(magic[:], frameMagic)
	const step = 1 << 20
	b := make([]byte, min(step+frameHeader, size-from))
	for at := from; at < size; at += step {
		n, err := sc.file.ReadAt(b[:min(int64(len(b)), size-at)], at)
		if n == 0 && err != nil {
			return fmt.Errorf("read %s at %d: %w", sc.name, at, err)
		}
		for i := 0; ; i++ {
			k := bytes.Index(b[i:n], magic[:])
			if k < 0 {
				break
			}
			i += k
			h, ok := parseFrame(b[i:n], sc.segment.seed, at+int64(i))
			if ok && h.witness > limit {
				return sc.damaged(fmt.Sprintf("the frame at %d says that all up to %d was durable",
					at+int64(i), int64(h.witness-sc.segment.base)))
			}
		}
	}
	return nil
}

// nonZero is the offset of the first byte that is not zero, size if none is.
func nonZero(f File, from, size int64) (int64, error) {
	b := make([]byte, min(1<<20, max(0, size-from)))
	zeros := make([]byte, len(b))
	for from < size {
		n, err := f.ReadAt(b[:min(int64(len(b)), size-from)], from)
		if n == 0 && err != nil {
			return from, fmt.Errorf("look for frames at %d: %w", from, err)
		}
		if !bytes.Equal(b[:n], zeros[:n]) {
			i := bytes.IndexFunc(b[:n], func(r rune) bool { return r != 0 })
			return from + int64(i), nil
		}
		from += int64(n)
	}
	return size, nil
}
