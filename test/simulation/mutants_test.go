package simulation_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/proof"
)

// forgetful is a log that acknowledges now and then what it does not store.
type forgetful struct {
	channel.Log
	n atomic.Int64
}

func (l *forgetful) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	if l.n.Add(1)%20 == 0 {
		return make([]channel.Stored, len(events)), nil
	}
	return l.Log.Append(ctx, uid, events)
}

// early is a log that settles everything as soon as it is offered: what was
// in flight at a crash is never made again.
type early struct{ channel.Log }

type earlyBroker struct{ channel.BrokerLog }

func (l early) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	b, err := l.Log.Broker(ctx, info)
	return earlyBroker{b}, err
}

func (b earlyBroker) SaveProgress(ctx context.Context, changes []channel.ShardProgress) error {
	settled := slices.Clone(changes)
	for i := range settled {
		settled[i].Lanes = nil
	}
	return b.BrokerLog.SaveProgress(ctx, settled)
}

// careless is a lane that forgets a retry: an attempt that failed counts for
// it as one that did not.
type careless struct{ dispatch.Sender }

func (s careless) Send(ctx context.Context, r *deliver.Request) (deliver.Answer, error) {
	a, err := s.Sender.Send(ctx, r)
	if err != nil && ctx.Err() == nil && rand.IntN(10) == 0 {
		err = nil
	}
	return a, err
}

// hasty makes a failed attempt again at once, and does not count it.
type hasty struct{ dispatch.Sender }

func (s hasty) Send(ctx context.Context, r *deliver.Request) (deliver.Answer, error) {
	a, err := s.Sender.Send(ctx, r)
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return s.Sender.Send(ctx, r)
	}
	return a, err
}

// twofold delivers some events twice.
type twofold struct{ dispatch.Sender }

func (s twofold) Send(ctx context.Context, r *deliver.Request) (deliver.Answer, error) {
	a, err := s.Sender.Send(ctx, r)
	if err == nil && rand.IntN(20) == 0 {
		return s.Sender.Send(ctx, r)
	}
	return a, err
}

// TestTheCheckerFindsOutBrokersThatBreakAPromise plays the same scripts with
// brokers that are wrong in one thing. Each is found out within a few runs, by
// the invariant that it breaks.
func TestTheCheckerFindsOutBrokersThatBreakAPromise(t *testing.T) {
	senders := func(of func(dispatch.Sender) dispatch.Sender) mutant { return mutant{sender: of} }
	for name, m := range map[string]struct {
		mutant
		breaks string
	}{
		"acknowledges what it does not store": {mutant{log: func(l channel.Log) channel.Log { return &forgetful{Log: l} }}, "I1"},
		"does not sync":                       {mutant{noSync: true}, "I1"},
		"settles what is under way":           {mutant{log: func(l channel.Log) channel.Log { return early{l} }}, "I1"},
		"forgets retries":                     {senders(func(s dispatch.Sender) dispatch.Sender { return careless{s} }), "I1"},
		"tries again at once":                 {senders(func(s dispatch.Sender) dispatch.Sender { return hasty{s} }), "I7"},
		"delivers twice":                      {senders(func(s dispatch.Sender) dispatch.Sender { return twofold{s} }), "I6"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 60
			for n := range most {
				verdict, refusal := inWorld(t, uint64(n), m.mutant, draw(proof.Rand(11, n)).play)
				if refusal != nil {
					t.Logf("found out in run %d by itself: %v", n+1, refusal)
					return
				}
				if slices.Contains(verdict.Violated(), m.breaks) {
					t.Logf("found out in run %d: %v", n+1, verdict.Violated())
					return
				}
			}
			t.Errorf("not found out by %s in %d runs", m.breaks, most)
		})
	}
}
