package channeltest_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/event"
)

// phoenix is a durable log without a disk: it writes down every change that a
// memory log has taken, and the next phoenix makes them again. It shows that
// the durable stories can be told, and, with a mutation, that they notice.
type phoenix struct {
	inner *memory.Log
	risen chan struct{}

	mu      sync.Mutex   // held over each change and its note, so that they have one order
	clock   atomic.Int64 // what the inner log takes for now; its Run asks too
	journal []note
	lose    func([]note) []note // what a restart forgets; nil for nothing
}

// note is one change, to be made again.
type note struct {
	kind string
	at   int64
	redo func(*memory.Log)
}

// ashes returns what RunDurable asks for.
func ashes(lose func([]note) []note) func(*testing.T) func(*testing.T, bool) channel.Log {
	return func(*testing.T) func(*testing.T, bool) channel.Log {
		var last *phoenix
		return func(*testing.T, bool) channel.Log {
			next := &phoenix{risen: make(chan struct{}), lose: lose}
			if last != nil {
				last.mu.Lock()
				next.journal = slices.Clone(last.journal)
				last.mu.Unlock()
				if lose != nil {
					next.journal = lose(next.journal)
				}
			}
			next.inner = memory.New(memory.Options{Now: func() time.Time { return time.Unix(0, next.clock.Load()) }})
			last = next
			return next
		}
	}
}

func (p *phoenix) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- p.inner.Run(ctx) }()
	for _, n := range p.journal {
		p.clock.Store(n.at)
		n.redo(p.inner)
	}
	close(p.risen)
	return <-done
}

// change makes a change and notes it if it was made.
func (p *phoenix) change(kind string, do func(l *memory.Log) error) error {
	<-p.risen
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now().UnixNano()
	p.clock.Store(now)
	err := do(p.inner)
	if err == nil {
		p.journal = append(p.journal, note{kind, now, func(l *memory.Log) { _ = do(l) }})
	}
	return err
}

func (p *phoenix) Append(ctx context.Context, uid channel.UID, events []event.Event) (ids []channel.ID, err error) {
	err = p.change("append", func(l *memory.Log) error {
		again, err := l.Append(context.WithoutCancel(ctx), uid, events)
		if ids == nil {
			ids = again
		}
		return err
	})
	return ids, err
}

func (p *phoenix) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	var b channel.BrokerLog
	err := p.change("broker", func(l *memory.Log) (err error) {
		again, err := l.Broker(ctx, info)
		if b == nil {
			b = again
		}
		return err
	})
	return &phoenixBroker{BrokerLog: b, p: p, uid: info.UID}, err
}

func (p *phoenix) Brokers() []channel.BrokerInfo { <-p.risen; return p.inner.Brokers() }
func (p *phoenix) Ready() error                  { return p.inner.Ready() }
func (p *phoenix) Remove(ctx context.Context, uid channel.UID) error {
	return p.change("remove", func(l *memory.Log) error { return l.Remove(ctx, uid) })
}

type phoenixBroker struct {
	channel.BrokerLog
	p   *phoenix
	uid channel.UID
}

// same finds the broker in the log that a change is made in.
func (b *phoenixBroker) same(l *memory.Log) channel.BrokerLog {
	for _, info := range l.Brokers() {
		if info.UID == b.uid {
			if again, err := l.Broker(context.Background(), info); err == nil {
				return again
			}
		}
	}
	return b.BrokerLog // removed or closed: it says so itself
}

func (b *phoenixBroker) SetRoutes(ctx context.Context, change channel.Routes) (done channel.Routes, err error) {
	err = b.p.change("routes", func(l *memory.Log) error {
		again, err := b.same(l).SetRoutes(context.WithoutCancel(ctx), change)
		if done.Epoch == 0 {
			done = again
		}
		return err
	})
	return done, err
}

func (b *phoenixBroker) SaveProgress(ctx context.Context, changes []channel.ShardProgress) error {
	mine := make([]channel.ShardProgress, len(changes))
	for i, c := range changes {
		mine[i] = c
		mine[i].Lanes = slices.Clone(c.Lanes)
		for n := range mine[i].Lanes {
			l := &mine[i].Lanes[n]
			if l.Added != nil {
				l.Added = l.Added.Clone()
			}
			if l.Settled != nil {
				l.Settled = l.Settled.Clone()
			}
			l.Retries = slices.Clone(l.Retries)
		}
	}
	return b.p.change("progress", func(l *memory.Log) error { return b.same(l).SaveProgress(ctx, mine) })
}

func (b *phoenixBroker) AppendDead(ctx context.Context, letters []channel.DeadLetter) error {
	letters = slices.Clone(letters)
	return b.p.change("dead", func(l *memory.Log) error {
		return b.same(l).AppendDead(context.WithoutCancel(ctx), letters)
	})
}

func (b *phoenixBroker) DiscardDead(ctx context.Context, numbers []uint64) (discarded int, err error) {
	numbers = slices.Clone(numbers)
	first := true
	err = b.p.change("discard", func(l *memory.Log) error {
		n, err := b.same(l).DiscardDead(context.WithoutCancel(ctx), numbers)
		if first {
			discarded, first = n, false
		}
		return err
	})
	return discarded, err
}
