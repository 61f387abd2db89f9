package channel

import (
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// ShardProgress is how far the delivery of one shard has come, or a change of it.
//
// A change that moves Scanned names, in the same ShardProgress, everything
// below it that became pending: what lies below Scanned and is pending on no
// lane is settled, and may be gone the next moment. Scanned never goes back; a
// change with a lower one, such as 0, leaves it where it is.
type ShardProgress struct {
	Shard   ShardID
	Scanned Position // every record below it has been matched against its routes
	Lanes   []LaneProgress
}

// LaneProgress is one trigger's part of a ShardProgress.
//
// As a change: Added are positions that became pending, Settled those that
// reached a final state, Retries the newest state of retries under way; a
// position that is both added and settled is settled. As a whole: Added is the
// pending set, Settled is nil, Retries are in no order, and a trigger that has
// nothing pending may be left out. A nil bitmap is empty.
type LaneProgress struct {
	Trigger UID
	Added   *roaring64.Bitmap
	Settled *roaring64.Bitmap
	Retries []Retry
}

// Retry is a pending position that has been tried. It ends when its position
// is settled. One for a position that is not pending is ignored.
type Retry struct {
	Position  Position
	Attempts  int       // made so far
	NotBefore time.Time // wall clock; when the next may start
	Dead      bool      // its dead letter is stored: what is tried is the dead letter sink
}

// Pending is the state that changes add up to: what one trigger has pending
// in one shard. Implementations keep one per trigger and shard. It is not
// safe for concurrent use.
type Pending struct {
	Positions Positions
	Retries   map[Position]Retry
}

// Apply adds a change.
func (p *Pending) Apply(change LaneProgress) {
	p.Positions.AddAll(change.Added)
	p.retry(change.Retries)
	if change.Settled != nil {
		p.Positions.RemoveAll(change.Settled)
		for it := change.Settled.Iterator(); it.HasNext() && len(p.Retries) > 0; {
			delete(p.Retries, Position(it.Next()))
		}
	}
}

// ApplyEach is Apply for who wants to know what becomes of it: added is called
// for each position that was not pending, settled for each that no longer is.
func (p *Pending) ApplyEach(change LaneProgress, added, settled func(Position)) {
	if change.Added != nil {
		for it := change.Added.Iterator(); it.HasNext(); {
			if pos := Position(it.Next()); p.Positions.Add(pos) {
				added(pos)
			}
		}
	}
	p.retry(change.Retries)
	if change.Settled != nil {
		for it := change.Settled.Iterator(); it.HasNext(); {
			pos := Position(it.Next())
			delete(p.Retries, pos)
			if p.Positions.Remove(pos) {
				settled(pos)
			}
		}
	}
}

func (p *Pending) retry(all []Retry) {
	for _, r := range all {
		if !p.Positions.Contains(r.Position) {
			continue // it would never be settled, and so never go
		}
		if p.Retries == nil {
			p.Retries = make(map[Position]Retry)
		}
		if !r.Dead && p.Retries[r.Position].Dead {
			continue // saved late: what is dead stays dead until it is settled
		}
		p.Retries[r.Position] = r
	}
}

// MarkDead notes that a dead letter is stored for a position. It stays
// pending, for its dead letter sink may not have it yet, until a change
// settles it; a log calls this for each dead letter it stores or recovers, so
// that after a crash nobody delivers what is already dead.
func (p *Pending) MarkDead(position Position, attempts int) {
	if p.Retries == nil {
		p.Retries = make(map[Position]Retry)
	}
	p.Positions.Add(position)
	p.Retries[position] = Retry{Position: position, Attempts: attempts, Dead: true}
}

// Whole returns the state as a LaneProgress that shares nothing with it.
func (p *Pending) Whole(trigger UID) LaneProgress {
	return LaneProgress{Trigger: trigger, Added: p.Positions.Bitmap(), Retries: p.retries()}
}

// Resumed is one trigger's part of what a Keeper's Resume returns.
type Resumed struct {
	Trigger   UID
	Positions Positions
	Retries   []Retry // in no order
}

// Resume returns the state in little more memory than it has.
func (p *Pending) Resume(trigger UID) Resumed {
	return Resumed{Trigger: trigger, Positions: p.Positions.Clone(), Retries: p.retries()}
}

func (p *Pending) retries() []Retry {
	var all []Retry
	for _, r := range p.Retries {
		all = append(all, r)
	}
	return all
}

// RouteTable adds up Routes: it is the trigger set as a log must remember it.
// It is not safe for concurrent use.
type RouteTable struct {
	changes []Routes // first whole, then each change still needed
}

// Add appends a change that came from SetRoutes.
func (t *RouteTable) Add(change Routes) {
	if len(t.changes) == 0 {
		change.Whole = true
	}
	t.changes = append(t.changes, change)
}

// Epoch is the last change's number, 0 for none.
func (t *RouteTable) Epoch() uint64 {
	if len(t.changes) == 0 {
		return 0
	}
	return t.changes[len(t.changes)-1].Epoch
}

// Changes lists what Router.Routes promises.
func (t *RouteTable) Changes() []Routes { return append([]Routes(nil), t.changes...) }

// Forget folds changes that no unscanned record needs any more into the
// first: scanned tells each shard's lowest unscanned record, or the next
// position where there is none.
func (t *RouteTable) Forget(scanned func(ShardID) Position) {
	for len(t.changes) > 1 && t.changes[1].decidesAllFrom(scanned) {
		t.changes[1] = fold(t.changes[0], t.changes[1])
		t.changes = t.changes[1:]
	}
}

// decidesAllFrom reports whether no unscanned record lies before the change.
func (r Routes) decidesAllFrom(scanned func(ShardID) Position) bool {
	for shard, from := range r.From {
		if scanned(shard) < from {
			return false
		}
	}
	return true
}

// fold is the whole set after change, given the whole set before it.
func fold(whole, change Routes) Routes {
	if change.Whole {
		return change
	}
	gone := make(map[UID]bool, len(change.Set)+len(change.Unset))
	for _, r := range change.Set {
		gone[r.Trigger] = true
	}
	for _, uid := range change.Unset {
		gone[uid] = true
	}
	set := make([]Route, 0, len(whole.Set)+len(change.Set))
	for _, r := range whole.Set {
		if !gone[r.Trigger] {
			set = append(set, r)
		}
	}
	change.Set, change.Unset, change.Whole = append(set, change.Set...), nil, true
	return change
}
