package disk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// torn is the end of the log: where its valid frames end, and whether bytes
// of a write that was cut short follow.
type torn struct {
	file      File
	from      int64
	size      int64
	footer    bool // the segment is sealed, but the next was not begun
	discarded bool // bytes follow
}

// blank turns what was discarded to zeros. It does not cut it off: the place
// would be given back, and on a full volume the log could not begin.
func (t *torn) blank() error {
	b, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := t.from; at < t.size; at += int64(len(b)) {
		n := min(int64(len(b)), t.size-at)
		if _, err := t.file.ReadAt(b[:n], at); err != nil {
			return err
		}
		if used := len(bytes.TrimRight(b[:n], "\x00")); used > 0 {
			if _, err := t.file.WriteAt(zeros[:used], at); err != nil {
				return err
			}
		}
	}
	return nil
}

// saveTorn copies the bytes of a write that was cut short, for who wants to
// know what was in them. They were never acknowledged.
func (l *Log) saveTorn(t torn) error {
	name := filepath.Join(l.dir, fmt.Sprintf("%016d-%d.torn", l.active.number, t.from))
	if err := l.fs.Remove(name); err != nil && !isAbsent(err) {
		return fmt.Errorf("save torn tail: %w", err)
	}
	f, err := l.fs.Create(name)
	if err != nil {
		return fmt.Errorf("save torn tail: %w", err)
	}
	end := t.from
	b := make([]byte, 1<<20)
	for at := t.from; at < t.size && err == nil; at += int64(len(b)) {
		n := min(int64(len(b)), t.size-at)
		if _, err = t.file.ReadAt(b[:n], at); err != nil {
			break
		}
		if used := len(bytes.TrimRight(b[:n], "\x00")); used > 0 {
			end = at + int64(used)
			_, err = f.WriteAt(b[:used], at-t.from)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save torn tail as %s: %w", name, errors.Join(err, l.fs.Remove(name)))
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return fmt.Errorf("save torn tail: %w", err)
	}
	l.torn = end - t.from
	if err := l.pruneTorn(); err != nil {
		return fmt.Errorf("remove old torn tails: %w", err)
	}
	l.log.Warn("the last write was cut short: its bytes, never acknowledged, are set aside",
		"file", name, "segment", l.active.number, "offset", t.from, "bytes", l.torn)
	return nil
}

// tornKept is how many torn tails are kept for inspection.
const tornKept = 16

// pruneTorn removes the oldest torn tails.
func (l *Log) pruneTorn() error {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return err
	}
	type tail struct {
		name         string
		segment, off uint64
	}
	var tails []tail
	for _, name := range names {
		var t tail
		if n, err := fmt.Sscanf(name, "%d-%d"+tornSuffix, &t.segment, &t.off); err == nil && n == 2 {
			t.name = name
			tails = append(tails, t)
		}
	}
	slices.SortFunc(tails, func(a, b tail) int {
		return cmp.Or(cmp.Compare(b.segment, a.segment), cmp.Compare(b.off, a.off))
	})
	for _, t := range tails[min(len(tails), tornKept):] {
		if err := l.fs.Remove(filepath.Join(l.dir, t.name)); err != nil {
			return err
		}
	}
	return nil
}
