// Package rerun is work on events that have been through delivery once: dead
// letters are sent again or discarded, the past is replayed to a Trigger, and a
// new Trigger gets what was accepted before it. Each is a job that people start,
// watch, cancel and resume, and that outlives the process.
//
// The promise: a job goes on by itself after a crash, from where it had come
// to. What it had under way then, and what it had done in the last second, it
// does again; it leaves nothing out. A dead letter is discarded only after its
// event was delivered. Events with the same key (partitionkey, else subject)
// are sent one after the other, in the order they were accepted or died. Every
// job leaves lines in the audit log. However much it goes through, a job holds a
// few hundred events and at most some 64 MiB of them.
//
// What it does not do: it attempts no delivery itself (dispatch does, beside
// live events and behind them), and it does not keep what a crash lost of the
// memory channel.
//
// A Manager may be used by any number of goroutines; Run is called once.
package rerun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Deliverer sends one event to a Trigger beside live ones. dispatch.Dispatcher
// is one.
type Deliverer interface {
	Deliver(ctx context.Context, trigger channel.UID, x dispatch.Extra) (dispatch.Outcome, error)

	// Knows reports whether the Trigger has a lane, once its Broker's log is open.
	Knows(broker, trigger channel.UID) bool
}

// Options configure a Manager. Snapshot, Log and Deliverer are needed.
type Options struct {
	Dir       string // the data folder; "" keeps jobs in memory only
	Snapshot  func() *config.Snapshot
	Log       func(broker channel.UID) (channel.BrokerLog, bool)
	Deliverer Deliverer
	Keys      filter.Keys // of KN_VERIFY_CORRELATION_ID in conditions
	Logger    *slog.Logger
	Now       func() time.Time // nil: time.Now
}

const (
	// maxRunning bounds jobs under way that people started; one more is refused.
	maxRunning = 64

	// maxKept bounds the jobs that are remembered: of those that have ended the
	// oldest are forgotten.
	maxKept = 1000

	// lookAgain is how often a job looks for what it waits for.
	lookAgain = 500 * time.Millisecond

	// startWait is how long a request waits for Run to be called.
	startWait = 5 * time.Second

	// cancelWait is how long Cancel waits for a job to end before it answers.
	cancelWait = 5 * time.Second
)

// Error is a refusal. Code is the HTTP status that says the same.
type Error struct {
	Code   int
	Reason string // one line
}

func (e *Error) Error() string { return e.Reason }

// Status is Code.
func (e *Error) Status() int { return e.Code }

func refuse(code int, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

var (
	errCancelled = errors.New("cancelled")
	errStopping  = errors.New("the broker is stopping")
)

// Manager keeps the jobs of one process. Make it with New.
type Manager struct {
	o     Options
	log   *slog.Logger
	store *store

	mu     sync.Mutex
	jobs   map[string]*job
	order  []*job          // oldest first
	ctx    context.Context // of the jobs; nil before Run
	ended  bool
	lastID int64
	wg     sync.WaitGroup
	begun  chan struct{} // closed when Run is called
}

// job is one job and, while it is under way, how to end it.
type job struct {
	rec    record // guarded by Manager.mu
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it is not under way any more; nil if it never was
}

// record is what is kept of a job.
type record struct {
	v1.Job
	BrokerUID  channel.UID `json:"brokerUid"`
	TriggerUID channel.UID `json:"triggerUid,omitempty"` // "" for the dead letters of one that is gone: Trigger names it
	Cursor     cursor      `json:"cursor"`

	// Spans are the positions of a replay or start, by shard. A start has none
	// until its Trigger is routed.
	Spans map[channel.ShardID]span `json:"spans,omitempty"`
}

// cursor is where a job goes on: everything before it is done with.
type cursor struct {
	After  string `json:"after,omitempty"`  // of the page of dead letters
	Number uint64 `json:"number,omitempty"` // the last of them that is done with
	Index  int    `json:"index,omitempty"`  // into IDs
}

// span is what of a shard a replay goes through: [Next, Until).
type span struct {
	Next   channel.Position `json:"next"`
	Until  channel.Position `json:"until"`
	Sought bool             `json:"sought"` // Next is the first of the time asked for
}

// active reports whether a job is under way or will be by itself.
func active(state string) bool { return state == v1.JobRunning || state == v1.JobInterrupted }

// New reads the jobs there are. Those that were under way go on when Run is called.
func New(o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Manager{o: o, log: o.Logger, jobs: map[string]*job{}, begun: make(chan struct{})}
	var err error
	if m.store, err = openStore(o.Dir, o.Logger); err != nil {
		return nil, err
	}
	records, err := m.store.load()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		m.add(&job{rec: r})
		if n, err := strconv.ParseInt(r.ID, 32, 64); err == nil {
			m.lastID = max(m.lastID, n)
		}
	}
	return m, nil
}

// add enters a job. The caller holds the mutex, or is New.
func (m *Manager) add(j *job) {
	m.jobs[j.rec.ID] = j
	m.order = append(m.order, j)
	for i := 0; len(m.order) > maxKept && i < len(m.order); {
		old := m.order[i]
		if active(old.rec.State) {
			i++
			continue
		}
		m.order = slices.Delete(m.order, i, i+1)
		delete(m.jobs, old.rec.ID)
		m.store.remove(old.rec.ID)
	}
}

// Run carries the jobs out until ctx ends, and returns when all have stopped
// and what they have come to is kept.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	m.ctx = ctx
	close(m.begun)
	for _, j := range m.order {
		if active(j.rec.State) && j.ready() {
			m.launch(j, "go on")
		}
	}
	m.mu.Unlock()
	m.wg.Go(func() { m.settleStarts(ctx) })
	<-ctx.Done()
	cancel(errStopping)
	m.mu.Lock()
	m.ended = true
	for _, j := range m.order {
		if j.cancel != nil {
			j.cancel(errStopping)
		}
	}
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

// running waits until jobs are run.
func (m *Manager) running(ctx context.Context) error {
	limit := time.NewTimer(startWait)
	defer limit.Stop()
	select {
	case <-m.begun:
		return nil
	case <-limit.C:
	case <-ctx.Done():
	}
	return refuse(503, "jobs are not run: the process is starting")
}

// ready reports whether a job knows what to go through.
func (j *job) ready() bool { return j.rec.Kind != v1.JobStart || j.rec.Spans != nil }

// launch sets a job going, if Run has been called. The caller holds the mutex.
func (m *Manager) launch(j *job, action string) {
	j.rec.State, j.rec.Started, j.rec.Ended, j.rec.Error = v1.JobRunning, m.o.Now().UTC(), nil, ""
	if m.ctx == nil || m.ended {
		return
	}
	ctx, cancel := context.WithCancelCause(m.ctx)
	j.cancel, j.done = cancel, make(chan struct{})
	m.store.audit(action, &j.rec, "")
	m.wg.Go(func() {
		err := m.carryOut(ctx, j)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		cancel(nil)
		m.finish(j, err)
	})
}

// finish writes down how a job ended.
func (m *Manager) finish(j *job, err error) {
	m.mu.Lock()
	r := &j.rec
	stopping := m.ctx.Err() != nil || errors.Is(err, channel.ErrClosed)
	switch {
	case err == nil:
		r.State = v1.JobDone
	case errors.Is(err, errCancelled):
		r.State = v1.JobCancelled
	case stopping:
		r.State = v1.JobInterrupted
	default:
		r.State, r.Error = v1.JobFailed, err.Error()
	}
	if r.State != v1.JobInterrupted {
		now := m.o.Now().UTC()
		r.Ended = &now
	}
	kept := r.clone()
	m.mu.Unlock()
	if err := m.store.save(&kept); err != nil {
		m.log.Error("job cannot be kept", "job", kept.ID, "err", err)
	}
	m.store.audit(kept.State, &kept, "")
	m.mu.Lock()
	j.cancel = nil
	close(j.done)
	m.mu.Unlock()
}

// clone shares nothing that changes.
func (r *record) clone() record {
	c := *r
	c.Failures, c.Gaps = slices.Clone(r.Failures), slices.Clone(r.Gaps)
	if r.Spans != nil {
		c.Spans = make(map[channel.ShardID]span, len(r.Spans))
		for shard, s := range r.Spans {
			c.Spans[shard] = s
		}
	}
	return c
}

// List shows all jobs, the newest first.
func (m *Manager) List() []v1.Job {
	m.mu.Lock()
	records := make([]record, 0, len(m.order))
	for _, j := range slices.Backward(m.order) {
		records = append(records, j.rec.clone())
	}
	m.mu.Unlock()
	jobs := make([]v1.Job, 0, len(records))
	for i := range records {
		jobs = append(jobs, m.view(&records[i]))
	}
	return jobs
}

// Get finds a job.
func (m *Manager) Get(id string) (v1.Job, bool) {
	m.mu.Lock()
	j := m.jobs[id]
	if j == nil {
		m.mu.Unlock()
		return v1.Job{}, false
	}
	r := j.rec.clone()
	m.mu.Unlock()
	return m.view(&r), true
}

// view adds what is not kept: why a job waits.
func (m *Manager) view(r *record) v1.Job {
	if !active(r.State) || r.Kind == v1.JobDiscard {
		return r.Job
	}
	_, open := m.o.Log(r.BrokerUID)
	t := m.trigger(r.TriggerUID)
	switch {
	case !open:
		r.Waiting = "broker " + r.Broker + " is not open yet"
	case t == nil:
		r.Waiting = "trigger " + r.Trigger + " is not declared just now"
	case !t.Ready && r.Sink == "":
		r.Waiting = "trigger " + r.Trigger + " is not ready: " + t.Message
	}
	return r.Job
}

// trigger finds a Trigger by its uid, nil if it is not declared.
func (m *Manager) trigger(uid channel.UID) *config.Trigger {
	for _, t := range m.o.Snapshot().Triggers() {
		if t.UID == uid {
			return t
		}
	}
	return nil
}

// begin enters a new job and sets it going.
func (m *Manager) begin(r record) (v1.Job, error) {
	m.mu.Lock()
	if err := m.mayRun(&r); err != nil {
		m.mu.Unlock()
		return v1.Job{}, err
	}
	if m.ended {
		m.mu.Unlock()
		return v1.Job{}, refuse(503, "jobs are not run: the process is stopping")
	}
	j := m.enter(r)
	m.mu.Unlock()
	if err := m.keepNew(j); err != nil {
		return v1.Job{}, err
	}
	m.mu.Lock()
	m.launch(j, "start")
	r = j.rec.clone()
	m.mu.Unlock()
	return m.view(&r), nil
}

// enter gives a job its id and a place in the list. The caller holds the mutex.
func (m *Manager) enter(r record) *job {
	now := m.o.Now().UTC()
	m.lastID = max(m.lastID+1, now.UnixMilli())
	id := strconv.FormatInt(m.lastID, 32)
	r.ID = strings.Repeat("0", max(0, 9-len(id))) + id
	r.State, r.Created, r.Started = v1.JobRunning, now, now
	j := &job{rec: r}
	m.add(j)
	return j
}

// keepNew makes a new job durable. One that cannot be is none.
func (m *Manager) keepNew(j *job) error {
	m.mu.Lock()
	r := j.rec.clone()
	m.mu.Unlock()
	err := m.store.save(&r)
	if err == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.jobs, r.ID)
	m.order = slices.DeleteFunc(m.order, func(o *job) bool { return o == j })
	return fmt.Errorf("keep job: %w", err)
}

// mayRun refuses what another job is in the way of. The caller holds the mutex.
func (m *Manager) mayRun(r *record) error {
	running := 0
	for _, j := range m.order {
		o := &j.rec
		if !active(o.State) && (j.done == nil || j.cancel == nil) || o.ID == r.ID {
			continue
		}
		if o.Kind != v1.JobStart {
			running++
		}
		if r.rivals(o) {
			return refuse(409, "%s job %s is under way for trigger %s: wait for it, or cancel it", o.Kind, o.ID, o.Trigger)
		}
	}
	if running >= maxRunning {
		return refuse(429, "%d jobs are under way: wait until one has ended, or cancel one", running)
	}
	return nil
}

// rivals reports whether two jobs would do the same things twice.
func (r *record) rivals(o *record) bool {
	letters := func(kind string) bool { return kind == v1.JobRedrive || kind == v1.JobDiscard }
	same := r.BrokerUID == o.BrokerUID && r.Trigger == o.Trigger
	return same && (r.Kind == o.Kind && r.Kind != v1.JobStart || letters(r.Kind) && letters(o.Kind))
}

// Cancel ends a job. What it has under way is given seconds to end. It answers
// with the job as it is then.
func (m *Manager) Cancel(ctx context.Context, id, who string) (v1.Job, error) {
	m.mu.Lock()
	j := m.jobs[id]
	if j == nil {
		m.mu.Unlock()
		return v1.Job{}, noJob(id)
	}
	if !active(j.rec.State) {
		state := j.rec.State
		m.mu.Unlock()
		return v1.Job{}, refuse(409, "job %s is %s already", id, state)
	}
	m.store.audit("cancel", &j.rec, who)
	if j.cancel != nil {
		j.cancel(errCancelled)
		done := j.done
		m.mu.Unlock()
		limit := time.NewTimer(cancelWait)
		defer limit.Stop()
		select {
		case <-done:
		case <-limit.C:
		case <-ctx.Done():
		}
	} else {
		now := m.o.Now().UTC()
		j.rec.State, j.rec.Ended = v1.JobCancelled, &now
		r := j.rec.clone()
		m.mu.Unlock()
		if err := m.store.save(&r); err != nil {
			return v1.Job{}, fmt.Errorf("keep job: %w", err)
		}
	}
	job, _ := m.Get(id)
	return job, nil
}

// Resume has a job that was cancelled, or failed, go on where it was.
func (m *Manager) Resume(ctx context.Context, id, who string) (v1.Job, error) {
	if err := m.running(ctx); err != nil {
		return v1.Job{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[id]
	if j == nil {
		return v1.Job{}, noJob(id)
	}
	switch {
	case j.rec.State == v1.JobDone:
		return v1.Job{}, refuse(409, "job %s is done: start another", id)
	case active(j.rec.State) || j.cancel != nil:
		return v1.Job{}, refuse(409, "job %s is running", id)
	case m.ended:
		return v1.Job{}, refuse(503, "jobs are not run: the process is stopping")
	}
	if err := m.mayRun(&j.rec); err != nil {
		return v1.Job{}, err
	}
	if err := m.still(&j.rec); err != nil {
		return v1.Job{}, refuse(409, "job %s cannot go on: %v", id, err)
	}
	m.store.audit("resume", &j.rec, who)
	m.launch(j, "go on")
	r := j.rec.clone()
	return r.Job, nil
}

func noJob(id string) error {
	return refuse(404, "no job %.64q; `penstock jobs` lists those there are", id)
}

// still is why a job has no Trigger or Broker any more.
func (m *Manager) still(r *record) error {
	if _, open := m.o.Log(r.BrokerUID); !open {
		for _, gone := range m.o.Snapshot().Removed() {
			if gone.UID == r.BrokerUID {
				return fmt.Errorf("broker %s is gone", r.Broker)
			}
		}
		return nil
	}
	if r.TriggerUID != "" && r.Kind != v1.JobDiscard && !m.o.Deliverer.Knows(r.BrokerUID, r.TriggerUID) {
		return fmt.Errorf("trigger %s is gone", r.Trigger)
	}
	return nil
}
