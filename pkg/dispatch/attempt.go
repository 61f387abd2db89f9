package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/journal"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// laneConf is how a lane delivers: the part of a Trigger that is always the
// current one, whatever the event's age.
type laneConf struct {
	deliverable bool // the trigger is ready and not held
	subscriber  *deliver.Target
	sink        *deliver.Target // dead letter sink, nil for none
	policy      deliver.Policy
	format      deliver.Format
	concurrency int
	asked       bool // its Trigger or Broker says how many
	paced       bool // the subscriber scales from zero
	steady      bool // concurrency is not adapted
	paused      bool // by annotation
	ordered     bool
	rate        float64 // attempts a second; 0: no limit
}

// storeWait is how long a lane waits before it tries again to store what must
// be stored before an event is settled: its dead letter. The lane's worker is
// held meanwhile: a broker that cannot store must not run ahead.
const storeWait = time.Second

// maxToldAnswer is how much of an answer a dead letter sink may be told.
const maxToldAnswer = 768

// attempt makes one attempt and decides what becomes of the event. It reports
// whether the event is counted out of those in flight already. r is memory for
// the request.
func (l *lane) attempt(ctx context.Context, it *item, r *deliver.Request) (done bool) {
	conf := l.shown.Load()
	if it.dead {
		l.attemptSink(ctx, it, conf)
		return false
	}
	answer, err := l.send(ctx, it, l.request(r, it, conf))
	var replies []channel.ID
	if err == nil && len(answer.Replies) > 0 {
		replies, err = l.broker.reply(ctx, l, it.event, answer.Replies)
	}
	if err != nil && ctx.Err() != nil {
		return false // cut short by our own stop: no attempt, it stays pending
	}
	l.metrics.Attempt(answer.Duration, answer.Status)
	now := l.broker.d.wall(answer.Ended)
	if err == nil {
		it.attempts++
		l.write(it, journal.Attempt{Number: it.attempts, Final: journal.Delivered, Replies: replies}, &answer, nil, 0, now)
		l.metrics.Count(telemetry.Delivered, 1)
		l.metrics.Age(max(0, now.Sub(it.accepted)))
		l.delivered(it, answer)
		return true
	}
	if wait, spared := l.report(it, conf, answer, err); spared {
		l.metrics.Count(telemetry.Spared, 1)
		l.write(it, journal.Attempt{Number: it.attempts + 1, Spared: true}, &answer, err, wait, now)
		l.again(it, wait)
		return false
	}
	it.attempts++
	l.metrics.Count(telemetry.Failed, 1)
	l.fails(it, conf, err)
	if wait, again := conf.policy.Next(it.attempts, err, rand.Float64()); again && !final(err) && !it.held {
		l.write(it, journal.Attempt{Number: it.attempts}, &answer, err, wait, now)
		l.again(it, wait)
		return false
	}
	l.write(it, journal.Attempt{Number: it.attempts}, &answer, err, 0, now)
	l.bury(ctx, it, conf, err)
	return false
}

// delivered is the end of an event that the subscriber has taken: the pace, the
// circuit and who hears of incidents are told, the event is settled and no
// longer in flight.
func (l *lane) delivered(it *item, answer deliver.Answer) {
	now := answer.Ended
	l.mu.Lock()
	l.learn(it, answer, nil, 0, now)
	before, news := l.incidents.succeeded(now)
	l.settlePosition(it.shard, it.pos, it.dead)
	l.landed()
	l.mu.Unlock()
	if news {
		l.tellWorks(it, &before, now)
	}
}

// send makes one HTTP attempt. A panic in it is a failed attempt: events and
// answers come from outside, and one of them must not take down the process
// and all that is in flight, again after each restart.
func (l *lane) send(ctx context.Context, it *item, r *deliver.Request) (answer deliver.Answer, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			answer, err = deliver.Answer{Ended: time.Now()}, fmt.Errorf("attempt panicked: %v", cause)
			l.broker.d.log.Error("attempt panicked", "broker", l.broker.name, "trigger", l.name,
				"id", l.broker.id(it.shard, it.pos).String(), "err", err, "stack", telemetry.Stack(debug.Stack()))
		}
	}()
	return l.broker.d.opts.Sender.Send(ctx, r)
}

// request fills in r.
func (l *lane) request(r *deliver.Request, it *item, conf *laneConf) *deliver.Request {
	*r = deliver.Request{
		Target:  conf.subscriber,
		Event:   it.event,
		Format:  conf.format,
		Timeout: conf.policy.Timeout,
		Overlay: withoutTTL,
	}
	return r
}

// bury keeps an event that will not be delivered as a dead letter. Only when
// it is stored does the event leave the lane, or go on to the sink.
func (l *lane) bury(ctx context.Context, it *item, conf *laneConf, cause error) {
	letter := l.letter(it, conf, cause)
	for {
		if !l.holds(it) {
			return // cancelled: nobody is left to look at its dead letter
		}
		err := l.broker.log.AppendDead(ctx, []channel.DeadLetter{letter})
		if err == nil {
			break
		}
		l.broker.d.log.Warn("dead letter cannot be stored yet", "broker", l.broker.name, "trigger", l.name,
			"id", letter.ID.String(), "err", err)
		if !wait(l.broker.ctx, retryAfter(err, storeWait)) {
			return // it stays pending and is tried again after the restart
		}
	}
	l.died(&letter)
	l.buried(it)
	if conf.sink == nil {
		l.settle(it)
		return
	}
	it.attempts, it.failure = 0, failureOf(&letter)
	l.attemptSink(ctx, it, conf)
}

// died tells of a dead letter that is stored.
func (l *lane) died(letter *channel.DeadLetter) {
	l.metrics.Count(telemetry.Dead, 1)
	l.broker.d.log.Warn("event is dead", "broker", l.broker.name, "trigger", l.name, "id", letter.ID.String(),
		"attempt", letter.Attempts, "reason", letter.Reason)
	l.journal.End(letter.ID, letter.Died, journal.Dead, letter.Reason)
	l.dies(letter)
}

// letter says what died and of what.
func (l *lane) letter(it *item, conf *laneConf, cause error) channel.DeadLetter {
	failure := deliver.FailureOf(conf.subscriber, cause)
	return channel.DeadLetter{
		ID:          l.broker.id(it.shard, it.pos),
		Trigger:     l.uid,
		TriggerName: l.name,
		Accepted:    it.accepted,
		Died:        l.broker.d.opts.Now(),
		Attempts:    it.attempts,
		Reason:      reasonOf(it, failure.Reason),
		Code:        failure.Status,
		Destination: failure.Destination,
		Answer:      failure.Body,
		Event:       it.event,
	}
}

// failureOf is what the dead letter sink is told, with no more of the answer
// than it can be told: many may wait for a sink that is down.
func failureOf(letter *channel.DeadLetter) *deliver.Failure {
	return &deliver.Failure{
		Destination: letter.Destination,
		Status:      letter.Code,
		Reason:      letter.Reason,
		Body:        bytes.Clone(letter.Answer[:min(len(letter.Answer), maxToldAnswer)]),
	}
}

// attemptSink hands a dead event to the dead letter sink by the same retry
// rules. The broker has its own copy, so a sink that never takes it loses
// nothing but its own view.
func (l *lane) attemptSink(ctx context.Context, it *item, conf *laneConf) {
	if conf.sink == nil {
		l.settle(it)
		return
	}
	failure := it.failure
	if failure == nil {
		// It died before a restart: only the broker's own dead letter knows of what.
		failure = &deliver.Failure{Destination: conf.subscriber.Destination(), Reason: "see the broker's own dead letter"}
	}
	answer, err := l.send(ctx, it, &deliver.Request{
		Target:  conf.sink,
		Event:   it.event,
		Format:  conf.format,
		Timeout: conf.policy.Timeout,
		Overlay: failure.Overlay(),
	})
	if err != nil && ctx.Err() != nil {
		return
	}
	it.attempts++
	now := l.broker.d.opts.Now()
	made := journal.Attempt{Number: it.attempts, Sink: true}
	if err == nil {
		l.write(it, made, &answer, nil, 0, now)
		l.settle(it)
		return
	}
	if wait, again := conf.policy.Next(it.attempts, err, rand.Float64()); again {
		l.write(it, made, &answer, err, wait, now)
		l.again(it, wait)
		return
	}
	l.write(it, made, &answer, err, 0, now)
	l.metrics.SinkFailed()
	l.broker.d.log.Warn("dead letter sink does not take the event; the broker keeps it", "broker", l.broker.name,
		"trigger", l.name, "id", l.broker.id(it.shard, it.pos).String(), "attempt", it.attempts, "err", err)
	l.settle(it)
}

// withoutTTL hides the loop counter from subscribers, as Knative's filter does.
var withoutTTL = &event.Overlay{Hide: []string{event.ExtTTL}}

// wait waits, and reports false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryAfter is the wait that a refusal asks for, or at least.
func retryAfter(err error, least time.Duration) time.Duration {
	var refused *channel.Refused
	if errors.As(err, &refused) {
		return max(least, refused.RetryAfter)
	}
	return least
}
