// Package owned gives the shards of a log the numbers that are its process's
// own. A dispatcher's log numbers its shards 0 to k-1, as every other's does;
// behind New they are first to first+k-1 in all that goes in and comes out, so
// that an event's id, {shard}-{position}, names one event among all
// dispatchers.
//
// The convention on Kubernetes is First: the dispatcher with ordinal i has the
// shards from 16*i, four for each Broker and never more than 16. It is part of
// what is stored, for ids are in people's hands.
//
// Only the numbers change. Where an event goes within the log is decided by
// the log on its own numbers (so channel.Home, asked with the numbers seen
// here, may say otherwise), and nothing stored knows of first: a volume must
// come back under the ordinal it had, which a StatefulSet sees to. What the
// caller passed and what the log owns is not changed; where numbers must
// change, they do so in a copy.
//
// Everything may be called by as many goroutines as the log allows.
package owned

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// PerOwner is how many shard numbers each dispatcher has for a Broker.
const PerOwner = 16

// First is the first shard of the dispatcher with this ordinal.
func First(ordinal int) channel.ShardID { return channel.ShardID(ordinal) * PerOwner }

// Ordinal is that of the dispatcher which has a shard.
func Ordinal(shard channel.ShardID) int { return int(shard / PerOwner) }

// New returns log with its shards numbered from first. If log is a
// channel.Examiner, or has a method Latched() error, so does what New returns.
// Unwrap finds the log again.
func New(log channel.Log, first channel.ShardID) channel.Log {
	l := &ownedLog{inner: log, first: first, brokers: make(map[channel.UID]*broker)}
	examiner, examines := log.(channel.Examiner)
	latch, latches := log.(latcher)
	switch {
	case examines && latches:
		return struct {
			*ownedLog
			channel.Examiner
			latcher
		}{l, examiner, latch}
	case examines:
		return struct {
			*ownedLog
			channel.Examiner
		}{l, examiner}
	case latches:
		return struct {
			*ownedLog
			latcher
		}{l, latch}
	}
	return l
}

// Unwrap is the log behind one that New returned, any other log itself.
func Unwrap(log channel.Log) channel.Log {
	if l, ok := log.(interface{ unwrap() channel.Log }); ok {
		return l.unwrap()
	}
	return log
}

// latcher is a log that may stop until its process starts again.
type latcher interface{ Latched() error }

type ownedLog struct {
	inner channel.Log
	first channel.ShardID

	mu      sync.Mutex
	brokers map[channel.UID]*broker // so that one BrokerLog stays one
}

func (l *ownedLog) unwrap() channel.Log { return l.inner }

// Append implements channel.Appender.
func (l *ownedLog) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	ids, err := l.inner.Append(ctx, uid, events)
	for i := range ids {
		ids[i].Shard += l.first // the caller's by contract: no log keeps the slice
	}
	return ids, err
}

// Run implements channel.Log.
func (l *ownedLog) Run(ctx context.Context) error { return l.inner.Run(ctx) }

// Broker implements channel.Log. A Broker with more than PerOwner shards would
// take another dispatcher's numbers, and is an error.
func (l *ownedLog) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	if info.Shards > PerOwner {
		return nil, fmt.Errorf("open broker %s: %d shards, want at most %d", info.Name, info.Shards, PerOwner)
	}
	b, err := l.inner.Broker(ctx, info)
	if err != nil {
		return nil, err
	}
	return l.wrap(info.UID, b)
}

// wrap is the one broker around b.
func (l *ownedLog) wrap(uid channel.UID, b channel.BrokerLog) (channel.BrokerLog, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.brokers[uid]; known != nil && known.BrokerLog == b {
		return known, nil
	}
	shards := slices.Clone(b.Shards())
	for i, shard := range shards {
		if shard >= PerOwner {
			return nil, fmt.Errorf("open broker %s: it has %d shards, want at most %d", b.Info().Name, len(shards), PerOwner)
		}
		shards[i] += l.first
	}
	l.brokers[uid] = &broker{BrokerLog: b, first: l.first, shards: shards}
	return l.brokers[uid], nil
}

// Brokers implements channel.Log.
func (l *ownedLog) Brokers() []channel.BrokerInfo { return l.inner.Brokers() }

// Remove implements channel.Log.
func (l *ownedLog) Remove(ctx context.Context, uid channel.UID) error {
	err := l.inner.Remove(ctx, uid)
	if err == nil {
		l.mu.Lock()
		delete(l.brokers, uid)
		l.mu.Unlock()
	}
	return err
}

// Ready implements channel.Log.
func (l *ownedLog) Ready() error { return l.inner.Ready() }
