package disk

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// request is one caller's part of a commit. The caller owns it before it is
// queued and after done has answered, the committer in between.
type request struct {
	kind     kind
	broker   *broker
	events   []event.Event      // kindEvent
	shards   []uint32           // kindEvent: of each event
	payloads [][]byte           // kindDead
	deaths   []death            // kindDead: of each letter
	sums     []uint32           // checksums of the payloads
	numbers  *roaring64.Bitmap  // kindDiscard
	routes   channel.Routes     // kindRoutes
	info     channel.BrokerInfo // kindBroker
	size     int64              // of all its frames
	ids      []channel.Stored   // kindEvent: the answer
	receipts channel.Receipts   // memory for ids
	first    channel.Position   // kindDead: the first letter's position
	gone     int                // kindDiscard: the answer
	off      int64              // of its first frame in the segment
	time     int64              // of the append
	err      error              // the answer
	done     chan struct{}      // holds one token when answered
}

// newRequest takes a request that was used before, with its slices and channel.
func (l *Log) newRequest() *request {
	if r, ok := l.requests.Get().(*request); ok {
		return r
	}
	return &request{done: make(chan struct{}, 1)}
}

func (l *Log) recycle(r *request) {
	*r = request{shards: r.shards[:0], sums: r.sums[:0], done: r.done, receipts: r.receipts}
	l.requests.Put(r)
}

// records is how many positions the request takes.
func (r *request) records() int { return len(r.events) + len(r.payloads) }

// Append implements channel.Appender.
func (l *Log) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if err := l.await(ctx); err != nil {
		return nil, err
	}
	b := l.broker(uid)
	if b == nil {
		return nil, &channel.Refused{Err: fmt.Errorf("%w: %s", channel.ErrNoBroker, uid)}
	}
	for i := range events {
		if events[i].IsZero() {
			return nil, &channel.Refused{Err: fmt.Errorf("event %d of %d is empty", i+1, len(events))}
		}
	}
	r := l.newRequest()
	r.kind, r.broker, r.events = kindEvent, b, events
	turn, keying := b.turn.Add(1), channel.Keying(b.keying.Load())
	for i := range events {
		raw := events[i].Raw()
		r.shards = append(r.shards, uint32(channel.Place(events[i], b.ids, keying, turn)))
		r.sums = append(r.sums, checksum(raw))
		r.size += frameSize(len(raw))
	}
	if err := l.admit(ctx, r); err != nil {
		l.recycle(r)
		return nil, err
	}
	r.ids = r.receipts.Take(len(events))
	if !l.enqueue(r) {
		b.bytes.Add(-r.size)
		err := l.refusedQueue()
		l.recycle(r)
		return nil, err
	}
	l.see(r)
	ids, err := r.ids, r.err
	if err != nil {
		b.bytes.Add(-r.size)
		ids = nil
	}
	l.recycle(r)
	return ids, err
}

// await returns when Run has been called, or says why there is no use in
// handing anything over.
func (l *Log) await(ctx context.Context) error {
	if !l.running.Load() {
		select {
		case <-l.started:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return l.refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, err))
	}
	return l.unavailable()
}

// admit applies the bounds that hold before an append is queued.
func (l *Log) admit(ctx context.Context, r *request) error {
	if r.size+footerSize(len(r.events)+1, len(r.events)) > l.segmentSize-segmentHeader {
		return &channel.Refused{Err: fmt.Errorf("%w: %d bytes in one batch", channel.ErrTooLarge, r.size)}
	}
	if l.full.Load() {
		return l.refused(fmt.Errorf("%w: the volume of %s is full", channel.ErrQuota, l.dir))
	}
	return r.broker.reserve(ctx, r.size, l.deadReserve(r.broker))
}

// refused makes a refusal that is worth another try.
func (l *Log) refused(err error) error {
	return &channel.Refused{Err: err, RetryAfter: l.o.RetryAfter}
}

// unavailable is the refusal of a log that is latched or closed, or nil.
func (l *Log) unavailable() error {
	if err := l.stopped(); err != nil {
		return err
	}
	if l.closing.Load() {
		return l.refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, channel.ErrClosed))
	}
	return nil
}

// stopped is the refusal of a latched log, or nil.
func (l *Log) stopped() error {
	if cause := l.latched.Load(); cause != nil {
		return l.refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, *cause))
	}
	return nil
}

// enqueue hands a request to whoever commits next; false if the queue is full
// or the log has closed, which refusedQueue tells apart.
func (l *Log) enqueue(r *request) bool {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	if l.closing.Load() || (r.kind == kindEvent && l.queued > 0 && l.queued+r.size > l.o.QueueBytes) {
		return false
	}
	l.queue = append(l.queue, r)
	l.queued += r.size
	return true
}

// see waits for the answer to a request that is queued. A caller who is alone
// commits himself, which saves two changes of goroutine; where several come at
// once Run does it for all, for then each commit takes more of them.
func (l *Log) see(r *request) {
	if l.crowd.Load() && l.running.Load() {
		l.kickRun()
		<-r.done
		return
	}
	if !l.running.Load() { // whoever commits now may not see to the rest
		select {
		case l.committing <- struct{}{}:
		case <-r.done:
			return
		}
	} else {
		select {
		case l.committing <- struct{}{}:
		default: // whoever commits now sees to the rest
			<-r.done
			return
		}
	}
	defer mustNotPanic()
	for {
		l.commit(l.take())
		select {
		case <-r.done:
			l.yield()
			return
		default: // others were first in the queue
		}
	}
}

// mustNotPanic ends the process when the committer has panicked. Callers may
// recover, as net/http does for its handlers; the log would then go on with
// half a commit, or hang.
func mustNotPanic() {
	if p := recover(); p != nil {
		stack := debug.Stack()
		go panic(fmt.Sprintf("commit: %v\n%s", p, stack))
		select {}
	}
}

func (l *Log) refusedQueue() error {
	if err := l.unavailable(); err != nil {
		return err
	}
	return l.refused(fmt.Errorf("%w: %d bytes wait to be written", channel.ErrFull, l.o.QueueBytes))
}

// do queues a request and waits for its answer. Records of brokers may be
// written before Run is called.
func (l *Log) do(ctx context.Context, r *request) error {
	if r.kind == kindBroker || r.kind == kindRemoval {
		if err := l.unavailable(); err != nil {
			return err
		}
	} else if err := l.await(ctx); err != nil {
		return err
	}
	r.done = make(chan struct{}, 1)
	if !l.enqueue(r) {
		return l.refusedQueue()
	}
	l.see(r)
	return r.err
}

func (l *Log) waiting() bool {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	return len(l.queue) > 0
}
