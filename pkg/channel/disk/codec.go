package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// errPayload is a payload that passed its checksum and still makes no sense:
// a fault of ours, or a newer version's record.
var errPayload = errors.New("payload is not of its kind")

// encoder appends fields to a payload: varints, and bytes after their length.
type encoder []byte

func (e *encoder) uint(v uint64) { *e = binary.AppendUvarint(*e, v) }
func (e *encoder) int(v int64)   { *e = binary.AppendVarint(*e, v) }

func (e *encoder) bytes(b []byte) {
	e.uint(uint64(len(b)))
	*e = append(*e, b...)
}

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	*e = append(*e, s...)
}

// time keeps the instant to the nanosecond; the zero Time stays zero.
func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.int(math.MinInt64)
		return
	}
	e.int(t.UnixNano())
}

func (e *encoder) bool(b bool) {
	if b {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

// bitmap writes nothing but a length of 0 for an empty set.
func (e *encoder) bitmap(b *roaring64.Bitmap) error {
	if b == nil || b.IsEmpty() {
		e.uint(0)
		return nil
	}
	raw, err := b.MarshalBinary()
	if err != nil {
		return err
	}
	e.bytes(raw)
	return nil
}

// decoder reads what encoder wrote. After the first field that does not fit
// every further one is zero and err tells. With a file it reads on from there, so
// that not all of a large one is in memory.
type decoder struct {
	rest []byte
	err  error

	file     File // nil for none
	off, end int64
}

func (d *decoder) fail() {
	d.rest, d.off = nil, d.end
	if d.err == nil {
		d.err = errPayload
	}
}

// close lets go of the file.
func (d *decoder) close() error { return d.file.Close() }

// left is how many bytes there are yet.
func (d *decoder) left() uint64 {
	return uint64(len(d.rest)) + uint64(d.end-d.off)
}

// more has n bytes in rest, where there are as many. What was handed out of the
// rest before stays as it is.
func (d *decoder) more(n uint64) {
	if uint64(len(d.rest)) >= n || d.off == d.end {
		return
	}
	b := make([]byte, min(max(n, piece), d.left()))
	had := copy(b, d.rest)
	if got, err := d.file.ReadAt(b[had:], d.off); got < len(b)-had {
		d.fail()
		d.err = &readError{err}
		return
	}
	d.rest, d.off = b, d.off+int64(len(b)-had)
}

// failure is what went wrong, in a file of this name; nil for nothing.
func (d *decoder) failure(name string) error {
	switch {
	case d.err == nil:
		return nil
	case errors.As(d.err, new(*readError)):
		return fmt.Errorf("read %s: %w", name, d.err)
	}
	return &CorruptError{File: name, Reason: d.err.Error()}
}

func (d *decoder) uint() uint64 {
	d.more(binary.MaxVarintLen64)
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) int() int64 {
	d.more(binary.MaxVarintLen64)
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// bytes shares the decoder's memory.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > d.left() {
		d.fail()
		return nil
	}
	if d.more(n); n > uint64(len(d.rest)) {
		return nil // it could not be read
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) time() time.Time {
	n := d.int()
	if n == math.MinInt64 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func (d *decoder) bool() bool { return d.uint() != 0 }

func (d *decoder) string() string { return string(d.bytes()) }

// count reads a number of elements that take at least a byte each, so that a
// wrong one cannot ask for more memory than the payload is long.
func (d *decoder) count() int {
	n := d.uint()
	if n > d.left() {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bitmap() *roaring64.Bitmap {
	set := roaring64.New()
	raw := d.bytes()
	if len(raw) == 0 {
		return set
	}
	// The library allocates what its first word asks for: each of that many
	// parts takes at least 12 bytes.
	if len(raw) < 8 || binary.LittleEndian.Uint64(raw) > uint64(len(raw)-8)/12 {
		d.fail()
		return set
	}
	if err := errors.Join(set.UnmarshalBinary(raw), set.Validate()); err != nil {
		d.fail()
		return roaring64.New()
	}
	return set
}

// positions reads what bitmap or AppendPortable has written.
func (d *decoder) positions() channel.Positions {
	raw := d.bytes()
	if len(raw) == 0 {
		return channel.Positions{}
	}
	set, err := channel.ParsePortable(raw)
	if err != nil {
		d.fail()
	}
	return set
}
