package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Recorder writes a history. Make one with NewRecorder, and Close it.
type Recorder struct {
	clock func() time.Time
	begin time.Time

	mu  sync.Mutex
	w   *bufio.Writer
	n   int64
	err error // the first of a write
}

// NewRecorder begins a history. clock is asked for the time of each line; nil
// is time.Now, which is right in a bubble of testing/synctest too. Lines are
// buffered until Close, and stand in the order of their times.
func NewRecorder(w io.Writer, rules Rules, clock func() time.Time) *Recorder {
	if clock == nil {
		clock = time.Now
	}
	r := &Recorder{clock: clock, begin: clock(), w: bufio.NewWriterSize(w, 1<<16)}
	at := r.begin.Round(0)
	r.write(Line{Do: doBegin, Rules: &rules, At: &at})
	return r
}

// Close writes out what is buffered and returns the first error of a write.
// The recorder must not be used afterwards; the writer stays open.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.w.Flush(); r.err == nil {
		r.err = err
	}
	return r.err
}

// write stamps a line and writes it. The stamp is taken under the lock: the
// checker relies on the order.
func (r *Recorder) write(l Line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.Do != doBegin {
		l.T = r.clock().Sub(r.begin)
	}
	text, err := json.Marshal(&l)
	if err == nil {
		_, err = r.w.Write(append(text, '\n'))
	}
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("write history: %w", err)
	}
}

// next is a number that no other line has unless it joins them.
func (r *Recorder) next() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return r.n
}

// Routes is called before a Broker's Trigger set is changed to triggers, the
// whole of it. The caller calls inForce when the broker says that they are
// ready. Between the two an event may be matched against either set.
func (r *Recorder) Routes(broker string, triggers []Trigger) (inForce func()) {
	n := r.next()
	r.write(Line{Do: doRoutes, N: n, Broker: broker, Triggers: triggers})
	return func() { r.write(Line{Do: doRouted, N: n, Broker: broker}) }
}

// Cancelled is called before a Trigger is removed for good.
func (r *Recorder) Cancelled(trigger string) { r.write(Line{Do: doCancelled, Trigger: trigger}) }

// Sending is one event on its way to the broker.
type Sending struct {
	r    *Recorder
	line Line
}

// Send is called before an event is posted. An event that is posted twice is
// sent twice, and may then be delivered twice.
func (r *Recorder) Send(broker string, e Event) Sending {
	n := r.next()
	r.write(Line{Do: doSend, N: n, ID: e.ID(), Broker: broker, Attrs: e.Attrs, SHA: e.SHA()})
	return Sending{r: r, line: Line{Do: doAnswer, N: n, ID: e.ID()}}
}

// Answer is called with what the sender was answered. Without it, and with
// code 0, the outcome is unknown.
func (s Sending) Answer(a Answer) {
	s.line.Answer = &a
	s.r.write(s.line)
}

// Receipt is one event at a subscriber.
type Receipt struct {
	r    *Recorder
	line Line
}

// Receipt is called when a subscriber has a whole event.
func (r *Recorder) Receipt(trigger string, e Event) Receipt {
	n := r.next()
	r.write(Line{Do: doReceipt, N: n, ID: e.ID(), Trigger: trigger, Attrs: e.Attrs, SHA: e.SHA()})
	return Receipt{r: r, line: Line{Do: doSubscriber, N: n, ID: e.ID(), Trigger: trigger}}
}

// Answer is called with what the subscriber is about to answer, before the
// broker can know. Without it the subscriber has not answered.
func (d Receipt) Answer(a Answer) {
	d.line.Answer = &a
	d.r.write(d.line)
}

// Dead is called for each dead letter that the broker shows, or that a dead
// letter sink received.
func (r *Recorder) Dead(trigger, id string, d Dead) {
	r.write(Line{Do: doDead, Trigger: trigger, ID: id, Dead: &d})
}

// Gap says that the broker has declared so many positions of a Broker lost.
func (r *Recorder) Gap(broker string, positions uint64) {
	r.write(Line{Do: doGap, Broker: broker, Count: positions})
}

// Fault is called before something goes wrong; the caller calls heal when it
// is over, which for the ends of a process (Kill, PowerCut, Stop) the next
// Incarnation says. what names the fault in reports.
func (r *Recorder) Fault(kind Kind, what string) (heal func()) {
	n := r.next()
	r.write(Line{Do: doFault, N: n, Kind: kind, What: what})
	return func() { r.write(Line{Do: doHealed, N: n, Kind: kind, What: what}) }
}

// Detected says that the broker has reported a damage that was done to its
// store: what is the Fault's, how is the report.
func (r *Recorder) Detected(what, how string) {
	r.write(Line{Do: doDetected, Kind: Damage, What: what, Attrs: map[string]string{"how": how}})
}

// Incarnation is called before a process is started: its number, and the epoch
// of its log where that is known, otherwise 0.
func (r *Recorder) Incarnation(number int64, epoch uint64) {
	r.write(Line{Do: doIncarnation, N: number, Epoch: epoch})
}

// Sample records one look at the process.
func (r *Recorder) Sample(s Sample) { r.write(Line{Do: doSample, Sample: &s}) }

// Backup is called before a backup is asked for; the caller calls done when it
// is complete.
func (r *Recorder) Backup(name string) (done func()) {
	n := r.next()
	r.write(Line{Do: doBackup, N: n, What: name})
	return func() { r.write(Line{Do: doBackedUp, N: n, What: name}) }
}

// Restored is called before the process is started on a restored backup. The
// history that follows is checked behind the one that has the backup.
func (r *Recorder) Restored(name string) { r.write(Line{Do: doRestored, What: name}) }

// Final records a Trigger's counters.
func (r *Recorder) Final(trigger string, f Final) {
	r.write(Line{Do: doFinal, Trigger: trigger, Final: &f})
}
