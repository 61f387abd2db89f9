package disk

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
)

// formatVersion is of segments and checkpoints alike. A store of a later
// version is refused, untouched; one of an earlier is read, and its next
// checkpoint is of this one.
//
//	1 the first
//	2 moved records and gaps, which checkpoints list
//	3 discarded dead letters
const formatVersion = 3

const (
	oldestVersion = 1

	segmentMagic  = "PENSTKSG"
	segmentHeader = 64
	segmentSuffix = ".log"
	spareName     = "spare.tmp"
)

// segment is one file of the log. The fields that change are guarded by Log.mu.
type segment struct {
	number uint64
	base   uint64 // LSN of its first byte
	seed   uint32 // of its frames' checksums

	size     int64 // once sealed: length of the file
	entries  []entry
	parts    []*part  // of moves into it, until it is sealed
	moves    []uint32 // those that count
	dropped  bool
	damaged  bool // its file is set aside when it goes
	outsized bool // it holds a record that fits no segment any more
	footed   bool // the active one: its footer is written, and the next was not begun
	scanned  bool // its index was made from its frames: there is no good footer

	file File // nil while closed
	refs int  // readers that use file
}

func (s *segment) end() uint64 { return s.base + uint64(s.size) }

// counts reports whether a move into the segment has ended well.
func (s *segment) counts(move uint32) bool { return slices.Contains(s.moves, move) }

func segmentName(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", number, segmentSuffix))
}

// frameSeed begins the checksums of a segment's frames.
func frameSeed(store [16]byte, number uint64) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], number)
	return crc32.Update(crc32.Checksum(store[:], castagnoli), castagnoli, n[:])
}

// putSegmentHeader is the first 64 bytes of a segment:
//
//	 0 "PENSTKSG"
//	 8 u32 format version
//	12 u32 0
//	16 u64 segment number
//	24 u64 LSN of the first byte
//	32 16 bytes: the store's id
//	48 zeros
//	60 u32 CRC32C of the above
func putSegmentHeader(number, base uint64, store [16]byte) []byte {
	h := make([]byte, segmentHeader)
	copy(h, segmentMagic)
	binary.LittleEndian.PutUint32(h[8:], formatVersion)
	binary.LittleEndian.PutUint64(h[16:], number)
	binary.LittleEndian.PutUint64(h[24:], base)
	copy(h[32:], store[:])
	binary.LittleEndian.PutUint32(h[60:], checksum(h[:60]))
	return h
}

// parseSegmentHeader checks a header; the base LSN and store id are its news.
func parseSegmentHeader(name string, h []byte, number uint64) (base uint64, store [16]byte, err error) {
	if len(h) < segmentHeader || string(h[:8]) != segmentMagic || binary.LittleEndian.Uint32(h[60:]) != checksum(h[:60]) {
		return 0, store, &CorruptError{File: name, Reason: "segment header is damaged"}
	}
	if v := binary.LittleEndian.Uint32(h[8:]); v < oldestVersion || v > formatVersion {
		return 0, store, &VersionError{File: name, Version: v}
	}
	if n := binary.LittleEndian.Uint64(h[16:]); n != number {
		return 0, store, &CorruptError{File: name, foreign: true, Reason: fmt.Sprintf("this is segment %d under another name", n)}
	}
	copy(store[:], h[32:48])
	return binary.LittleEndian.Uint64(h[24:]), store, nil
}

// CorruptError says that stored bytes which must be good are not. Nothing
// was changed; what the log did not verify may still be read by hand.
type CorruptError struct {
	File   string
	Offset int64
	Reason string

	foreign bool // another file stands in its place
	missing bool // or none
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %s; nothing was changed: check the disk, then restore the data directory from a backup, or give up what is lost with penstock doctor --repair",
		e.File, e.Offset, e.Reason)
}

// VersionError says that a file was written by a newer Penstock.
type VersionError struct {
	File    string
	Version uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this build reads up to %d: use the newer Penstock that wrote it",
		e.File, e.Version, formatVersion)
}

// sealed finds a segment among those that are sealed and kept. Under Log.mu.
func (l *Log) sealed(number uint64) (at int, kept bool) {
	return slices.BinarySearchFunc(l.segments, number, func(g *segment, n uint64) int { return cmp.Compare(g.number, n) })
}

// prepare makes the next segment's file ahead of time, so that a full disk
// shows before anything of a batch is written. Committer only.
func (l *Log) prepare() error {
	if l.spare != nil {
		return nil
	}
	name := filepath.Join(l.dir, spareName)
	f, err := l.fs.Create(name)
	if err != nil {
		return fmt.Errorf("create the next segment: %w", err)
	}
	if err := f.Allocate(l.segmentSize); err != nil {
		f.Close()
		l.fs.Remove(name)
		return fmt.Errorf("reserve %d bytes for the next segment: %w", l.segmentSize, err)
	}
	l.spare = f
	return nil
}

// discardSpare gives the next segment's place back.
func (l *Log) discardSpare() {
	if err := errors.Join(l.spare.Close(), l.fs.Remove(filepath.Join(l.dir, spareName))); err != nil {
		l.log.Warn("the next segment's file stays", "dir", l.dir, "error", err)
	}
	l.spare = nil
}

// install turns the spare into segment number, ready for frames. What fails
// here fails after bytes were written: the caller latches.
func (l *Log) install(number, base uint64) (*segment, error) {
	name := segmentName(l.dir, number)
	if _, err := l.spare.WriteAt(putSegmentHeader(number, base, l.store), 0); err != nil {
		return nil, fmt.Errorf("write header of %s: %w", name, err)
	}
	if err := l.spare.Sync(); err != nil {
		return nil, fmt.Errorf("sync %s: %w", name, err)
	}
	if err := l.fs.Rename(filepath.Join(l.dir, spareName), name); err != nil {
		return nil, fmt.Errorf("name segment %d: %w", number, err)
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return nil, fmt.Errorf("sync %s: %w", l.dir, err)
	}
	s := &segment{number: number, base: base, seed: frameSeed(l.store, number), file: l.spare, refs: 1}
	l.spare = nil
	return s, nil
}

// acquire opens a segment for a reader, who must release it. Under Log.mu.
func (l *Log) acquire(s *segment) error {
	if s.file == nil {
		f, err := l.fs.Open(segmentName(l.dir, s.number))
		if err != nil {
			return err
		}
		s.file = f
		l.open = append(l.open, s)
	}
	s.refs++
	l.closeSome()
	return nil
}

// release is acquire's other half.
func (l *Log) release(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.refs--
	if s.refs == 0 && (s.dropped || l.closed) {
		s.close()
	}
}

// maxOpen bounds the sealed segments whose files stay open between reads.
const maxOpen = 64

// closeSome closes the longest open files that nobody reads. Under Log.mu.
func (l *Log) closeSome() {
	for i := 0; i < len(l.open) && len(l.open) > maxOpen; {
		if s := l.open[i]; s.refs > 0 {
			i++
		} else {
			s.close()
			l.open = append(l.open[:i], l.open[i+1:]...)
		}
	}
}

func (s *segment) close() {
	if s.file != nil {
		s.file.Close() // only ever read through since the last sync
		s.file = nil
	}
}
