package disk

import (
	"context"
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
	// readLeast is the least that a buffer for reading has: events far apart are
	// read one at a time, and need no more.
	readLeast = 16 << 10
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
		if start := max(from, s.earliest()); start >= s.next && s.swallowed(from, s.next) == nil {
			from = start
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

// Recent implements channel.Reader.
func (b *broker) Recent(shard channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, bool) {
	s, err := b.shard(shard)
	if err != nil {
		return buf, from, false
	}
	from = max(from, 1)
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	if b.readable() != nil {
		return buf, from, false
	}
	start := max(from, s.earliest())
	if s.swallowed(from, min(start, s.next)) != nil {
		return buf, from, false
	}
	first := s.next - channel.Position(s.tail.len())
	switch {
	case start >= s.next:
		return buf, from, true
	case start < first:
		return buf, from, false
	}
	i := s.tail.head + int(start-first)
	n := min(cap(buf)-len(buf), len(s.tail.records)-i)
	buf = append(buf, s.tail.records[i:i+n]...)
	next := start + channel.Position(n)
	return buf, next, next >= s.next
}

// Follow implements channel.Reader.
func (b *broker) Follow(f func(channel.ShardID, int)) { b.follower.Store(&f) }

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
		if err != nil {
			return buf, from, err
		}
		if gap := l.swallowed(s, from, p.first); gap != nil {
			p.close()
			return buf, gap.To, gap
		}
		if from = p.first; !more {
			break
		}
		if p.segment == nil { // from memory
			buf = buf[:len(buf)+len(p.records)]
			from = buf[len(buf)-1].Position + 1
			continue
		}
		n := len(buf)
		buf, from, err = p.fill(s, buf, max(1, readBytes-size))
		p.close()
		if err != nil {
			return buf, from, err
		}
		for _, r := range buf[n:] {
			size += r.Event.Size()
		}
	}
	return buf, from, nil
}

// fill appends the plan's records to buf, up to so many bytes, and returns the
// position to go on from.
func (p *plan) fill(s *stream, buf []channel.Record, bytes int) ([]channel.Record, channel.Position, error) {
	var gap *channel.GapError
	next := p.first
	for i := range p.offsets {
		pos := p.position(i)
		if gap != nil && pos != next {
			break // what lies between is not damaged, it is gone
		}
		if lost := p.log.swallowed(s, next, pos); lost != nil {
			if gap != nil {
				break
			}
			return buf, lost.To, lost
		}
		r, err := p.record(s, i)
		if errors.As(err, new(*readError)) {
			return buf, next, fmt.Errorf("read shard %d at %d: %w", s.shard(), pos, err)
		}
		if err != nil {
			if gap == nil {
				gap = &channel.GapError{Shard: s.shard(), From: pos, Cause: err}
			}
			next = pos + 1
			p.log.met(s, pos)
			continue // the gap goes on until a record is good again
		}
		if gap != nil {
			break
		}
		buf = append(buf, r)
		next = pos + 1
		if bytes -= r.Event.Size(); bytes <= 0 || len(buf) == cap(buf) {
			break
		}
	}
	if gap != nil {
		gap.To = next
		return buf, next, gap
	}
	return buf, next, nil
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
// over. What cannot be read becomes a *GapError each; an error of reading says
// nothing about the record and is told as it is.
func (l *Log) fetch(ctx context.Context, s *stream, positions []channel.Position, take func(channel.Position, int64, []byte) error) error {
	l.mu.Lock()
	err := s.broker.readable()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	var errs []error
	gap := func(pos channel.Position, lost bool, cause error) {
		errs = append(errs, &channel.GapError{Shard: s.shard(), From: pos, To: pos + 1, Lost: lost, Cause: cause})
	}
	absent := func(pos channel.Position) {
		if lost := s.lost.Load(); lost != nil && lost.Contains(uint64(pos)) {
			gap(pos, true, errLost)
		}
	}
	for len(positions) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		p, more, err := l.plan(s, positions[0], neighbours(positions), nil)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for ; len(positions) > 0 && (positions[0] < p.first || !more); positions = positions[1:] {
			absent(positions[0])
		}
		for i := 0; i < p.len() && len(positions) > 0; i++ {
			pos := p.position(i)
			for ; len(positions) > 0 && positions[0] < pos; positions = positions[1:] {
				absent(positions[0])
			}
			if len(positions) == 0 || positions[0] != pos {
				continue
			}
			positions = positions[1:]
			if p.segment == nil {
				r := &p.records[i]
				err = take(pos, r.Time.UnixNano(), r.Event.Raw())
			} else {
				var h frame
				var payload []byte
				if h, payload, err = p.frame(s, i); err == nil {
					err = take(pos, h.time, payload)
				}
			}
			if errors.As(err, new(*readError)) {
				errs = append(errs, fmt.Errorf("read shard %d at %d: %w", s.shard(), pos, err))
			} else if err != nil {
				gap(pos, false, err)
			}
		}
		p.close()
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
// that is held open until close. Where there is nothing, first is the position
// to go on from.
type plan struct {
	log     *Log
	segment *segment
	file    File
	limit   int64 // no frame goes beyond it
	first   channel.Position
	at      []channel.Position // of the offsets; nil where they are dense from first
	offsets []uint32
	run     run // that the offsets are of, count from index on; none for what was appended last
	index   int
	count   int
	records []channel.Record
	chunk   *chunk
}

// position is where the i-th record stands.
func (p *plan) position(i int) channel.Position {
	if p.at != nil {
		return p.at[i]
	}
	return p.first + channel.Position(i)
}

func (p *plan) len() int { return len(p.offsets) + len(p.records) }

// plan finds the first records at or after from; false if there are none. It
// is at most n of them, or the next 1024 of a moved run, whose neighbours in the
// file need not be neighbours in the stream. Those that memory has are appended
// to into.
func (l *Log) plan(s *stream, from channel.Position, n int, into []channel.Record) (p plan, more bool, err error) {
	p, more, err = l.planLocked(s, from, n, into)
	if err != nil || !more || p.segment == nil || p.offsets != nil {
		return p, more, err
	}
	// Looked up 4 KiB at a time, so that a million pending events cost no
	// memory, and without the lock, so that a slow disk keeps nobody from
	// appending.
	if p.offsets, err = p.run.lookUp(p.file, p.index, p.count); err != nil {
		l.suspect(p.segment.number, err)
		p.close()
		return plan{log: l, first: p.first}, false, fmt.Errorf("read shard %d at %d: %w", s.shard(), from, err)
	}
	return p, true, nil
}

// planLocked is plan without the offsets that stand in a file.
func (l *Log) planLocked(s *stream, from channel.Position, n int, into []channel.Record) (p plan, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := s.broker.readable(); err != nil {
		return p, false, err
	}
	p = plan{log: l, first: max(from, s.earliest())}
	if p.first >= s.next {
		p.first = max(from, s.next)
		return p, false, nil
	}
	from = p.first
	if first := s.next - channel.Position(s.tail.len()); from >= first {
		i := s.tail.head + int(from-first)
		p.records = append(into, s.tail.records[i:min(i+n, len(s.tail.records))]...)
		return p, true, nil
	}
	if i := s.find(from); i < len(s.runs) {
		err = p.sealed(s, &s.runs[i], from, n)
		return p, err == nil, err
	}
	if len(s.offsets) == 0 {
		p.first = s.next
		return p, false, nil
	}
	p.first = max(from, s.first)
	i := int(p.first - s.first)
	l.active.refs++
	p.segment, p.file, p.limit = l.active, l.active.file, l.tailOff
	p.offsets, p.chunk = s.offsets[i:min(i+n, len(s.offsets))], chunks.Get().(*chunk)
	return p, true, nil
}

// sealed plans for a run, whose offsets mostly stand in its segment's footer.
// Under Log.mu.
func (p *plan) sealed(s *stream, r *run, from channel.Position, n int) error {
	l, g := p.log, r.segment
	if n = min(n, readOffsets); r.at != nil {
		n = readOffsets
	}
	index, first, at, n := r.locate(from, n)
	if n <= 0 {
		return fmt.Errorf("read shard %d at %d: run of segment %d ends before", s.shard(), from, g.number)
	}
	if err := l.acquire(g); err != nil {
		if !isExhausted(err) {
			l.doubt(g, err)
		}
		return fmt.Errorf("open segment %d: %w", g.number, err)
	}
	p.segment, p.file, p.limit = g, g.file, g.size
	if g == l.active {
		p.limit = l.tailOff
	}
	p.first, p.at, p.chunk = first, at, chunks.Get().(*chunk)
	p.run, p.index, p.count = *r, index, n
	return nil
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
func (p *plan) record(s *stream, i int) (channel.Record, error) {
	h, payload, err := p.frame(s, i)
	if err != nil {
		return channel.Record{}, err
	}
	// A copy of its own: a view would keep the whole chunk alive as long as
	// a lane holds the event.
	e, err := event.Parse(append(make([]byte, 0, len(payload)), payload...))
	return channel.Record{Position: p.position(i), Time: time.Unix(0, h.time), Event: e}, err
}

// frame reads and verifies one frame. The payload is good until the next call.
// What does not verify is read again, from the medium, and where it stands is
// looked up again: memory may lie too.
func (p *plan) frame(s *stream, i int) (frame, []byte, error) {
	pos, off := p.position(i), int64(p.offsets[i])*frameAlign
	// Dense runs are read in large pieces; a few far apart are not.
	last := int64(p.offsets[len(p.offsets)-1]) * frameAlign
	h, payload, err := p.verified(s, pos, off, last)
	if err != nil {
		p.chunk.forget()
		if uncached := p.file.Uncache(); uncached != nil {
			err = &readError{errors.Join(err, uncached)}
		} else {
			if p.run.segment != nil {
				if again, err := p.run.lookUp(p.file, p.index+i, 1); err == nil {
					off = int64(again[0]) * frameAlign
				}
			}
			h, payload, err = p.verified(s, pos, off, off)
		}
	}
	if err != nil {
		p.log.mu.Lock()
		p.log.doubt(p.segment, err)
		p.log.mu.Unlock()
		return h, nil, fmt.Errorf("segment %d at %d: %w", p.segment.number, off, err)
	}
	return h, payload, nil
}

func (p *plan) verified(s *stream, pos channel.Position, off, last int64) (frame, []byte, error) {
	if off < segmentHeader {
		return frame{}, nil, errors.New("there is no such record any more")
	}
	h, payload, err := p.chunk.frame(p.file, p.segment.seed, off, p.limit, last)
	if err == nil && (h.kind != s.kind && h.kind != kindMoved || h.stream != s.id || h.position != uint64(pos)) {
		err = errors.New("another record stands there")
	}
	return h, payload, err
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
		c.buf = make([]byte, max(size, readLeast))
	}
	c.buf, c.off = c.buf[:size], off
	got, err := f.ReadAt(c.buf, off)
	if got < n && n < size { // what lies ahead may be what cannot be read
		got, err = f.ReadAt(c.buf[:n], off)
	}
	if got < n {
		c.buf = c.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, &readError{err}
	}
	c.buf = c.buf[:got]
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
