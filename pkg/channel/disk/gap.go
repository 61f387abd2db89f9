package disk

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// errLost is why an event that was declared lost is not given.
var errLost = errors.New("declared lost: its bytes were damaged")

// declaration says that records of a stream are damaged for good. It is a
// frame of its own, durable before anything is let go on account of it.
//
// A lost event that is pending stays so until its lane has been told by Get,
// and settles it where people see it, with broker, trigger and id; an unscanned
// one is reported by Read until progress has passed it. Neither keeps a segment.
// A lost dead letter is gone from the list of the live ones.
type declaration struct {
	stream *stream
	lost   *roaring64.Bitmap
	found  time.Time
	cause  string
}

// String is the declaration in plain words.
func (d *declaration) String() string {
	what := fmt.Sprintf("events of shard %d", d.stream.shard())
	if d.stream.kind == kindDead {
		what = "dead letters"
	}
	return fmt.Sprintf("broker %s: %d %s are declared lost, from %d to %d",
		d.stream.broker.info.Name, d.lost.GetCardinality(), what, d.lost.Minimum(), d.lost.Maximum())
}

// Gaps implements channel.BrokerLog.
func (b *broker) Gaps() []channel.Gap {
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	return slices.Clone(b.gaps)
}

// declare makes declarations durable and puts them in force. Committer only,
// with nothing in the buffer.
func (l *Log) declare(all []declaration) error {
	for _, d := range all {
		payload, err := d.encode()
		if err != nil {
			return fmt.Errorf("declare events lost: %w", err)
		}
		size := frameSize(len(payload))
		for !l.fits(size, 0) {
			if size+footerSize(1, 0) > l.segmentSize-segmentHeader {
				return fmt.Errorf("declare events lost: %w: %d bytes", channel.ErrTooLarge, size)
			}
			l.flush()
			if err := l.roll(); err != nil {
				return fmt.Errorf("declare events lost: %w", err)
			}
		}
		b := d.stream.broker
		l.frame(frame{kind: kindGap, stream: b.home(), sum: checksum(payload), time: l.clock()}, payload)
		l.touchOther(b)
		l.flush()
		if err := l.stopped(); err != nil {
			return fmt.Errorf("declare events lost: %w", err)
		}
		l.mu.Lock()
		b.noteOther(size, l.lastTime)
		b.bytes.Add(size)
		d.apply()
		d.stream.signal()
		name := b.info.Name
		l.mu.Unlock()
		what := "events are lost: their bytes are damaged"
		if d.stream.kind == kindDead {
			what = "dead letters are lost: their bytes are damaged"
		}
		l.log.Error(what, "broker", name, "shard", d.stream.shard(), "from", d.lost.Minimum(),
			"to", d.lost.Maximum(), "records", d.lost.GetCardinality(), "error", d.cause)
	}
	return nil
}

// apply puts a declaration in force. Under Log.mu.
func (d *declaration) apply() {
	s, b := d.stream, d.stream.broker
	if s.kind == kindDead {
		b.discard(d.lost)
	} else {
		lost := roaring64.New()
		if before := s.lost.Load(); before != nil {
			lost.Or(before)
		}
		lost.Or(d.lost)
		lost.RunOptimize()
		s.lost.Store(lost)
	}
	g := channel.Gap{Found: d.found, Dead: s.kind == kindDead, Cause: d.cause}
	if !g.Dead {
		g.Shard = s.shard()
	}
	for it := d.lost.Iterator(); it.HasNext(); {
		g.From = channel.Position(it.Next())
		for g.To = g.From + 1; it.HasNext() && it.PeekNext() == uint64(g.To); g.To++ {
			it.Next()
		}
		g.Lost = uint64(g.To - g.From)
		if b.gaps = addGap(b.gaps, g); len(b.gaps) > 2*channel.MaxGaps {
			b.gaps = foldGaps(b.gaps) // each one added is held against all
		}
	}
	b.gaps = foldGaps(b.gaps)
}

// addGap adds a gap to the list: to one that it touches, or at the end.
func addGap(gaps []channel.Gap, g channel.Gap) []channel.Gap {
	for i := range gaps {
		o := &gaps[i]
		if o.Shard == g.Shard && o.Dead == g.Dead && g.From <= o.To && o.From <= g.To {
			o.From, o.To = min(o.From, g.From), max(o.To, g.To)
			o.Lost = min(o.Lost+g.Lost, uint64(o.To-o.From))
			return gaps
		}
	}
	return append(gaps, g)
}

// foldGaps brings the list down to its bound: those of one shard that lie
// closest become one. What shares no shard stays, however many there are.
func foldGaps(gaps []channel.Gap) []channel.Gap {
	if len(gaps) <= channel.MaxGaps {
		return gaps
	}
	order := make([]int, len(gaps))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := &gaps[i], &gaps[j]
		if a.Dead != b.Dead {
			if b.Dead {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.From, b.From))
	})
	var holes []int // places in order whose gap may join the one before
	for k := 1; k < len(order); k++ {
		a, b := &gaps[order[k-1]], &gaps[order[k]]
		if a.Shard == b.Shard && a.Dead == b.Dead {
			holes = append(holes, k)
		}
	}
	slices.SortFunc(holes, func(i, j int) int {
		return cmp.Compare(gaps[order[i]].From-gaps[order[i-1]].To, gaps[order[j]].From-gaps[order[j-1]].To)
	})
	joins := make([]bool, len(order))
	for _, k := range holes[:min(len(holes), len(gaps)-channel.MaxGaps)] {
		joins[k] = true
	}
	gone := make([]bool, len(gaps))
	for k := 1; k < len(order); k++ {
		if joins[k] {
			a, b := &gaps[order[k-1]], &gaps[order[k]]
			b.From, b.Lost = a.From, b.Lost+a.Lost
			gone[order[k-1]] = true
		}
	}
	left := gaps[:0]
	for i, g := range gaps {
		if !gone[i] {
			left = append(left, g)
		}
	}
	return left
}

func (d *declaration) encode() ([]byte, error) {
	var e encoder
	e.bool(d.stream.kind == kindDead)
	if d.stream.kind == kindDead {
		e.uint(0)
	} else {
		e.uint(uint64(d.stream.shard()))
	}
	e.time(d.found)
	e.string(d.cause)
	return e, e.bitmap(d.lost)
}

// decodeDeclaration reads what encode wrote.
func decodeDeclaration(b *broker, payload []byte) (declaration, error) {
	d := decoder{rest: payload}
	dead, shard := d.bool(), d.uint()
	decl := declaration{found: d.time(), cause: d.string(), lost: d.bitmap()}
	switch {
	case d.err != nil:
	case dead:
		decl.stream = b.dead
	case shard < uint64(len(b.shards)):
		decl.stream = b.shards[shard]
	default:
		d.fail()
	}
	return decl, d.err
}

// encodeGaps is what a checkpoint keeps: the list, and the lost positions
// that somebody may still ask for. Under Log.mu.
func (b *broker) encodeGaps(e *picture) {
	e.uint(uint64(len(b.gaps)))
	for _, g := range b.gaps {
		e.uint(uint64(g.Shard))
		e.uint(uint64(g.From))
		e.uint(uint64(g.To))
		e.uint(g.Lost)
		e.time(g.Found)
		e.bool(g.Dead)
		e.string(g.Cause)
	}
	for _, s := range b.shards {
		e.set(s.awaited())
	}
}

func (b *broker) decodeGaps(d *decoder) {
	for range d.count() {
		b.gaps = append(b.gaps, channel.Gap{
			Shard: channel.ShardID(d.uint()), From: channel.Position(d.uint()), To: channel.Position(d.uint()),
			Lost: d.uint(), Found: d.time(), Dead: d.bool(), Cause: d.string(),
		})
	}
	for _, s := range b.shards {
		if lost := d.bitmap(); !lost.IsEmpty() {
			s.lost.Store(lost)
		}
	}
}

// awaited are the lost positions that are pending or not scanned; nil for none.
func (s *stream) awaited() *roaring64.Bitmap {
	lost := s.lost.Load()
	if lost == nil {
		return nil
	}
	p := &s.broker.progress[s.shard()]
	awaited := lost.Clone()
	awaited.RemoveRange(0, uint64(p.scanned))
	for _, lane := range p.lanes {
		awaited.Or(lane.Positions.Among(lost))
	}
	return awaited
}

// swallowed is the first declared gap in [from, to) that nobody has scanned.
func (l *Log) swallowed(s *stream, from, to channel.Position) *channel.GapError {
	if s.lost.Load() == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.swallowed(from, to)
}

// swallowed is Log.swallowed under Log.mu.
func (s *stream) swallowed(from, to channel.Position) *channel.GapError {
	lost := s.lost.Load()
	if lost == nil || s.kind != kindEvent {
		return nil
	}
	it := lost.Iterator()
	it.AdvanceIfNeeded(uint64(max(from, s.broker.progress[s.shard()].scanned)))
	if !it.HasNext() || it.PeekNext() >= uint64(to) {
		return nil
	}
	gap := &channel.GapError{Shard: s.shard(), From: channel.Position(it.Next()), Lost: true, Cause: errLost}
	for gap.To = gap.From + 1; gap.To < to && it.HasNext() && it.PeekNext() == uint64(gap.To); gap.To++ {
		it.Next()
	}
	return gap
}
