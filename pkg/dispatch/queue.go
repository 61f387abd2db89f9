package dispatch

import (
	"container/heap"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
)

// ring is a first-in first-out queue of items that reuses its memory.
type ring struct {
	items       []item // as many as a power of 2
	first, size int
	bytes       int
}

func (r *ring) len() int { return r.size }

// head is the item that pop takes; there must be one.
func (r *ring) head() *item { return &r.items[r.first] }

func (r *ring) push(it item) {
	if r.size == len(r.items) {
		grown := make([]item, max(8, 2*len(r.items)))
		n := copy(grown, r.items[r.first:])
		copy(grown[n:], r.items[:r.first])
		r.items, r.first = grown, 0
	}
	r.items[(r.first+r.size)&(len(r.items)-1)] = it
	r.size++
	r.bytes += it.event.Size()
}

func (r *ring) pop(it *item) {
	*it = r.items[r.first]
	r.items[r.first] = item{} // let go of the event
	r.first = (r.first + 1) & (len(r.items) - 1)
	r.size--
	r.bytes -= it.event.Size()
}

// waiting is an event between two attempts.
type waiting struct {
	shard    int
	pos      channel.Position
	attempts int
	dead     bool
	failure  *deliver.Failure // see item
	spared   time.Time        // see item
	due      time.Time

	// natural is when the event would be due if no open circuit held it; zero for
	// one that is not held.
	natural time.Time
}

// item is the event as it is read again.
func (w *waiting) item() item {
	return item{shard: w.shard, pos: w.pos, attempts: w.attempts, dead: w.dead, failure: w.failure, spared: w.spared}
}

// retryHeap orders waiting events by when they are due; those that a circuit
// holds for equally long by when they would have been.
type retryHeap []waiting

func (h *retryHeap) push(w waiting) { heap.Push(h, w) }

// popDue takes out the events of one shard that are due, at most limit, and
// stops at the first that belongs to another shard: one read of the log
// serves one shard.
func (h *retryHeap) popDue(now time.Time, limit int) []waiting {
	var due []waiting
	for len(*h) > 0 && len(due) < limit && !(*h)[0].due.After(now) {
		if len(due) > 0 && (*h)[0].shard != due[0].shard {
			break
		}
		due = append(due, heap.Pop(h).(waiting))
	}
	return due
}

func (h retryHeap) Len() int { return len(h) }
func (h retryHeap) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].natural.Before(h[j].natural)
	}
	return h[i].due.Before(h[j].due)
}
func (h retryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *retryHeap) Push(x any)   { *h = append(*h, x.(waiting)) }
func (h *retryHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	return w
}
