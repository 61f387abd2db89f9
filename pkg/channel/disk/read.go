package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

const (
	// readBytes is the most that one Read returns in events, whatever the
	// capacity of its buffer: it bounds the memory of those that lag.
	readBytes = 8 << 20
	// readAhead is the size of one read from the file.
	readAhead = 128 << 10
	// readOffsets is how many offsets of a run are looked up at once.
	readOffsets = 1024
)

// Read implements channel.Reader. It returns early, with less than cap(buf),
// after 8 MiB of events.
func (b *broker) Read(ctx context.Context, shard channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	s, err := b.shard(shard)
	if err != nil {
		return buf, from, err
	}
	from = max(from, 1)
	if len(buf) == cap(buf) {
		return buf, from, nil
	}
	l := b.log
	for start := len(buf); ; {
		l.mu.Lock()
		if err := b.readable(); err != nil {
			l.mu.Unlock()
			return buf, from, err
		}
		if from = max(from, s.earliest()); from >= s.next {
			wake := s.waiter()
			l.mu.Unlock()
			select {
			case <-wake:
			case <-ctx.Done():
				return buf, from, ctx.Err()
			}
			continue
		}
		l.mu.Unlock()
		if buf, from, err = l.read(ctx, s, from, buf); err != nil || len(buf) > start {
			return buf, from, err
		}
	}
}

// readable says why nothing can be read. Under Log.mu.
func (b *broker) readable() error {
	if b.gone.Load() {
		return fmt.Errorf("%w: %s", channel.ErrNoBroker, b.uid)
	}
	if b.log.closed {
		return channel.ErrClosed
	}
	return nil
}

// read fills buf with what is stored at and after from, a position below next.
func (l *Log) read(ctx context.Context, s *stream, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	var size int
	for len(buf) < cap(buf) && size < readBytes {
		if err := ctx.Err(); err != nil && size == 0 {
			return buf, from, err
		}
		p, more, err := l.plan(s, from, cap(buf)-len(buf), buf[len(buf):])
		if gap, ok := errors.AsType[*channel.GapError](err); ok {
			return buf, gap.To, err
		}
		if err != nil {
			return buf, from, err
		}
		if !more {
			break
		}
		if p.segment == nil { // from memory
			buf = buf[:len(buf)+len(p.records)]
			from = buf[len(buf)-1].Position + 1
			continue
		}
		at := len(buf)
		var gap *channel.GapError
		next := p.first
		for i, off := range p.offsets {
			pos := p.first + channel.Position(i)
			var r channel.Record
			if r, err = p.record(s, pos, off); err != nil {
				if gap == nil {
					gap = &channel.GapError{Shard: s.shard(), From: pos, Cause: err}
				}
				next = pos + 1
				continue // the gap goes on until a record is good again
			}
			if gap != nil {
				break
			}
			buf = append(buf, r)
			next = pos + 1
			if size += r.Event.Size(); size >= readBytes {
				break
			}
		}
		p.close()
		from = next
		if gap != nil {
			gap.To = next
			return buf, next, gap
		}
		if len(buf) == at {
			return buf, from, fmt.Errorf("read shard %d at %d: no offsets", s.shard(), from)
		}
	}
	return buf, from, nil
}

// shard is the number of an event stream's shard.
func (s *stream) shard() channel.ShardID { return channel.ShardID(s.id - s.broker.base) }

// Get implements channel.Reader.
func (b *broker) Get(ctx context.Context, shard channel.ShardID, positions []channel.Position, buf []channel.Record) ([]channel.Record, error) {
	s, err := b.shard(shard)
	if err != nil {
		return buf, err
	}
	err = b.log.fetch(ctx, s, positions, func(pos channel.Position, nanos int64, payload []byte) error {
		e, err := event.Parse(append([]byte(nil), payload...))
		if err == nil {
			buf = append(buf, channel.Record{Position: pos, Time: time.Unix(0, nanos), Event: e})
		}
		return err
	})
	return buf, err
}

// fetch reads single records at ascending positions and hands each payload
// over. What cannot be read becomes a *GapError each.
func (l *Log) fetch(ctx context.Context, s *stream, positions []channel.Position, take func(channel.Position, int64, []byte) error) error {
	l.mu.Lock()
	err := s.broker.readable()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	var errs []error
	gap := func(pos channel.Position, cause error) {
		errs = append(errs, &channel.GapError{Shard: s.shard(), From: pos, To: pos + 1, Cause: cause})
	}
	for len(positions) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		pos, n := positions[0], neighbours(positions)
		p, more, err := l.plan(s, pos, n, nil)
		if damage, ok := errors.AsType[*channel.GapError](err); ok {
			for ; len(positions) > 0 && positions[0] < damage.To; positions = positions[1:] {
				gap(positions[0], damage.Cause)
			}
			continue
		}
		switch {
		case err != nil:
			return errors.Join(append(errs, err)...)
		case !more:
			return errors.Join(errs...) // none of the rest is there
		case p.segment == nil && p.records[0].Position == pos:
			for i := range p.records {
				if err := take(pos+channel.Position(i), p.records[i].Time.UnixNano(), p.records[i].Event.Raw()); err != nil {
					gap(pos+channel.Position(i), err)
				}
			}
			n = len(p.records)
		case p.segment != nil && p.first == pos:
			for i, off := range p.offsets {
				h, payload, err := p.frame(s, pos+channel.Position(i), off)
				if err == nil {
					err = take(pos+channel.Position(i), h.time, payload)
				}
				if err != nil {
					gap(pos+channel.Position(i), err)
				}
			}
			n = len(p.offsets)
		default:
			n = 1 // it is gone
		}
		p.close()
		positions = positions[n:]
	}
	return errors.Join(errs...)
}

// neighbours is how many positions at the beginning follow one another.
func neighbours(positions []channel.Position) int {
	n := 1
	for n < len(positions) && n < readOffsets && positions[n] == positions[n-1]+1 {
		n++
	}
	return n
}

// Range implements channel.Reader.
func (b *broker) Range(shard channel.ShardID) (earliest, next channel.Position) {
	s, err := b.shard(shard)
	if err != nil {
		return 0, 0
	}
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	return s.earliest(), s.next
}

// plan is what to read next: records that memory has, or offsets in a segment
// that is held open until close.
type plan struct {
	log     *Log
	segment *segment
	file    File
	limit   int64 // no frame goes beyond it
	first   channel.Position
	offsets []uint32
	records []channel.Record
	chunk   *chunk
}

// plan finds the first records at or after from, at most n of them; false if
// there are none. Those that memory has are appended to into.
func (l *Log) plan(s *stream, from channel.Position, n int, into []channel.Record) (p plan, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := s.broker.readable(); err != nil {
		return p, false, err
	}
	if from = max(from, s.earliest()); from >= s.next {
		return p, false, nil
	}
	if first := s.next - channel.Position(s.tail.len()); from >= first {
		i := s.tail.head + int(from-first)
		p.records = append(into, s.tail.records[i:min(i+n, len(s.tail.records))]...)
		return p, true, nil
	}
	if i := s.find(from); i < len(s.runs) {
		p, err = l.planSealed(s, s.runs[i], from, n)
		return p, err == nil, err
	}
	from = max(from, s.first)
	i := int(from - s.first)
	if i >= len(s.offsets) {
		return p, false, nil
	}
	l.active.refs++
	return plan{
		log: l, segment: l.active, file: l.active.file, limit: l.tailOff, first: from,
		offsets: s.offsets[i:min(i+n, len(s.offsets))], chunk: chunks.Get().(*chunk),
	}, true, nil
}

// planSealed is plan for a run of a sealed segment, whose offsets stand in
// its footer. Reading 4 KiB of them under the lock is what keeps a million
// pending events from costing memory. Under Log.mu.
func (l *Log) planSealed(s *stream, r run, from channel.Position, n int) (plan, error) {
	g := r.segment
	from = max(from, r.first)
	n = min(n, int(r.end()-from), readOffsets)
	if err := l.acquire(g); err != nil {
		err = fmt.Errorf("open segment %d: %w", g.number, err)
		if isExhausted(err) {
			return plan{}, err
		}
		return plan{}, &channel.GapError{Shard: s.shard(), From: from, To: r.end(), Cause: err}
	}
	b := make([]byte, 4*n)
	if _, err := g.file.ReadAt(b, r.table+4*int64(from-r.first)); err != nil {
		g.refs--
		return plan{}, &channel.GapError{Shard: s.shard(), From: from, To: from + channel.Position(n),
			Cause: fmt.Errorf("read footer of segment %d: %w", g.number, err)}
	}
	offsets := make([]uint32, n)
	for i := range offsets {
		offsets[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return plan{log: l, segment: g, file: g.file, limit: g.size, first: from, offsets: offsets, chunk: chunks.Get().(*chunk)}, nil
}

func (p *plan) close() {
	if p.segment == nil {
		return
	}
	p.chunk.forget()
	chunks.Put(p.chunk)
	p.log.release(p.segment)
}

// record reads and verifies one event.
func (p *plan) record(s *stream, pos channel.Position, off uint32) (channel.Record, error) {
	h, payload, err := p.frame(s, pos, off)
	if err != nil {
		return channel.Record{}, err
	}
	// A copy of its own: a view would keep the whole chunk alive as long as
	// a lane holds the event.
	e, err := event.Parse(append(make([]byte, 0, len(payload)), payload...))
	return channel.Record{Position: pos, Time: time.Unix(0, h.time), Event: e}, err
}

// frame reads and verifies one frame. The payload is good until the next call.
func (p *plan) frame(s *stream, pos channel.Position, units uint32) (frame, []byte, error) {
	off := int64(units) * frameAlign
	// Dense runs are read in large pieces; a few far apart are not.
	last := int64(p.offsets[len(p.offsets)-1]) * frameAlign
	h, payload, err := p.chunk.frame(p.file, p.segment.seed, off, p.limit, last)
	if err == nil && (h.kind != s.kind || h.stream != s.id || h.position != uint64(pos)) {
		err = errors.New("another record stands there")
	}
	if err != nil {
		return h, nil, fmt.Errorf("segment %d at %d: %w", p.segment.number, off, err)
	}
	return h, payload, nil
}

// readError is the medium's refusal to read, which says nothing about what
// stands there.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// chunk is a window of a file.
type chunk struct {
	buf []byte
	off int64 // where buf begins in the file
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// forget makes the chunk ready for another file. One that grew for a large
// event is not kept at that size.
func (c *chunk) forget() {
	c.buf, c.off = c.buf[:0], 0
	if cap(c.buf) > 2*readAhead {
		c.buf = nil
	}
}

// view is n bytes of the file at off, read with what follows up to ahead.
func (c *chunk) view(f File, off int64, n int, limit, ahead int64) ([]byte, error) {
	if off >= c.off && off+int64(n) <= c.off+int64(len(c.buf)) {
		return c.buf[off-c.off:][:n], nil
	}
	if off+int64(n) > limit {
		return nil, fmt.Errorf("%d bytes run past the end at %d", n, limit)
	}
	size := int(min(max(int64(n), min(ahead+4096-off, readAhead)), limit-off))
	if cap(c.buf) < size {
		c.buf = make([]byte, max(size, readAhead))
	}
	c.buf, c.off = c.buf[:size], off
	if got, err := f.ReadAt(c.buf, off); got < n {
		c.buf = c.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, &readError{err}
	} else {
		c.buf = c.buf[:got]
	}
	return c.buf[:n], nil
}

// frame reads the frame at off and verifies both checksums.
func (c *chunk) frame(f File, seed uint32, off, limit, ahead int64) (frame, []byte, error) {
	b, err := c.view(f, off, frameHeader, limit, ahead)
	if err != nil {
		return frame{}, nil, err
	}
	h, ok := parseFrame(b, seed, off)
	if !ok {
		return frame{}, nil, errors.New("frame header has a bad checksum")
	}
	if h.size() > limit-off {
		return h, nil, fmt.Errorf("payload of %d bytes runs past the end", h.length)
	}
	b, err = c.view(f, off, int(h.size()), limit, ahead)
	if err != nil {
		return h, nil, err
	}
	if err := h.check(b[frameHeader:]); err != nil {
		return h, nil, err
	}
	return h, b[frameHeader : frameHeader+int64(h.length)], nil
}
