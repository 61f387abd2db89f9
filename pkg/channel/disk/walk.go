package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// walked is one step of a walk: a frame that verifies, or a stretch of bytes
// that does not.
type walked struct {
	frame
	off     int64
	size    int64
	payload []byte // good until the next step
	damage  error  // why the stretch is no frame: a *CorruptError, or an error of reading
}

// walk goes through a sealed segment from the header to its last byte and
// hands over each frame, and each stretch up to the next frame that is none.
// It ends when take returns an error, and returns that.
func walk(f File, name string, g *segment, take func(walked) error) error {
	damaged := func(off, size int64, reason string) error {
		return take(walked{off: off, size: size, damage: &CorruptError{File: name, Offset: off, Reason: reason}})
	}
	if size, err := f.Size(); err != nil {
		return fmt.Errorf("size of %s: %w", name, err)
	} else if size != g.size {
		if err := damaged(min(size, g.size), 0, fmt.Sprintf("the file has %d bytes, it was sealed with %d", size, g.size)); err != nil {
			return err
		}
	}
	if err := walkHeader(f, name, g, take); err != nil {
		return err
	}
	c := chunks.Get().(*chunk)
	defer func() { c.forget(); chunks.Put(c) }()
	sealed := false
	for off := int64(segmentHeader); off < g.size; {
		h, payload, err := c.frame(f, g.seed, off, g.size, g.size)
		step := walked{frame: h, off: off, size: h.size(), payload: payload}
		switch {
		case err != nil:
		case h.witness > g.base+uint64(off):
			err = errors.New("witness lies in the future")
		case h.kind == kindFooter:
			if sealed = off+h.size() == g.size; !sealed {
				err = errors.New("the footer is not at the end")
			}
		}
		if err != nil {
			step = walked{off: off, damage: &CorruptError{File: name, Offset: off, Reason: err.Error()}}
			if _, ok := errors.AsType[*readError](err); ok {
				step.damage = fmt.Errorf("read %s at %d: %w", name, off, err)
			}
			// A header that verifies tells the length of what does not.
			if step.size = h.size(); h.kind == 0 || off+step.size > g.size {
				step.size = resync(f, g, off+frameAlign) - off
			}
		}
		if err := take(step); err != nil {
			return err
		}
		off += step.size
	}
	if !sealed {
		return damaged(g.size, 0, "the footer is damaged or missing")
	}
	return nil
}

func walkHeader(f File, name string, g *segment, take func(walked) error) error {
	var h [segmentHeader]byte
	step := walked{size: segmentHeader}
	if n, err := f.ReadAt(h[:], 0); n < len(h) {
		step.damage = fmt.Errorf("read %s at 0: %w", name, err)
		return take(step)
	}
	base, _, err := parseSegmentHeader(name, h[:], g.number)
	if err == nil && base != g.base {
		err = &CorruptError{File: name, Reason: fmt.Sprintf("the segment begins at %d, it was sealed with %d", base, g.base)}
	}
	if step.damage = err; err == nil {
		return nil
	}
	return take(step)
}

// resync is the offset of the first frame header at or after from that
// verifies, the segment's size if there is none. What cannot be read is
// passed over.
func resync(f File, g *segment, from int64) int64 {
	const piece, page = 64 << 10, 4 << 10
	b := make([]byte, piece+frameHeader)
	for at := from; at < g.size; {
		n, err := f.ReadAt(b[:min(int64(len(b)), g.size-at)], at)
		for i := 0; i < min(n, piece); i += frameAlign {
			if n-i >= frameHeader && binary.LittleEndian.Uint32(b[i:]) == frameMagic {
				if _, ok := parseFrame(b[i:n], g.seed, at+int64(i)); ok {
					return at + int64(i)
				}
			}
		}
		switch {
		case n >= frameHeader:
			at += int64(min(n, piece)) &^ (frameAlign - 1)
		case err != nil:
			at = (at + page) &^ (page - 1)
		default:
			return g.size
		}
	}
	return g.size
}
