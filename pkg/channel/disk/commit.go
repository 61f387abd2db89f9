package disk

import (
	"errors"
	"fmt"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// A commit takes at most so much at once: enough to make the sync cheap,
// little enough that nobody waits long for others' bytes.
const (
	commitEvents = 256
	commitBytes  = 1 << 20
)

// take is the next commit's requests, in the order they came.
func (l *Log) take() []*request {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	n, events, bytes := 0, 0, int64(0)
	for n < len(l.queue) && (n == 0 || events+len(l.queue[n].events) <= commitEvents && bytes+l.queue[n].size <= commitBytes) {
		events += len(l.queue[n].events)
		bytes += l.queue[n].size
		n++
	}
	l.taken = append(l.taken[:0], l.queue[:n]...)
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	l.queued -= bytes
	return l.taken
}

// commitQueued commits until nobody waits.
func (l *Log) commitQueued() {
	for {
		taken := l.take()
		if len(taken) == 0 {
			return
		}
		l.commit(taken)
	}
}

// commit makes requests durable, with all progress that waits, and answers
// them. Committer only: the holder of Log.committing.
func (l *Log) commit(taken []*request) {
	l.crowd.Store(len(taken) > 1)
	l.writeLazies()
	for _, r := range taken {
		if err := l.room(r); err != nil {
			r.answer(err)
			continue
		}
		if l.encode(r); r.kind == kindRemoval {
			l.flush() // what follows for this broker must find it gone
		}
	}
	l.flush()
	if l.spare == nil && !l.full.Load() && l.tailOff > l.segmentSize/2 {
		l.provide()
	}
	if l.unwitnessed {
		l.watermark.Reset(watermarkAfter)
	}
}

func (r *request) answer(err error) {
	r.err = err
	r.done <- struct{}{}
}

// room sees to it that the request fits the active segment, or says why it
// is refused: nothing of it has been written then.
func (l *Log) room(r *request) error {
	if err := l.stopped(); err != nil {
		return err
	}
	if r.broker != nil && r.broker.gone.Load() {
		return &channel.Refused{Err: fmt.Errorf("%w: %s", channel.ErrNoBroker, r.broker.uid)}
	}
	switch r.kind {
	case kindFree:
		l.flush()
		l.freeFor(r.broker)
		return errFreed
	case kindBroker:
		l.flush() // a broker of the same uid may be in this very commit
		if b := l.broker(r.info.UID); b != nil {
			r.broker = b
			r.info.Shards = len(b.shards)
		} else {
			r.broker = newBroker(l, r.info, l.nextStream)
		}
		r.payloads = [][]byte{encodeInfo(r.info, r.broker.base)}
		r.sums = []uint32{checksum(r.payloads[0])}
		r.size = frameSize(len(r.payloads[0]))
	case kindRoutes:
		l.flush() // its epoch follows the last durable one
		l.mu.Lock()
		epoch := r.broker.routes.Epoch() + 1
		l.mu.Unlock()
		r.routes = r.broker.date(r.routes, epoch)
		var e encoder
		putRoutes(&e, &r.routes)
		r.payloads = [][]byte{e}
		r.sums = []uint32{checksum(e)}
		r.size = frameSize(len(e))
	case kindRemoval:
		r.payloads, r.sums, r.size = [][]byte{nil}, []uint32{0}, frameSize(0)
	}
	if r.size+footerSize(r.records()+1, r.records()) > l.segmentSize-segmentHeader {
		return &channel.Refused{Err: fmt.Errorf("%w: %d bytes in one batch", channel.ErrTooLarge, r.size)}
	}
	for !l.fits(r.size, r.records()) { // progress saved meanwhile goes into a new segment first
		l.flush()
		if err := l.roll(); err != nil {
			return err
		}
	}
	return l.stopped()
}

// fits reports whether frames of so many bytes and records still leave room
// for the footer. Each record may be the first of its stream.
func (l *Log) fits(size int64, records int) bool {
	return !l.active.footed && l.end()+size+footerSize(l.entries+records+1, l.records+records) <= l.segmentSize
}

// encode appends the request's frames to the commit.
func (l *Log) encode(r *request) {
	r.off, r.time = l.end(), l.clock()
	switch r.kind {
	case kindEvent:
		for i := range r.events {
			s := r.broker.shards[r.shards[i]]
			r.ids[i].ID = channel.ID{Shard: channel.ShardID(r.shards[i]), Position: s.assign}
			l.put(s, r, r.events[i].Raw(), i, len(r.events))
		}
	case kindDead:
		r.first = r.broker.dead.assign
		for i := range r.payloads {
			l.put(r.broker.dead, r, r.payloads[i], i, len(r.payloads))
		}
	default:
		f := frame{kind: r.kind, stream: r.broker.home(), position: r.routes.Epoch, sum: r.sums[0], time: r.time}
		l.frame(f, r.payloads[0])
		l.touchOther(r.broker)
	}
	l.batch = append(l.batch, r)
}

// put adds one record of a stream, the i-th of n in its batch.
func (l *Log) put(s *stream, r *request, payload []byte, i, n int) {
	f := frame{kind: s.kind, stream: s.id, position: uint64(s.assign), sum: r.sums[i], time: r.time}
	if i < n-1 {
		f.flags = flagMore
	}
	l.frame(f, payload)
	s.assign++
	l.touch(s)
}

// touch counts a record of the active segment, and its stream's entry.
// Committer only.
func (l *Log) touch(s *stream) {
	l.records++
	if s.touch != l.active.number {
		s.touch = l.active.number
		l.entries++
	}
}

// frame adds a frame. Payloads are copied into one buffer, for a copy of 1 KiB
// costs less than a vector element for the kernel to look up, and the buffer is
// written when it is full: one that stays in the processor's cache is copied
// twice as fast.
func (l *Log) frame(f frame, payload []byte) {
	f.length, f.epoch, f.witness = uint32(len(payload)), l.epoch, l.durable()
	l.buf = f.append(l.buf, l.active.seed, l.end())
	l.buf = pad(append(l.buf, payload...))
	if len(l.buf) >= spillBytes {
		if err := l.spill(); err != nil {
			l.latch(err)
		}
	}
}

// spillBytes is how much of a commit gathers before it is written.
const spillBytes = 128 << 10

// end is where the commit's next frame will stand in the active segment.
func (l *Log) end() int64 { return l.tailOff + l.spilt + int64(len(l.buf)) }

// spill writes what has gathered, which a sync is still to make durable.
func (l *Log) spill() error {
	if cause := l.latched.Load(); cause != nil {
		return *cause
	}
	if len(l.buf) == 0 {
		return nil
	}
	if _, err := l.active.file.WriteAt(l.buf, l.tailOff+l.spilt); err != nil {
		return fmt.Errorf("write segment %d at %d: %w", l.active.number, l.tailOff+l.spilt, err)
	}
	l.spilt += int64(len(l.buf))
	l.clearBuf()
	return nil
}

// clearBuf empties the buffer, and lets go of one that a large event has made large.
func (l *Log) clearBuf() {
	if l.buf = l.buf[:0]; cap(l.buf) > 4*spillBytes {
		l.buf = nil
	}
}

// touchOther counts the entry for what is no stream's. Committer only.
func (l *Log) touchOther(b *broker) {
	if b.touch != l.active.number {
		b.touch = l.active.number
		l.entries++
	}
}

// durable is the LSN below which all is durable, seen by the committer.
func (l *Log) durable() uint64 { return l.active.base + uint64(l.tailOff) }

// clock is now, but never before what it was: time does not run backwards in the log.
func (l *Log) clock() int64 {
	l.lastTime = max(l.lastTime, l.o.Now().UnixNano())
	return l.lastTime
}

// writeLazies adds the progress that waits to the commit. None is ever left
// out: a later change would then stand without an earlier one, and what the
// earlier one made pending would be lost.
func (l *Log) writeLazies() {
	l.mu.Lock()
	lazies := l.lazies
	l.lazies, l.lazyBytes, l.lazyTold = nil, 0, false
	l.mu.Unlock()
	left := l.putLazies(lazies)
	if len(left) == 0 {
		l.hindered = false
		return
	}
	l.flush()
	l.wait(left)
	// The checkpoint that belongs to a roll writes what is left.
	err := l.roll()
	if err != nil && !l.hindered { // said once, not at each commit
		l.log.Warn("progress waits: no room in the log", "dir", l.dir, "error", err)
	}
	l.hindered = err != nil
}

// putLazies adds progress records to the commit and returns those that do not fit.
func (l *Log) putLazies(lazies []lazy) []lazy {
	for i, z := range lazies {
		if z.broker.gone.Load() || l.latched.Load() != nil {
			continue
		}
		size := frameSize(len(z.payload))
		if !l.fits(size, 0) {
			return lazies[i:]
		}
		l.frame(frame{kind: kindProgress, stream: z.broker.home(), sum: checksum(z.payload), time: l.clock()}, z.payload)
		l.touchOther(z.broker)
		l.lazied = append(l.lazied, lazied{z.broker, size})
		l.sinceCheckpoint += size
	}
	return nil
}

// wait puts progress records back, before those that came since.
func (l *Log) wait(lazies []lazy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, z := range lazies {
		l.lazyBytes += int64(len(z.payload))
	}
	l.lazies = append(lazies[:len(lazies):len(lazies)], l.lazies...)
}

// lazied is a progress record in the commit, to be accounted for.
type lazied struct {
	broker *broker
	size   int64
}

// flush writes the commit, syncs, publishes and answers. After an error the
// outcome of the commit is unknown and the log is latched: Linux drops pages
// whose write-back failed, so that a second sync would lie.
func (l *Log) flush() {
	if l.end() == l.tailOff {
		return
	}
	if err := l.write(); err != nil {
		err = l.latch(err)
		for i, r := range l.batch {
			r.answer(fmt.Errorf("append: %w: %w", channel.ErrUnknown, err))
			l.batch[i] = nil
		}
		l.batch, l.lazied, l.spilt = l.batch[:0], l.lazied[:0], 0
		l.clearBuf()
		return
	}
	l.publish()
}

func (l *Log) write() error {
	if err := l.spill(); err != nil {
		return err
	}
	return l.sync()
}

// sync makes the active segment durable.
func (l *Log) sync() error {
	start := time.Now()
	if err := l.active.file.Datasync(); err != nil {
		return fmt.Errorf("sync segment %d: %w", l.active.number, err)
	}
	took := time.Since(start)
	l.vitals.synced(took)
	if l.o.SyncObserver != nil {
		l.o.SyncObserver(took)
	}
	return nil
}

// latch stops all acknowledgements until the log is opened again and verified.
func (l *Log) latch(err error) error {
	if l.latched.CompareAndSwap(nil, &err) {
		l.log.Error("the log has stopped: nothing is accepted until it is opened again", "dir", l.dir, "error", err)
	}
	return *l.latched.Load()
}

// publish makes a durable commit readable and answers its requests.
func (l *Log) publish() {
	if len(l.batch) > 0 || len(l.lazied) > 0 {
		l.untended = true
		l.stir()
	}
	l.mu.Lock()
	l.tailOff, l.spilt = l.end(), 0
	l.unwitnessed = true
	for _, z := range l.lazied {
		z.broker.noteOther(z.size, l.lastTime)
		z.broker.bytes.Add(z.size)
	}
	for _, r := range l.batch {
		l.enact(r)
	}
	l.trim()
	for _, r := range l.batch {
		for _, shard := range r.shards {
			r.broker.shards[shard].signal()
		}
	}
	l.mu.Unlock()
	for i, r := range l.batch {
		l.batch[i] = nil
		r.answer(nil)
	}
	l.batch, l.lazied = l.batch[:0], l.lazied[:0]
	l.tell()
}

// tell tells the followers of the streams that have got something.
func (l *Log) tell() {
	for i, s := range l.freshened {
		n := s.fresh
		s.fresh, l.freshened[i] = 0, nil
		if follow := s.broker.follower.Load(); follow != nil {
			(*follow)(s.shard(), n)
		}
	}
	l.freshened = l.freshened[:0]
}

// enact changes the state as the request's frames say. Under Log.mu.
func (l *Log) enact(r *request) {
	off := r.off
	switch r.kind {
	case kindEvent:
		at := time.Unix(0, r.time)
		for i, e := range r.events {
			s, size := r.broker.shards[r.shards[i]], frameSize(e.Size())
			s.note(r.ids[i].Position, off, size, r.time)
			l.remember(s, channel.Record{Position: r.ids[i].Position, Time: at, Event: e})
			if s.fresh++; s.fresh == 1 {
				l.freshened = append(l.freshened, s)
			}
			off += size
		}
	case kindDead:
		for i, payload := range r.payloads {
			size, pos := frameSize(len(payload)), r.first+channel.Position(i)
			r.broker.dead.note(pos, off, size, r.time)
			r.broker.bury(r.deaths[i], pos)
			r.broker.deadBytes += size
			off += size
		}
	case kindRoutes:
		r.broker.routes.Add(r.routes)
		r.broker.routes.Forget(r.broker.unscanned)
	case kindBroker:
		if l.broker(r.info.UID) == nil {
			l.enter(r.broker)
		}
		r.broker.set(r.info)
	case kindDiscard:
		r.gone = r.broker.discard(r.numbers)
	case kindRemoval:
		l.forget(r.broker)
	}
	if r.kind != kindEvent && r.kind != kindDead && r.kind != kindRemoval {
		r.broker.noteOther(r.size, r.time)
		r.broker.bytes.Add(r.size)
	}
}

// errFreed answers the wish for room: try again.
var errFreed = errors.New("room was made where there was any")
