package disk_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/memfs"
)

const lifeDir = "/data"

// life is a log that goes through a random script, and what it has promised
// on the way. One goroutine plays the script; only the appends of one volley
// are concurrent. It lives inside a synctest bubble.
type life struct {
	t   testing.TB
	rng *rand.Rand
	o   disk.Options // but for FS

	fs      *memfs.FS
	down    bool // there is no log
	left    shot // what the last one has left
	log     *disk.Log
	stop    func() error
	handles map[channel.UID]channel.BrokerLog

	mu     sync.Mutex
	states []*state    // after each change, first before any
	since  []time.Time // when each change was asked for
	sure   int         // changes that are durable by promise
	puts   []*put
	acks   int64
	epoch  uint32 // of the last owner that had room for it, or acknowledged something
	lives  int    // of brokers
	named  int    // events

	stuck  bool        // the last trigger seldom lets go of an event
	large  bool        // few events fill a segment
	watch  atomic.Bool // take a shot before each change of the medium
	shots  []shot
	seeing sync.Mutex // one operation at a time: a reader's may come beside the log's own
	broken error      // the first promise that was broken in play

	fail       func(memfs.Op) error
	failed     bool // an operation has, since the log was opened
	syncFailed bool // a sync or write of a segment has: no more answers
	metaFailed bool // it had when the last change was asked for
	lateAcks   int
	refusals   int
}

// shot is a moment: the file system and what was promised.
type shot struct {
	fs           *memfs.FS
	op           memfs.Op // that comes next
	sure, issued int      // changes
	puts         int
	acks         int64
	epoch        uint32
}

// newLife prepares a life in an empty file system.
func newLife(t testing.TB, rng *rand.Rand, fs memfs.Options) *life {
	h := &life{
		t: t, rng: rng, down: true, fail: fs.Fail, stuck: rng.IntN(2) == 0,
		o:      disk.Options{SegmentSize: disk.MinSegmentSize, TailBytes: 1},
		states: []*state{{brokers: make(map[channel.UID]*brokerState)}},
		since:  []time.Time{{}},
	}
	fs.Fail = h.before
	h.fs = memfs.New(fs)
	return h
}

// before sees each operation of the file layer.
func (h *life) before(op memfs.Op) error {
	h.seeing.Lock()
	defer h.seeing.Unlock()
	if h.watch.Load() && op.Kind.Changes() {
		h.shots = append(h.shots, h.shoot(op))
	}
	if h.fail == nil {
		return nil
	}
	err := h.fail(op)
	if err != nil && !errors.Is(err, memfs.ErrLie) {
		h.mu.Lock()
		h.failed = true
		h.syncFailed = h.syncFailed || strings.HasSuffix(op.Name, ".log") && (op.Kind == memfs.Write || op.Kind.Syncs())
		h.mu.Unlock()
	}
	return err
}

func (h *life) shoot(op memfs.Op) shot {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settle()
	return shot{h.fs.Snapshot(), op, h.sure, len(h.states) - 1, len(h.puts), h.acks, h.epoch}
}

// settle counts what has become durable by the passing of time alone. On a
// medium that has failed that is nothing.
func (h *life) settle() {
	for !h.failed && h.sure+1 < len(h.states) && time.Since(h.since[h.sure+1]) >= 100*time.Millisecond {
		h.sure++
	}
}

func (h *life) now() *state { return h.states[len(h.states)-1] }

// issue notes a change that is being asked for.
func (h *life) issue(change func(*state)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.now().clone()
	change(next)
	h.states = append(h.states, next)
	h.since = append(h.since, time.Now())
	h.metaFailed = h.syncFailed
}

// answered notes what the log said of the last change.
func (h *life) answered(err error, durable bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case refused(err):
		h.refusals++
		h.states[len(h.states)-1] = h.states[len(h.states)-2]
	case err == nil && durable:
		h.sure, h.epoch = len(h.states)-1, h.log.Epoch()
		h.late(h.metaFailed)
	case err != nil:
		h.unknown(err)
	}
}

// unknown takes an answer that is neither yes nor no: it must say so, and the
// log must have stopped. With the lock held.
func (h *life) unknown(err error) {
	h.mu.Unlock() // who asks may make the log look at the medium, which comes by here
	stopped := latched(h.log)
	h.mu.Lock()
	if h.broken == nil && (!errors.Is(err, channel.ErrUnknown) || !stopped) {
		h.broken = fmt.Errorf("stored, refused or latched it is not: %w", err)
	}
}

// late counts an acknowledgement of what was asked for after a sync had
// failed. Of what was under way then, the power cut tells. With the lock held.
func (h *life) late(failed bool) {
	if failed {
		h.lateAcks++
	}
}

func (h *life) breaks(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken = err
	}
}

// refused reports whether nothing was stored. A Broker that could not open is
// refused too where its error says so.
func refused(err error) bool {
	var r *channel.Refused
	return errors.As(err, &r) && !errors.Is(err, channel.ErrUnknown)
}

// begin opens the log and serves it.
func (h *life) begin() error {
	h.mu.Lock()
	h.failed, h.syncFailed = false, false
	h.mu.Unlock()
	o := h.o
	o.FS = h.fs
	l, err := disk.Open(lifeDir, o)
	if err != nil {
		return err
	}
	full := errors.Is(l.Ready(), channel.ErrQuota)
	h.mu.Lock()
	if l.Epoch() <= h.epoch {
		err = fmt.Errorf("owner epoch %d after %d", l.Epoch(), h.epoch)
	}
	if !full {
		h.epoch = l.Epoch()
	}
	h.mu.Unlock()
	if err != nil {
		h.breaks(err)
	}
	h.log, h.stop, h.down = l, running(l), false
	h.handles, err = handlesOf(l)
	return err
}

// running calls Run; the answer ends it, once.
func running(l *disk.Log) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

// step does one thing at random. Of a hundred steps about half append.
func (h *life) step() {
	uid := channel.UID([]string{"a", "b", "c"}[h.rng.IntN(3)])
	b := h.now().brokers[uid]
	if b == nil {
		h.opens(uid)
		return
	}
	shard := channel.ShardID(h.rng.IntN(b.info.Shards))
	trigger := channel.UID(fmt.Sprint("t", h.rng.IntN(3)))
	switch n := h.rng.IntN(100); {
	case n < 45:
		h.volley()
	case n < 60:
		for i := range b.info.Shards {
			h.scans(h.now().brokers[uid], channel.ShardID(i))
		}
	case n < 74:
		for i := range 3 {
			h.changes(h.now().brokers[uid], shard, channel.UID(fmt.Sprint("t", i)))
		}
	case n < 78:
		h.dies(b, shard, trigger)
	case n < 80:
		h.discards(b)
	case n < 84:
		h.routes(b, trigger)
	case n < 88:
		time.Sleep(time.Duration(h.rng.IntN(60)) * time.Millisecond)
	case n < 92:
		time.Sleep(150 * time.Millisecond)
	case n < 95:
		h.tidies()
	case n < 96:
		h.opens(uid)
	case n < 97:
		h.removes(uid)
	default:
		h.restarts(n - 97)
	}
}

// opens makes a broker or changes its settings.
func (h *life) opens(uid channel.UID) {
	info := channel.BrokerInfo{UID: uid, Name: "n/" + string(uid), Shards: 1 + h.rng.IntN(3)}
	if old := h.now().brokers[uid]; old != nil {
		info.Shards = old.info.Shards
	}
	if h.rng.IntN(3) == 0 {
		info.Retention, info.RetentionBytes = time.Minute, 50_000
	}
	if h.rng.IntN(4) == 0 {
		info.MaxBytes = 200_000
	}
	h.opensFor(info)
}

func (h *life) opensFor(info channel.BrokerInfo) {
	uid := info.UID
	old := h.now().brokers[uid]
	h.issue(func(s *state) {
		if s.brokers[uid] == nil {
			h.lives++
		}
		s.open(info, h.lives)
	})
	b, err := h.log.Broker(h.t.Context(), info)
	h.answered(err, old == nil || old.info != info) // where nothing changes nothing is written
	if err == nil {
		h.handles[uid] = b
	}
}

func (h *life) removes(uid channel.UID) {
	h.issue(func(s *state) { delete(s.brokers, uid) })
	h.answered(h.log.Remove(h.t.Context(), uid), true)
}

// volley appends one to three requests at once.
func (h *life) volley() {
	var wg sync.WaitGroup
	for range 1 + h.rng.IntN(3) {
		uids := sortedKeys(h.now().brokers)
		uid := uids[h.rng.IntN(len(uids))]
		p := h.prepare(uid, 1+h.rng.IntN(5))
		wg.Go(func() { h.append(p) })
	}
	wg.Wait()
}

// prepare makes a request that is about to be made.
func (h *life) prepare(uid channel.UID, n int) *put {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &put{number: len(h.puts) + 1, uid: uid, life: h.now().brokers[uid].life, metas: len(h.states) - 1, failed: h.syncFailed}
	for range n {
		h.named++
		size := h.rng.IntN(1 << (4 + h.rng.IntN(8)))
		if h.large || h.rng.IntN(20) == 0 {
			size = h.rng.IntN(20_000)
		}
		p.events = append(p.events, eventOf(h.named, size, h.rng))
	}
	h.puts = append(h.puts, p)
	return p
}

func (h *life) append(p *put) {
	ids, err := h.log.Append(h.t.Context(), p.uid, p.events)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.acks++
		h.epoch = h.log.Epoch()
		p.ids, p.acked = ids, h.acks
		h.sure = max(h.sure, p.metas)
		h.late(p.failed)
	case refused(err):
		p.not = true
		h.refusals++
	default:
		h.unknown(err)
	}
}

// eventOf is an event with data that nothing else has.
func eventOf(n, size int, rng *rand.Rand) event.Event {
	var data []byte
	for len(data) < size {
		data = binary.LittleEndian.AppendUint64(data, rng.Uint64())
	}
	var b event.Builder
	e, err := b.Set("id", fmt.Sprint("e", n)).Set("source", "/life").Set("specversion", "1.0").Set("type", "t").SetData(data[:size]).Build()
	if err != nil {
		panic(err)
	}
	return e
}

// save asks for a change of progress.
func (h *life) save(b *brokerState, c channel.ShardProgress) {
	uid := b.info.UID
	h.issue(func(s *state) { s.brokers[uid].save(c) })
	h.answered(h.handles[uid].SaveProgress(h.t.Context(), []channel.ShardProgress{c}), false)
}

// scans moves a scan forward. Of three triggers the last wants few events.
func (h *life) scans(b *brokerState, shard channel.ShardID) {
	_, next := h.handles[b.info.UID].Range(shard)
	from := max(1, b.scanned[shard])
	if next <= from {
		return
	}
	c := channel.ShardProgress{Shard: shard, Scanned: from + 1 + channel.Position(h.rng.IntN(int(next-from)))}
	for i, share := range []int{2, 3, 12} {
		l := channel.LaneProgress{Trigger: channel.UID(fmt.Sprint("t", i)), Added: roaring64.New()}
		for p := from; p < c.Scanned; p++ {
			if h.rng.IntN(share) == 0 {
				l.Added.Add(uint64(p))
			}
		}
		c.Lanes = append(c.Lanes, l)
	}
	h.save(b, c)
}

// changes settles some of what a lane has pending and tries some again.
func (h *life) changes(b *brokerState, shard channel.ShardID, trigger channel.UID) {
	l := channel.LaneProgress{Trigger: trigger, Settled: roaring64.New()}
	of := 6
	if trigger == "t2" && h.stuck {
		of = 1
	}
	for _, p := range sortedKeys(b.lane(shard, trigger)) {
		switch n := h.rng.IntN(7); {
		case n < of:
			l.Settled.Add(uint64(p))
		case n == 6:
			l.Retries = append(l.Retries, channel.Retry{Position: p, Attempts: 1 + h.rng.IntN(9), NotBefore: time.Now().Add(time.Minute)})
		}
	}
	h.save(b, channel.ShardProgress{Shard: shard, Lanes: []channel.LaneProgress{l}})
}

// tidies settles everything that is not stuck, and lets the log tidy up.
func (h *life) tidies() {
	for _, uid := range sortedKeys(h.now().brokers) {
		for i := range h.now().brokers[uid].info.Shards {
			shard := channel.ShardID(i)
			_, next := h.handles[uid].Range(shard)
			c := channel.ShardProgress{Shard: shard, Scanned: next}
			for key, lane := range h.now().brokers[uid].pending {
				if key.shard != shard || key.trigger == "t2" && h.stuck {
					continue
				}
				l := channel.LaneProgress{Trigger: key.trigger, Settled: roaring64.New()}
				for p := range lane {
					l.Settled.Add(uint64(p))
				}
				c.Lanes = append(c.Lanes, l)
			}
			h.save(h.now().brokers[uid], c)
		}
	}
	time.Sleep(6 * time.Second)
}

func (h *life) dies(b *brokerState, shard channel.ShardID, trigger channel.UID) {
	var letters []channel.DeadLetter
	for _, p := range sortedKeys(b.lane(shard, trigger)) {
		if len(letters) == 3 || h.rng.IntN(4) > 0 {
			continue
		}
		id := channel.ID{Shard: shard, Position: p}
		records, err := h.handles[b.info.UID].Get(h.t.Context(), shard, []channel.Position{p}, nil)
		if err != nil || len(records) != 1 {
			if h.fail == nil {
				h.breaks(fmt.Errorf("get %s: %d records, %w", id, len(records), err))
			}
			return
		}
		letters = append(letters, letterOf(id, trigger, records[0].Event, 1+h.rng.IntN(10)))
	}
	if len(letters) == 0 {
		return
	}
	uid := b.info.UID
	h.issue(func(s *state) { s.brokers[uid].bury(letters) })
	h.answered(h.handles[uid].AppendDead(h.t.Context(), letters), true)
}

// discards lets go of some dead letters: of some that have died just now, or
// of most of those that were moved since.
func (h *life) discards(b *brokerState) {
	share := 1 + h.rng.IntN(3)
	var numbers []uint64
	for _, d := range b.dead {
		if h.rng.IntN(share) == 0 {
			numbers = append(numbers, d.Number)
		}
	}
	if len(numbers) == 0 {
		return
	}
	uid := b.info.UID
	h.issue(func(s *state) { s.brokers[uid].discard(numbers) })
	n, err := h.handles[uid].DiscardDead(h.t.Context(), append([]uint64{1 << 40}, numbers...))
	h.answered(err, true)
	if err == nil && n != len(numbers) {
		h.breaks(fmt.Errorf("%d dead letters were discarded, want %d", n, len(numbers)))
	}
}

func (h *life) routes(b *brokerState, trigger channel.UID) {
	uid, log := b.info.UID, h.handles[b.info.UID]
	change := channel.Routes{
		Whole: h.rng.IntN(4) == 0,
		Set:   []channel.Route{{Trigger: trigger, Name: "n/" + string(trigger), Filter: fmt.Appendf(nil, "%d", h.rng.Int())}},
		Unset: []channel.UID{"t9"},
	}
	want := change
	want.Epoch, want.From = 1, make(map[channel.ShardID]channel.Position)
	if n := len(b.routes); n > 0 {
		want.Epoch = b.routes[n-1].Epoch + 1
	} else {
		want.Whole = true
	}
	for _, shard := range log.Shards() {
		_, want.From[shard] = log.Range(shard)
	}
	h.issue(func(s *state) {
		b := s.brokers[uid]
		b.routes = append(slices.Clip(b.routes), want)
	})
	got, err := log.SetRoutes(h.t.Context(), change)
	h.answered(err, true)
	if err == nil && (got.Epoch != want.Epoch || fmt.Sprint(got.From) != fmt.Sprint(want.From)) {
		h.breaks(fmt.Errorf("routes in epoch %d from %v, want %d from %v", got.Epoch, got.From, want.Epoch, want.From))
	}
}
