package disk

import (
	"context"
	"fmt"
	"sort"
	"time"
)

// A disk forgets in silence, and mostly where nobody reads. The scrubber reads
// all that is sealed, slowly, so that damage is met while the events are still
// somewhere else, and not years later.

const (
	defaultScrubRate  = 20 << 20
	defaultScrubEvery = 24 * time.Hour

	// scrubStart is how long after the start the first pass begins, at most: a
	// process that restarts in circles does not read its disk in circles.
	scrubStart = time.Minute
	// scrubStep is how many bytes are read between two rests.
	scrubStep = 1 << 20
)

// ScrubObserver is told what the scrubber does. Its methods are called by one
// goroutine at a time and must not block.
type ScrubObserver interface {
	// Scrubbed counts bytes that were read and verified.
	Scrubbed(bytes int64)
	// Damaged counts a segment that is not as it was written, once for each.
	Damaged()
	// Completed is called when everything that was sealed has been read.
	Completed(at time.Time)
}

type noScrubObserver struct{}

func (noScrubObserver) Scrubbed(int64)      {}
func (noScrubObserver) Damaged()            {}
func (noScrubObserver) Completed(time.Time) {}

// Scrub is what the scrubber has found so far.
type Scrub struct {
	Bytes    int64     // read since the start
	Damaged  []uint64  // segments that were not as they had been written
	Complete time.Time // end of the last whole pass; zero before the first
	Off      bool      // Options.ScrubRate is negative
}

// scrubber reads the sealed segments in circles: a pass begins when the one
// before has ended and Options.ScrubEvery has gone by since that began.
type scrubber struct {
	log  *Log
	pace pacer
	told map[uint64]bool // damaged segments that were logged and counted
}

// scrubbing starts the scrubber; the channel is closed when it has ended,
// which it does with ctx.
func (l *Log) scrubbing(ctx context.Context) <-chan struct{} {
	ended := make(chan struct{})
	if l.o.ScrubRate < 0 {
		close(ended)
		return ended
	}
	sc := &scrubber{log: l, pace: pacer{rate: l.o.ScrubRate}, told: make(map[uint64]bool)}
	go func() {
		defer close(ended)
		sc.run(ctx)
	}()
	return ended
}

func (sc *scrubber) run(ctx context.Context) {
	rest := min(scrubStart, sc.log.o.ScrubEvery)
	for sleep(ctx, rest) {
		began := time.Now()
		if !sc.pass(ctx) {
			return
		}
		rest = max(0, sc.log.o.ScrubEvery-time.Since(began))
		if rest == 0 {
			rest = time.Second // an empty log takes no time to read
		}
	}
}

// pass reads every segment that is sealed, those included that are sealed
// meanwhile. False if ctx has ended.
func (sc *scrubber) pass(ctx context.Context) bool {
	l := sc.log
	for number := uint64(0); ; {
		g, err := l.borrow(number)
		if g == nil {
			break
		}
		number = g.number
		if err == nil {
			err = sc.segment(ctx, g)
			l.release(g)
		}
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			sc.tell(number, err)
		}
	}
	now := l.o.Now()
	l.vitals.mu.Lock()
	l.vitals.scrub.Complete = now
	l.vitals.mu.Unlock()
	l.o.ScrubObserver.Completed(now)
	return ctx.Err() == nil
}

// tell hands a damaged segment to who can move its good events, and says so
// once. Too many open files say nothing about the segment: the next pass
// comes by again.
func (sc *scrubber) tell(number uint64, err error) {
	l := sc.log
	if isExhausted(err) || l.dropped(number) {
		return
	}
	l.suspect(number, err)
	if sc.told[number] {
		return
	}
	sc.told[number] = true
	l.vitals.mu.Lock()
	l.vitals.scrub.Damaged = append(l.vitals.scrub.Damaged, number)
	l.vitals.mu.Unlock()
	l.o.ScrubObserver.Damaged()
	l.log.Error("a stored segment is not as it was written", "dir", l.dir, "segment", number, "error", err)
}

// segment verifies one. What does not verify is read a second time, from the
// medium again, before it counts: a bit may have flipped on the way.
func (sc *scrubber) segment(ctx context.Context, g *segment) error {
	err := sc.read(ctx, g)
	if err != nil && ctx.Err() == nil {
		err = sc.read(ctx, g)
	}
	return err
}

func (sc *scrubber) read(ctx context.Context, g *segment) error {
	l := sc.log
	// What is in memory was read or written by us and proves nothing. Who reads
	// this segment just now reads it from the medium once more.
	if err := g.file.Uncache(); err != nil {
		return fmt.Errorf("read segment %d anew: %w", g.number, err)
	}
	name := segmentName(l.dir, g.number)
	err := walk(g.file, name, g, func(f walked) error {
		if f.damage != nil {
			return f.damage
		}
		l.vitals.mu.Lock()
		l.vitals.scrub.Bytes += f.size
		l.vitals.mu.Unlock()
		l.o.ScrubObserver.Scrubbed(f.size)
		return sc.pace.rest(ctx, f.size)
	})
	if err == nil && l.readOnlyBy(g, 1) {
		_ = g.file.Uncache() // what only the scrubber wanted need not stay in memory
	}
	return err
}

// borrow finds the first sealed segment after a number and holds it open; nil
// if there is none. With an error it is not held.
func (l *Log) borrow(after uint64) (*segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil
	}
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].number > after })
	if i == len(l.segments) {
		return nil, nil
	}
	g := l.segments[i]
	if err := l.acquire(g); err != nil {
		return g, fmt.Errorf("open segment %d: %w", g.number, err)
	}
	return g, nil
}

// dropped reports whether a segment is no longer part of the log.
func (l *Log) dropped(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].number >= number })
	return i == len(l.segments) || l.segments[i].number != number
}

// readOnlyBy reports whether so many hold the segment open and no more.
func (l *Log) readOnlyBy(g *segment, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return g.refs == n
}

// pacer spreads reading over time.
type pacer struct {
	rate int64     // bytes a second
	read int64     // since the last rest
	next time.Time // when what was read so far may have been read
}

// rest waits until so many more bytes are due. What was missed while the
// process stood still is not made up for.
func (p *pacer) rest(ctx context.Context, bytes int64) error {
	if p.read += bytes; p.read < min(scrubStep, p.rate/4) {
		return ctx.Err()
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(p.read) / float64(p.rate) * float64(time.Second)))
	p.read = 0
	if !sleep(ctx, p.next.Sub(now)) {
		return ctx.Err()
	}
	return nil
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
