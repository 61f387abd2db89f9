package dispatch

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/journal"
)

// scanHere is how many records whoever has stored them offers to the lanes
// itself, which saves a change of goroutine for each: more are the scanner's,
// for the sender of one of them shall not wait for all the others.
const scanHere = 4

// scanner offers the records of one shard to the lanes that want them, in
// order. It is one goroutine's at a time: of its own, or of the one that has
// stored a record and finds nobody at it.
type scanner struct {
	state atomic.Int32
	wake  chan struct{} // gives its own goroutine what somebody else has taken
	buf   []channel.Record
	m     matcher
}

// States of a scanner.
const (
	unscanned int32 = iota // nobody's: all has been offered
	scanning               // somebody's
	again                  // and there is more than that one may have seen
)

// take makes the scanner the caller's, or lets the one whose it is look again.
func (s *scanner) take() bool {
	for {
		switch s.state.Load() {
		case unscanned:
			if s.state.CompareAndSwap(unscanned, scanning) {
				return true
			}
		case scanning:
			if s.state.CompareAndSwap(scanning, again) {
				return false
			}
		default:
			return false
		}
	}
}

// leave gives the scanner up, or tells that it is to look again.
func (s *scanner) leave() bool {
	if s.state.CompareAndSwap(scanning, unscanned) {
		return true
	}
	s.state.Store(scanning)
	return false
}

// start begins to scan; the lanes have their settings.
func (b *broker) start() {
	for i := range b.scanners {
		s := &b.scanners[i]
		s.wake = make(chan struct{}, 1)
		s.buf = make([]channel.Record, 0, readAhead)
		s.take() // what is there already
		s.wake <- struct{}{}
	}
	b.log.Follow(b.follow) // first: what comes from now on must not be overlooked
	for i := range b.scanners {
		b.d.scanners.Go(func() { b.scan(i) })
	}
	b.d.scanners.Go(b.flushLoop)
}

// follow is called by whoever has stored records: a sender, mostly. It must
// not wait, least of all for a change of the trigger set, which waits for the log.
func (b *broker) follow(shard channel.ShardID, n int) {
	i, ok := slices.BinarySearch(b.shards, shard)
	if !ok {
		return
	}
	s := &b.scanners[i]
	if !s.take() {
		return
	}
	if n <= scanHere && b.routing.tryEnter() {
		done := b.ctx.Err() == nil && b.scanRecent(i, s.buf[:0:scanHere])
		b.routing.leave()
		if done && s.leave() {
			return
		}
	}
	s.wake <- struct{}{} // has room: it holds what one has taken, and that was us
}

// scan is the scanner's goroutine. It ends with the broker's context.
func (b *broker) scan(i int) {
	s := &b.scanners[i]
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-s.wake:
		}
		for {
			for !b.scanSome(i, s.buf) {
				if !b.readOn(i, s.buf) {
					return
				}
			}
			if s.leave() {
				break
			}
		}
	}
}

// scanSome is scanRecent for who may wait.
func (b *broker) scanSome(shard int, buf []channel.Record) (all bool) {
	b.routing.enter()
	defer b.routing.leave()
	return b.ctx.Err() == nil && b.scanRecent(shard, buf)
}

// scanRecent offers what memory has, as much as buf takes, and reports whether
// that was all there is. The caller has entered the gate.
func (b *broker) scanRecent(shard int, buf []channel.Record) (all bool) {
	from := channel.Position(b.scanned[shard].Load())
	records, next, all := b.log.Recent(b.shards[shard], from, buf)
	b.match(shard, records)
	clear(records) // let go of the events
	b.passed(shard, from, next)
	return all
}

// readOn goes on where memory has nothing, or not all: it reads from the log,
// or learns why that cannot be. It reports whether to go on.
func (b *broker) readOn(shard int, buf []channel.Record) bool {
	from := channel.Position(b.scanned[shard].Load())
	records, next, err := b.log.Read(b.ctx, b.shards[shard], from, buf)
	b.routing.enter()
	b.match(shard, records)
	clear(records)
	b.passed(shard, from, next)
	b.routing.leave()
	if err == nil {
		return true
	}
	gap, isGap := errors.AsType[*channel.GapError](err)
	switch {
	case isGap:
		b.gap(gap)
	case b.ctx.Err() != nil || errors.Is(err, channel.ErrClosed) || errors.Is(err, channel.ErrNoBroker):
		return false
	default:
		b.d.log.Error("channel cannot be read", "broker", b.name, "shard", b.shards[shard], "err", err)
		return wait(b.ctx, time.Second)
	}
	return true
}

// passed notes how far the shard has been scanned.
func (b *broker) passed(shard int, from, next channel.Position) {
	if next > from {
		b.scanned[shard].Store(uint64(next))
		b.beat()
	}
}

// matcher is what one scanner uses again and again.
type matcher struct {
	scratch filter.Scratch
	wanted  []*journal.Trigger // by, for the journal
}

// match offers records, each by the trigger set of its own time. The caller
// has entered the gate.
func (b *broker) match(shard int, records []channel.Record) {
	m, at := &b.scanners[shard].m, 0
	for i := range records {
		r := &records[i]
		for at+1 < len(b.tables) && b.tables[at+1].from[b.shards[shard]] <= r.Position {
			at++
		}
		if at >= len(b.tables) {
			continue // no trigger was ever routed
		}
		t := b.tables[at]
		wanted := t.index.Match(r.Event, &m.scratch)
		if b.journal != nil {
			m.wanted = m.wanted[:0]
			for _, n := range wanted {
				m.wanted = append(m.wanted, t.lanes[n].journal)
			}
			b.journal.Matched(b.shards[shard], r, m.wanted)
		}
		for _, n := range wanted {
			t.lanes[n].offer(shard, r)
		}
	}
}
