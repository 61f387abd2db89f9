package channeltest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// playModel runs random scripts and compares the log with a model that is too
// simple to be wrong. A seed that fails is a story: it fails again.
func (s *suite) playModel(t *testing.T, durable bool, reopen func(t *testing.T) reopener) {
	seeds := uint64(8)
	if s.realTime {
		seeds = 2
	}
	for seed := range seeds {
		s.play(t, fmt.Sprint("RandomScriptAgreesWithTheModel/Seed", seed), func(t *testing.T) {
			s.history(t, seed, 120, 1, durable, reopen(t))
		})
	}
}

// PlayHistory plays one random script of so many steps, with no subtest: it is
// for tests that play thousands. It compares the log with the model at its end
// and a few times on the way, more seldom than Run and RunDurable do. Where
// durable is true the log is closed or crashes now and then, and reopen is
// what RunDurable asks for; otherwise it is called once.
func PlayHistory(t *testing.T, seed uint64, steps int, durable bool, reopen func(t *testing.T, crash bool) channel.Log, options ...Option) {
	t.Helper()
	s := newSuite(options)
	synctest.Test(t, func(t *testing.T) { s.history(t, seed, steps, 10, durable, reopen) })
}

// history plays a script and compares after every so many steps.
func (s *suite) history(t *testing.T, seed uint64, steps, every int, durable bool, again reopener) {
	m := &model{
		life:    &life{world: s.start(t, again(t, false)), again: again},
		rng:     rand.New(rand.NewPCG(seed, 11)),
		brokers: map[channel.UID]*modelBroker{},
		durable: durable,
	}
	defer func() { m.stop() }()
	for step := 1; step <= steps; step++ {
		does := m.step()
		if step%every == 0 || step == steps {
			m.compare()
		}
		if t.Failed() {
			t.Fatalf("seed %d, step %d: %s", seed, step, does)
		}
	}
}

// model is what the log must hold.
type model struct {
	*life
	rng     *rand.Rand
	brokers map[channel.UID]*modelBroker
	events  int
	durable bool
}

type modelBroker struct {
	log     channel.BrokerLog
	info    channel.BrokerInfo
	records map[channel.ShardID][]channel.Record // in order; the time is as first read
	scanned map[channel.ShardID]channel.Position
	pending map[modelLane]map[channel.Position]channel.Retry
	changes []channel.Routes
	dead    []channel.DeadLetter // with their numbers, once they were listed
}

type modelLane struct {
	shard   channel.ShardID
	trigger channel.UID
}

// step does one thing at random to both and says what.
func (m *model) step() string {
	uid := channel.UID([]string{"a", "b"}[m.rng.IntN(2)])
	b := m.brokers[uid]
	if b == nil {
		info := channel.BrokerInfo{UID: uid, Shards: 1 + m.rng.IntN(4)}
		if m.rng.IntN(4) == 0 {
			info.MaxBytes = 32 << 10
		}
		b = &modelBroker{
			log: m.brokerOf(info), info: info,
			records: map[channel.ShardID][]channel.Record{}, scanned: map[channel.ShardID]channel.Position{},
			pending: map[modelLane]map[channel.Position]channel.Retry{},
		}
		m.brokers[uid] = b
	}
	shard := b.log.Shards()[m.rng.IntN(len(b.log.Shards()))]
	trigger := channel.UID(fmt.Sprint("t", m.rng.IntN(3)))
	switch n := m.rng.IntN(100); {
	case n < 35:
		m.appends(uid, b)
		return "append to " + string(uid)
	case n < 55:
		m.scans(b, shard)
		return fmt.Sprintf("scan shard %d of %s", shard, uid)
	case n < 75:
		m.changes(b, modelLane{shard, trigger})
		return fmt.Sprintf("settle and retry for %s in shard %d of %s", trigger, shard, uid)
	case n < 81:
		m.dies(b, modelLane{shard, trigger})
		return fmt.Sprintf("dead letters of %s in shard %d of %s", trigger, shard, uid)
	case n < 84:
		m.discards(b)
		return "discard dead letters of " + string(uid)
	case n < 90:
		change := channel.Routes{Whole: m.rng.IntN(4) == 0, Set: []channel.Route{route(string(trigger), fmt.Sprint(m.rng.Int()))}, Unset: []channel.UID{"t9"}}
		b.changes = append(b.changes, m.setRoutes(b.log, change))
		return "routes of " + string(uid)
	case n < 92:
		if err := m.log.Remove(m.t.Context(), uid); err != nil {
			m.t.Errorf("remove: %v", err)
		}
		delete(m.brokers, uid)
		return "remove " + string(uid)
	case n < 97:
		return m.reopens()
	default:
		m.pause(time.Duration(m.rng.IntN(1000)) * time.Millisecond)
		return "time goes by"
	}
}

func (m *model) appends(uid channel.UID, b *modelBroker) {
	var batch []event.Event
	for range 1 + m.rng.IntN(6) {
		m.events++
		key := []string{"", "", "k1", "k2", "k3"}[m.rng.IntN(5)]
		batch = append(batch, keyed(fmt.Sprint("model-", m.events), key, m.rng.IntN(1<<m.rng.IntN(15))))
	}
	ids, err := m.Append(m.t.Context(), uid, batch)
	if m.refuses(b, err) {
		return
	}
	for i, id := range ids {
		if all := b.records[id.Shard]; len(all) > 0 && all[len(all)-1].Position >= id.Position {
			m.t.Errorf("after position %d comes %s", all[len(all)-1].Position, id)
		}
		b.records[id.Shard] = append(b.records[id.Shard], channel.Record{Position: id.Position, Event: batch[i]})
	}
}

// refuses reports whether a broker was full. Any other error ends the story.
func (m *model) refuses(b *modelBroker, err error) bool {
	m.t.Helper()
	if err == nil {
		return false
	}
	if b.info.MaxBytes > 0 && errors.Is(err, channel.ErrTooLarge) {
		return true
	}
	if m.wantRefused(err, m.suite.full); b.info.MaxBytes == 0 || m.t.Failed() {
		m.t.Fatalf("broker %s with the bound %d: %v", b.info.UID, b.info.MaxBytes, err)
	}
	return true
}

// scans moves a scan forward and marks some of what it passes.
func (m *model) scans(b *modelBroker, shard channel.ShardID) {
	change := channel.ShardProgress{Shard: shard}
	added := map[channel.UID]*roaring64.Bitmap{"t0": roaring64.New(), "t1": roaring64.New(), "t2": roaring64.New()}
	room := 1 + m.rng.IntN(20)
	for _, r := range b.records[shard] {
		if r.Position < b.scanned[shard] || room == 0 {
			continue
		}
		room--
		change.Scanned = r.Position + 1
		for trigger, positions := range added {
			if m.wants(trigger, r.Event) {
				positions.Add(uint64(r.Position))
			}
		}
	}
	for _, trigger := range slices.Sorted(maps.Keys(added)) {
		change.Lanes = append(change.Lanes, lane(trigger, added[trigger], nil))
		for it := added[trigger].Iterator(); it.HasNext(); {
			p := channel.Position(it.Next())
			if _, dead := b.lane(modelLane{shard, trigger})[p]; !dead {
				b.lane(modelLane{shard, trigger})[p] = channel.Retry{}
			}
		}
	}
	b.scanned[shard] = max(b.scanned[shard], change.Scanned)
	m.save(b.log, change)
}

// wants is each trigger's filter.
func (m *model) wants(trigger channel.UID, e event.Event) bool {
	return (len(e.ID())+e.Size()+int(trigger[1]))%3 == 0
}

func (b *modelBroker) lane(of modelLane) map[channel.Position]channel.Retry {
	if b.pending[of] == nil {
		b.pending[of] = map[channel.Position]channel.Retry{}
	}
	return b.pending[of]
}

// changes settles some pending positions of a lane and retries others.
func (m *model) changes(b *modelBroker, of modelLane) {
	pending := b.lane(of)
	change := channel.LaneProgress{Trigger: of.trigger, Settled: roaring64.New()}
	for _, p := range slices.Sorted(maps.Keys(pending)) {
		switch m.rng.IntN(3) {
		case 0:
			change.Settled.Add(uint64(p))
			delete(pending, p)
		case 1:
			retry := channel.Retry{Position: p, Attempts: 1 + m.rng.IntN(9), NotBefore: whenever(m.rng.IntN(60))}
			change.Retries = append(change.Retries, retry)
			if !pending[p].Dead { // what is dead stays dead until it is settled
				pending[p] = retry
			}
		}
	}
	m.save(b.log, channel.ShardProgress{Shard: of.shard, Lanes: []channel.LaneProgress{change}})
}

func (m *model) dies(b *modelBroker, of modelLane) {
	var letters []channel.DeadLetter
	for _, r := range b.records[of.shard] {
		if _, ok := b.lane(of)[r.Position]; ok && m.rng.IntN(3) == 0 {
			letters = append(letters, deadLetter(channel.ID{Shard: of.shard, Position: r.Position}, of.trigger, r.Event))
		}
	}
	if m.refuses(b, b.log.AppendDead(m.t.Context(), letters)) {
		return
	}
	for _, d := range letters {
		b.lane(of)[d.ID.Position] = channel.Retry{Position: d.ID.Position, Attempts: 11, Dead: true}
	}
	b.dead = append(b.dead, letters...)
}

// discards lets go of some dead letters, and of some that are not there.
func (m *model) discards(b *modelBroker) {
	listed := m.dead(b.log, "", 100)
	if len(listed) != len(b.dead) {
		m.t.Errorf("broker %s has %d dead letters, want %d", b.info.UID, len(listed), len(b.dead))
		return
	}
	numbers, share := []uint64{1 << 40}, 1+m.rng.IntN(4)
	left := b.dead[:0:0]
	for i, d := range listed {
		if m.rng.IntN(share) > 0 {
			left = append(left, b.dead[i])
			continue
		}
		numbers = append(numbers, d.Number)
	}
	m.rng.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
	n, err := b.log.DiscardDead(m.t.Context(), numbers)
	if err != nil || n != len(numbers)-1 {
		m.t.Errorf("discard %d dead letters: %d, error %v", len(numbers)-1, n, err)
	}
	b.dead = left
}

func (m *model) reopens() string {
	if !m.durable {
		return "nothing"
	}
	// Progress may lag; after this it does not, and so the model need not.
	m.pause(200 * time.Millisecond)
	m.crash = m.rng.IntN(2) == 0
	m.restart()
	for _, b := range m.brokers {
		b.log = m.brokerOf(b.info)
	}
	return fmt.Sprintf("reopen, crash %v", m.crash)
}

// compare reads everything the log has and holds it against the model.
func (m *model) compare() {
	if got := len(m.log.Brokers()); got != len(m.brokers) {
		m.t.Errorf("%d brokers, want %d", got, len(m.brokers))
	}
	for uid, b := range m.brokers {
		for _, shard := range b.log.Shards() {
			m.compareShard(uid, b, shard)
		}
		m.wantDead(b.log, "", 7, b.dead)
		m.wantFoundAndGrouped(b.log, b.dead)
		for id, want := range b.routing() {
			m.wantRouting(b.log, id, want)
		}
	}
}

// routing is the trigger set of each unscanned event.
func (b *modelBroker) routing() map[channel.ID]routing {
	sets := map[channel.ID]routing{}
	for shard, records := range b.records {
		for _, r := range records {
			if r.Position < b.scanned[shard] {
				continue
			}
			id := channel.ID{Shard: shard, Position: r.Position}
			sets[id], _ = routesAt(b.changes, id)
		}
	}
	return sets
}

func (m *model) compareShard(uid channel.UID, b *modelBroker, shard channel.ShardID) {
	want := channel.ShardProgress{Shard: shard, Scanned: b.scanned[shard]}
	open := map[channel.Position]bool{}
	for of, pending := range b.pending {
		if of.shard != shard {
			continue
		}
		l := lane(of.trigger, roaring64.New(), nil)
		for p, retry := range pending {
			open[p] = true
			l.Added.Add(uint64(p))
			if retry.Attempts > 0 {
				l.Retries = append(l.Retries, retry)
			}
		}
		want.Lanes = append(want.Lanes, l)
	}
	m.wantProgress(b.log, want)

	got := m.shard(b.log, shard, 0)
	for i := range b.records[shard] {
		r := &b.records[shard][i]
		needed := open[r.Position] || r.Position >= b.scanned[shard]
		for len(got) > 0 && got[0].Position < r.Position {
			m.t.Errorf("broker %s shard %d: position %d was never given", uid, shard, got[0].Position)
			got = got[1:]
		}
		if len(got) == 0 || got[0].Position != r.Position {
			if needed {
				m.t.Errorf("broker %s shard %d: position %d is missing", uid, shard, r.Position)
			}
			continue
		}
		if !bytes.Equal(got[0].Event.Raw(), r.Event.Raw()) {
			m.t.Errorf("broker %s shard %d: position %d holds another event", uid, shard, r.Position)
		}
		if r.Time.IsZero() {
			r.Time = got[0].Time
		}
		if !r.Time.Equal(got[0].Time) {
			m.t.Errorf("broker %s shard %d: position %d was stored at %v and now says %v", uid, shard, r.Position, r.Time, got[0].Time)
		}
		got = got[1:]
	}
	if len(got) > 0 {
		m.t.Errorf("broker %s shard %d: position %d was never given", uid, shard, got[0].Position)
	}
}
