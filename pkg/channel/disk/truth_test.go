package disk_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/event"
)

// state is what a log must hold beside its events. It is too simple to be wrong.
type state struct {
	brokers map[channel.UID]*brokerState
}

type brokerState struct {
	info    channel.BrokerInfo
	life    int // which of the brokers that have had this uid
	scanned map[channel.ShardID]channel.Position
	pending map[laneKey]map[channel.Position]channel.Retry
	routes  []channel.Routes
	dead    []channel.DeadLetter
	last    uint64 // number given to a dead letter
}

type laneKey struct {
	shard   channel.ShardID
	trigger channel.UID
}

func (s *state) clone() *state {
	c := &state{brokers: make(map[channel.UID]*brokerState)}
	for uid, b := range s.brokers {
		n := *b
		n.scanned = maps.Clone(b.scanned)
		n.pending = make(map[laneKey]map[channel.Position]channel.Retry)
		for key, lane := range b.pending {
			n.pending[key] = maps.Clone(lane)
		}
		n.routes, n.dead = slices.Clip(b.routes), slices.Clip(b.dead)
		c.brokers[uid] = &n
	}
	return c
}

func (b *brokerState) lane(shard channel.ShardID, trigger channel.UID) map[channel.Position]channel.Retry {
	key := laneKey{shard, trigger}
	if b.pending[key] == nil {
		b.pending[key] = make(map[channel.Position]channel.Retry)
	}
	return b.pending[key]
}

// open makes a broker or changes its settings.
func (s *state) open(info channel.BrokerInfo, life int) {
	if b := s.brokers[info.UID]; b != nil {
		b.info = info
		return
	}
	s.brokers[info.UID] = &brokerState{
		info: info, life: life,
		scanned: make(map[channel.ShardID]channel.Position),
		pending: make(map[laneKey]map[channel.Position]channel.Retry),
	}
}

// save is SaveProgress.
func (b *brokerState) save(c channel.ShardProgress) {
	b.scanned[c.Shard] = max(b.scanned[c.Shard], c.Scanned)
	for _, l := range c.Lanes {
		lane := b.lane(c.Shard, l.Trigger)
		each(l.Added, func(p channel.Position) {
			if _, ok := lane[p]; !ok {
				lane[p] = channel.Retry{}
			}
		})
		for _, r := range l.Retries {
			if old, ok := lane[r.Position]; ok && (r.Dead || !old.Dead) {
				lane[r.Position] = r
			}
		}
		each(l.Settled, func(p channel.Position) { delete(lane, p) })
	}
}

func (b *brokerState) bury(letters []channel.DeadLetter) {
	b.dead = slices.Clip(b.dead)
	for _, d := range letters {
		b.last++
		d.Number = b.last
		b.dead = append(b.dead, d)
		b.lane(d.ID.Shard, d.Trigger)[d.ID.Position] = channel.Retry{Position: d.ID.Position, Attempts: d.Attempts, Dead: true}
	}
}

// discard is DiscardDead.
func (b *brokerState) discard(numbers []uint64) {
	b.dead = slices.DeleteFunc(slices.Clone(b.dead), func(d channel.DeadLetter) bool { return slices.Contains(numbers, d.Number) })
}

func each(set *roaring64.Bitmap, do func(channel.Position)) {
	if set == nil {
		return
	}
	for it := set.Iterator(); it.HasNext(); {
		do(channel.Position(it.Next()))
	}
}

// needs reports whether an event may not be gone.
func (b *brokerState) needs(id channel.ID) bool {
	if id.Position >= b.scanned[id.Shard] {
		return true
	}
	for key, lane := range b.pending {
		if _, ok := lane[id.Position]; ok && key.shard == id.Shard {
			return true
		}
	}
	return false
}

// routing is the trigger set that decides over an event.
func routing(changes []channel.Routes, id channel.ID) map[channel.UID]string {
	set := make(map[channel.UID]string)
	for _, c := range changes {
		if c.From[id.Shard] > id.Position {
			break
		}
		if c.Whole {
			clear(set)
		}
		for _, r := range c.Set {
			set[r.Trigger] = string(r.Filter)
		}
		for _, uid := range c.Unset {
			delete(set, uid)
		}
	}
	return set
}

// differs says in what a log is not in this state, its events aside.
func (s *state) differs(l channel.Log, handles map[channel.UID]channel.BrokerLog) error {
	if got := l.Brokers(); len(got) != len(s.brokers) {
		return fmt.Errorf("%d brokers, want %d", len(got), len(s.brokers))
	}
	for uid, want := range s.brokers {
		b := handles[uid]
		if b == nil {
			return fmt.Errorf("broker %s is gone", uid)
		}
		if b.Info() != want.info {
			return fmt.Errorf("broker %s has the settings %+v, want %+v", uid, b.Info(), want.info)
		}
		for _, shard := range b.Shards() {
			if err := want.differsIn(b.Progress(shard)); err != nil {
				return fmt.Errorf("broker %s: %w", uid, err)
			}
		}
		if err := want.differsInDead(b); err != nil {
			return fmt.Errorf("broker %s: %w", uid, err)
		}
		if err := want.differsInRoutes(b); err != nil {
			return fmt.Errorf("broker %s: %w", uid, err)
		}
	}
	return nil
}

func (b *brokerState) differsIn(got channel.ShardProgress) error {
	if got.Scanned != b.scanned[got.Shard] {
		return fmt.Errorf("shard %d is scanned up to %d, want %d", got.Shard, got.Scanned, b.scanned[got.Shard])
	}
	lanes := 0
	for _, l := range got.Lanes {
		want := b.pending[laneKey{got.Shard, l.Trigger}]
		if len(want) > 0 {
			lanes++
		}
		if l.Added.GetCardinality() != uint64(len(want)) {
			return fmt.Errorf("shard %d: %s has %d pending, want %d", got.Shard, l.Trigger, l.Added.GetCardinality(), len(want))
		}
		retries := make(map[channel.Position]channel.Retry)
		for _, r := range l.Retries {
			retries[r.Position] = r
		}
		for p, w := range want {
			if !l.Added.Contains(uint64(p)) {
				return fmt.Errorf("shard %d: position %d is not pending for %s", got.Shard, p, l.Trigger)
			}
			g := retries[p]
			if g.Attempts != w.Attempts || g.Dead != w.Dead || !g.NotBefore.Equal(w.NotBefore) {
				return fmt.Errorf("shard %d: position %d of %s has the retry %+v, want %+v", got.Shard, p, l.Trigger, g, w)
			}
		}
	}
	for key, lane := range b.pending {
		if key.shard == got.Shard && len(lane) > 0 {
			lanes--
		}
	}
	if lanes != 0 {
		return fmt.Errorf("shard %d: %d lanes are missing", got.Shard, -lanes)
	}
	return nil
}

func (b *brokerState) differsInDead(l channel.BrokerLog) error {
	var got []channel.DeadLetter
	for cursor := ""; ; {
		page, next, err := l.Dead(context.Background(), "", cursor, 7)
		if err != nil {
			return fmt.Errorf("list dead letters: %w", err)
		}
		if got = append(got, page...); next == "" {
			break
		}
		cursor = next
	}
	if len(got) != len(b.dead) {
		return fmt.Errorf("%d dead letters, want %d", len(got), len(b.dead))
	}
	for i, w := range b.dead {
		if g := got[i]; g.Number != w.Number || g.ID != w.ID || g.Trigger != w.Trigger || g.Attempts != w.Attempts || g.Reason != w.Reason ||
			!bytes.Equal(g.Event.Raw(), w.Event.Raw()) {
			return fmt.Errorf("dead letter %d is number %d of %s for %s, want %d of %s for %s", i, g.Number, g.ID, g.Trigger, w.Number, w.ID, w.Trigger)
		}
	}
	return b.differsInLedger(l)
}

// differsInLedger holds what finds and counts letters against the letters.
func (b *brokerState) differsInLedger(l channel.BrokerLog) error {
	counts := make(map[channel.UID]map[string]uint64)
	for i, w := range b.dead {
		if counts[w.Trigger] == nil {
			counts[w.Trigger] = make(map[string]uint64)
		}
		counts[w.Trigger][w.Reason]++
		if slices.ContainsFunc(b.dead[i+1:], func(o channel.DeadLetter) bool { return o.Trigger == w.Trigger && o.ID == w.ID }) {
			continue // it died again
		}
		if got, found, err := l.FindDead(context.Background(), w.Trigger, w.ID); err != nil || !found || got.Number != w.Number {
			return fmt.Errorf("dead letter of %s for %s: found %v as %d, want %d: %w", w.ID, w.Trigger, found, got.Number, w.Number, err)
		}
	}
	groups, err := l.DeadGroups(context.Background(), "")
	if err != nil {
		return fmt.Errorf("group dead letters: %w", err)
	}
	for _, g := range groups {
		if want := counts[g.Trigger][g.Reason]; g.Count != want {
			return fmt.Errorf("%d dead letters of %s with %q, want %d", g.Count, g.Trigger, g.Reason, want)
		}
		delete(counts[g.Trigger], g.Reason)
	}
	for trigger, left := range counts {
		if len(left) > 0 {
			return fmt.Errorf("dead letters of %s are in no group: %v", trigger, left)
		}
	}
	return nil
}

func (b *brokerState) differsInRoutes(l channel.BrokerLog) error {
	got := l.Routes()
	if len(got) == 0 || len(b.routes) == 0 {
		if len(got) != len(b.routes) {
			return fmt.Errorf("%d changes of routes, want %d", len(got), len(b.routes))
		}
		return nil
	}
	if g, w := got[len(got)-1].Epoch, b.routes[len(b.routes)-1].Epoch; g != w {
		return fmt.Errorf("routes are in epoch %d, want %d", g, w)
	}
	for _, shard := range l.Shards() {
		from := max(1, b.scanned[shard])
		_, next := l.Range(shard)
		positions := []channel.Position{from, next} // and where the set may change
		for _, c := range slices.Concat(got, b.routes) {
			positions = append(positions, c.From[shard]-1, c.From[shard])
		}
		for _, p := range positions {
			id := channel.ID{Shard: shard, Position: p}
			if g, w := routing(got, id), routing(b.routes, id); p >= from && p <= next && !maps.Equal(g, w) {
				return fmt.Errorf("%s is for %v, want %v", id, g, w)
			}
		}
	}
	return nil
}

// put is one request of events.
type put struct {
	number int // from 1, in the order the requests were made
	uid    channel.UID
	life   int // of the broker
	metas  int // changes of state made before it
	events []event.Event
	ids    []channel.Stored // once it is acknowledged
	acked  int64            // when, on the clock of acknowledgements; 0 for never
	not    bool             // it was refused
	failed bool             // a sync had failed before it was made
}

// found is everything that a broker holds, read in order.
type found struct {
	at     map[channel.ID]event.Event
	ids    map[string]channel.ID // by the event's id
	ranges map[channel.ShardID][2]channel.Position
}

// readAll reads a broker from the beginning. A gap is an error.
func readAll(b channel.BrokerLog) (found, error) {
	all := found{make(map[channel.ID]event.Event), make(map[string]channel.ID), make(map[channel.ShardID][2]channel.Position)}
	var errs []error
	buf := make([]channel.Record, 0, 64)
	for _, shard := range b.Shards() {
		from, next := b.Range(shard)
		all.ranges[shard] = [2]channel.Position{from, next}
		var last time.Time
		for from < next {
			// What is settled may go while we read, and a read at the end waits.
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			records, to, err := b.Read(ctx, shard, from, buf[:0])
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			for _, r := range records {
				id := channel.ID{Shard: shard, Position: r.Position}
				if r.Position < from || r.Time.Before(last) {
					return all, fmt.Errorf("%s comes out of order", id)
				}
				if other, twice := all.ids[r.Event.ID()]; twice {
					return all, fmt.Errorf("event %s stands at %s and at %s", r.Event.ID(), other, id)
				}
				all.at[id], all.ids[r.Event.ID()], last = r.Event, id, r.Time
				from = r.Position + 1
			}
			if err != nil {
				errs = append(errs, err)
				var gap *channel.GapError
				if !errors.As(err, &gap) {
					break
				}
			}
			from = to
		}
	}
	return all, errors.Join(errs...)
}

// differsInEvents says what a broker lacks or has too much of the requests
// that were made and answered up to then.
func (b *brokerState) differsInEvents(all found, puts []*put, acks int64) error {
	given := make(map[channel.ID]*put)
	known, silent := 0, 0 // silent are the events that were neither answered nor are there
	last := make(map[channel.ShardID]channel.Position)
	for _, p := range puts {
		if p.uid != b.info.UID || p.life != b.life {
			continue
		}
		acked := p.acked > 0 && p.acked <= acks
		there := 0
		for i, e := range p.events {
			id, ok := all.ids[e.ID()]
			if ok {
				there++
				if !bytes.Equal(all.at[id].Raw(), e.Raw()) {
					return fmt.Errorf("event %s at %s is altered", e.ID(), id)
				}
			}
			if !acked {
				continue
			}
			given[p.ids[i].ID] = p
			last[p.ids[i].Shard] = max(last[p.ids[i].Shard], p.ids[i].Position)
			if !ok && b.needs(p.ids[i].ID) {
				return fmt.Errorf("event %s, acknowledged as %s, is lost", e.ID(), p.ids[i].ID)
			}
			if ok && id != p.ids[i].ID {
				return fmt.Errorf("event %s, acknowledged as %s, stands at %s", e.ID(), p.ids[i].ID, id)
			}
		}
		known += there
		if !acked && there != 0 && there != len(p.events) {
			return fmt.Errorf("of request %d %d of %d events are there", p.number, there, len(p.events))
		}
		if p.not && there > 0 {
			return fmt.Errorf("request %d was refused and is there", p.number)
		}
		if !acked && !p.not && there == 0 {
			silent += len(p.events)
		}
	}
	if known != len(all.at) {
		return fmt.Errorf("%d events are there, and only %d of them were sent", len(all.at), known)
	}
	for shard, r := range all.ranges {
		for pos := r[0]; pos < r[1]; pos++ {
			id := channel.ID{Shard: shard, Position: pos}
			if _, ok := all.at[id]; ok || given[id] != nil {
				continue
			}
			// One that had no answer may have been stored, read, settled and let go.
			if silent--; silent < 0 || b.needs(id) {
				return fmt.Errorf("%s is a hole", id)
			}
		}
		if r[1] <= last[shard] {
			return fmt.Errorf("shard %d goes on at %d, but %d was given", shard, r[1], last[shard])
		}
	}
	return nil
}

// handlesOf opens every broker of a log as it is.
func handlesOf(l *disk.Log) (map[channel.UID]channel.BrokerLog, error) {
	handles := make(map[channel.UID]channel.BrokerLog)
	for _, info := range l.Brokers() {
		b, err := l.Broker(context.Background(), info)
		if err != nil {
			return nil, err
		}
		handles[info.UID] = b
	}
	return handles, nil
}

// letterOf makes a dead letter of an event.
func letterOf(id channel.ID, trigger channel.UID, e event.Event, attempts int) channel.DeadLetter {
	return channel.DeadLetter{
		ID: id, Trigger: trigger, TriggerName: "n/" + string(trigger), Attempts: attempts,
		Reason: fmt.Sprintf("status %d", 500+attempts), Code: 500 + attempts, Event: e,
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
