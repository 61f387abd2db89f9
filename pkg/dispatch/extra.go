package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/journal"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

const (
	// extraShare is the part of a lane's concurrency that events delivered
	// beside it take at most while it has work of its own. As much stays free for
	// it while it has none, so that a live event never waits for one of them.
	extraShare = 4

	// extraRecheck is how often an extra that waits looks again by itself: what a
	// lane waits for (a pace, a pause) does not always call when it is over.
	extraRecheck = 250 * time.Millisecond

	// extraGrace is how long an attempt under way is given when its caller gives
	// up, before it is cut off.
	extraGrace = 2 * time.Second
)

// Extra is one event that is delivered to a trigger beside what its lane has
// pending: sent again, or for the first time to a trigger younger than itself.
type Extra struct {
	Broker   channel.UID
	ID       channel.ID // of the event
	Event    event.Event
	Accepted time.Time

	// To is a URL that gets the event in place of the trigger's subscriber. Its
	// answers are no replies. "" is the subscriber.
	To string

	// Mark is an extension that the event carries, so that its receiver can tell
	// it from one that comes for the first time. No Name is no mark.
	Mark Mark

	// Bury makes an event that fails a dead letter of the trigger, which goes to
	// its dead letter sink as any other does.
	Bury bool
}

// Mark is an extension attribute.
type Mark struct{ Name, Value string }

// End is what became of an Extra.
type End int

const (
	Delivered End = iota + 1 // the subscriber took it and its reply is stored
	Failed                   // after all its attempts
	Gone                     // there is no such trigger, or Broker, any more
)

// Outcome is what became of an Extra, and after how many attempts. What follows
// them tells of the last one where it failed.
type Outcome struct {
	End      End
	Attempts int
	Failure  deliver.Failure
}

var errGone = errors.New("trigger is gone")

// Deliver delivers one event outside the lane's pending set, by the lane's
// rules: its subscriber, format, timeouts and retries as they are at each
// attempt, its pace and rate, and no attempt while it is held or paused. While
// its circuit is open an extra may be the probe, for the lane may have no event
// of its own. It waits its turn so that live events are not held up: extras have
// at most a quarter of the lane's concurrency (at least 1) while the lane has
// something to do, and what lies between that and all of it otherwise. Between
// two attempts it holds no place.
//
// It keeps nothing over a crash: whoever calls it does. An error says that the
// outcome is open: ctx ended (an attempt under way is given 2 s then), or the
// dispatcher stopped (channel.ErrClosed). It may be called by any number of
// goroutines, before Run has returned.
func (d *Dispatcher) Deliver(ctx context.Context, trigger channel.UID, x Extra) (Outcome, error) {
	l := d.laneOf(x.Broker, trigger)
	if l == nil {
		return Outcome{End: Gone}, nil
	}
	it := item{shard: max(0, slices.Index(l.broker.shards, x.ID.Shard)), pos: x.ID.Position, accepted: x.Accepted, event: x.Event}
	overlay := x.overlay()
	for {
		conf, err := l.takePlace(ctx, &it, x.To != "")
		if errors.Is(err, errGone) {
			return Outcome{End: Gone, Attempts: it.attempts}, nil
		}
		if err != nil {
			return Outcome{Attempts: it.attempts}, err
		}
		pause, err, open := l.extraAttempt(ctx, &it, &x, &conf, overlay)
		l.givePlace()
		switch {
		case open != nil:
			return Outcome{Attempts: it.attempts}, open
		case err == nil:
			return Outcome{End: Delivered, Attempts: it.attempts}, nil
		case pause >= 0:
			if !wait(ctx, pause) {
				return Outcome{Attempts: it.attempts}, ctx.Err()
			}
			continue
		}
		out := Outcome{End: Failed, Attempts: it.attempts, Failure: deliver.FailureOf(conf.subscriber, err)}
		if x.Bury {
			open = l.buryExtra(ctx, &it, &conf, err)
		}
		return out, open
	}
}

// overlay is what the receiver sees on top of the event.
func (x *Extra) overlay() *event.Overlay {
	if x.Mark.Name == "" {
		return withoutTTL
	}
	return &event.Overlay{Hide: withoutTTL.Hide, Set: []event.Attribute{{Name: x.Mark.Name, Value: event.Value{Text: x.Mark.Value}}}}
}

// extraAttempt makes one attempt. err is how it failed, and pause how long to
// wait before the next; below 0 there is none. open says that the attempt was
// cut off: nothing is known of it.
func (l *lane) extraAttempt(ctx context.Context, it *item, x *Extra, conf *laneConf, overlay *event.Overlay) (pause time.Duration, err, open error) {
	attempt, cancel := context.WithCancel(l.broker.d.attempts)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if wait(attempt, extraGrace) {
			cancel()
		}
	})()
	if x.To != "" {
		conf.subscriber = l.extraTarget(x.To)
	}
	r := l.request(new(deliver.Request), it, conf)
	r.Overlay = overlay
	answer, err := l.send(attempt, it, r)
	made := journal.Attempt{Rerun: x.Mark.Value}
	if err == nil && len(answer.Replies) > 0 {
		made.Replies, err = l.broker.reply(attempt, l, it.event, answer.Replies)
	}
	if x.To == "" {
		if spare, spared := l.report(it, conf, answer, err); spared && attempt.Err() == nil {
			l.metrics.Attempt(answer.Duration, answer.Status)
			l.metrics.Count(telemetry.Spared, 1)
			made.Number, made.Spared = it.attempts+1, true
			l.write(it, made, &answer, err, spare, l.broker.d.opts.Now())
			return spare, err, nil
		}
	}
	if err != nil && attempt.Err() != nil {
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		return 0, nil, channel.ErrClosed
	}
	it.attempts++
	made.Number = it.attempts
	if x.To == "" {
		l.metrics.Attempt(answer.Duration, answer.Status)
		if err == nil {
			l.metrics.Count(telemetry.Delivered, 1)
		} else {
			l.metrics.Count(telemetry.Failed, 1)
		}
	}
	if err == nil {
		if x.To == "" {
			made.Final = journal.Delivered
			l.works(it)
		}
		l.write(it, made, &answer, nil, 0, l.broker.d.opts.Now())
		return 0, nil, nil
	}
	if pause, again := conf.policy.Next(it.attempts, err, rand.Float64()); again && !final(err) {
		l.write(it, made, &answer, err, pause, l.broker.d.opts.Now())
		return pause, err, nil
	}
	l.write(it, made, &answer, err, 0, l.broker.d.opts.Now())
	return -1, err, nil
}

// buryExtra keeps an event that failed as a dead letter, and hands it to the
// lane, which takes it to the dead letter sink, if there is one, and settles it.
func (l *lane) buryExtra(ctx context.Context, it *item, conf *laneConf, cause error) error {
	letter := l.letter(it, conf, cause)
	for {
		_, known, err := l.broker.log.FindDead(ctx, l.uid, letter.ID)
		if err == nil && known {
			return nil // a crash came after the letter: the lane has it since the restart, or has settled it
		}
		err = l.broker.log.AppendDead(ctx, []channel.DeadLetter{letter})
		if err == nil {
			break
		}
		if errors.Is(err, channel.ErrNoBroker) || errors.Is(err, channel.ErrClosed) {
			return err
		}
		l.broker.d.log.Warn("dead letter cannot be stored yet", "broker", l.broker.name, "trigger", l.name,
			"id", letter.ID.String(), "err", err)
		if !wait(ctx, retryAfter(err, storeWait)) {
			return ctx.Err()
		}
	}
	l.died(&letter)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cleared || conf.sink == nil {
		l.settlePosition(it.shard, it.pos, true)
		return nil
	}
	s := l.in(it.shard)
	s.pending.Add(it.pos) // the log has it since AppendDead
	s.recovered.Add(uint64(it.pos))
	l.waiting.push(waiting{shard: it.shard, pos: it.pos, dead: true, failure: failureOf(&letter), due: time.Now()})
	l.arm()
	return nil
}

// laneOf finds a trigger's lane, nil if there is none.
func (d *Dispatcher) laneOf(broker, trigger channel.UID) *lane {
	b := (*d.brokers.Load())[broker]
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lanes[trigger]
}

// extras are the events delivered beside a lane. The lane's mutex guards them.
// Each that has a place, or has claimed the next one that is free, counts as
// one of the lane's workers, so that all attempts together keep to the lane's
// concurrency.
type extras struct {
	placed  int             // attempts under way
	claims  int             // waiting for the next free place
	waiting []chan struct{} // in the order they came
	target  *deliver.Target // of the last Extra.To
}

// call has the first that waits look again.
func (e *extras) call() {
	if len(e.waiting) > 0 {
		e.waiting[0] <- struct{}{} // has room for one, and who is listed is sent one only
		e.waiting = e.waiting[1:]
	}
}

func (e *extras) callAll() {
	for len(e.waiting) > 0 {
		e.call()
	}
}

// leave takes one off the list that has not been called.
func (e *extras) leave(woken chan struct{}) {
	if i := slices.Index(e.waiting, woken); i >= 0 {
		e.waiting = slices.Delete(e.waiting, i, i+1)
	}
}

// busy reports whether the lane has something to do now. The caller holds the
// mutex, here and below.
func (l *lane) busy() bool {
	return l.inflight > 0 || l.ready.len() > 0 || l.due.len() > 0 || l.sinks.len() > 0 || l.lagging()
}

// places is how many extras may be under way now.
func (l *lane) places() int {
	all := l.most()
	share := all / extraShare
	if l.busy() {
		return max(1, share)
	}
	return all - share
}

// most is the lane's concurrency, also of one whose Trigger is not known.
func (l *lane) most() int {
	if l.conf.concurrency <= 0 {
		return l.broker.d.opts.Concurrency
	}
	return l.conf.concurrency
}

// takePlace waits until the event may be tried, and takes one of the lane's
// places for it. One that goes elsewhere waits for a place alone: not for the
// trigger to be ready, nor for the pace of its subscriber.
func (l *lane) takePlace(ctx context.Context, it *item, elsewhere bool) (laneConf, error) {
	woken := make(chan struct{}, 1)
	var recheck *time.Timer
	l.mu.Lock()
	defer l.mu.Unlock()
	claimed := false
	e := &l.extras
	for {
		open := elsewhere || !l.still() && (!l.circuit.open() || l.circuit.mayProbe(time.Now()))
		if !claimed && open && e.placed+e.claims < l.places() {
			claimed = true
			e.claims++
			l.workers++
			if n := len(l.parked); n > 0 && l.workers > l.most() {
				close(l.parked[n-1]) // its place is taken
				l.parked = l.parked[:n-1]
				l.workers--
			}
		}
		var err error
		switch {
		case l.cleared:
			err = errGone
		case l.stopped:
			err = channel.ErrClosed
		case ctx.Err() != nil:
			err = ctx.Err()
		case claimed && open && l.inflight+e.placed < l.most() && (elsewhere || l.room() > 0):
			e.claims--
			e.placed++
			l.broker.d.workers.Add(1) // not stopped: nobody waits for it to be 0 yet
			if !elsewhere {
				l.begin(it, ticket{probe: l.circuit.open()})
			}
			e.call() // there may be a place for one more
			return l.conf, nil
		}
		if err != nil {
			if claimed {
				e.claims--
				l.workers--
				l.wakeOne()
			}
			e.call() // whoever called this one meant one that goes on
			return laneConf{}, err
		}
		e.waiting = append(e.waiting, woken)
		l.mu.Unlock()
		if recheck == nil {
			recheck = time.NewTimer(extraRecheck)
			defer recheck.Stop()
		} else {
			recheck.Reset(extraRecheck)
		}
		select {
		case <-woken:
		case <-recheck.C:
		case <-ctx.Done():
		}
		l.mu.Lock()
		e.leave(woken)
		select {
		case <-woken: // called while it looked up
		default:
		}
	}
}

// givePlace gives a place back, to the lane if that has use for it.
func (l *lane) givePlace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extras.placed--
	l.workers--
	if l.busy() {
		l.wakeOne()
	}
	l.extras.call()
	l.broker.d.workers.Done()
}

// extraTarget is the target of another sink. It does not ask for replies.
func (l *lane) extraTarget(to string) *deliver.Target {
	namespace, _, _ := strings.Cut(l.name, "/")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.extras.target == nil || l.extras.target.Destination() != to {
		l.extras.target = l.broker.d.opts.Sender.Target(to, deliver.TargetOptions{Namespace: namespace})
	}
	return l.extras.target
}

// String says an outcome in one line.
func (o Outcome) String() string {
	switch o.End {
	case Delivered:
		return "delivered"
	case Gone:
		return "trigger is gone"
	}
	if o.Attempts == 1 {
		return o.Failure.Reason
	}
	return fmt.Sprintf("%s after %d attempts", o.Failure.Reason, o.Attempts)
}

// Knows reports whether a trigger has a lane: it has been declared, or is known
// to the log of its Broker, and was not removed.
func (d *Dispatcher) Knows(broker, trigger channel.UID) bool { return d.laneOf(broker, trigger) != nil }
