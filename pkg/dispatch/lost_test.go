package dispatch_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// holed is a log that cannot read one position any more, and after a while
// says that it never will.
type holed struct {
	channel.Log
	at       channel.ID
	declared atomic.Bool
}

type holedBroker struct {
	channel.BrokerLog
	of *holed
}

func (l *holed) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	b, err := l.Log.Broker(ctx, info)
	return &holedBroker{b, l}, err
}

func (b *holedBroker) Get(ctx context.Context, shard channel.ShardID, positions []channel.Position, buf []channel.Record) ([]channel.Record, error) {
	at := slices.Index(positions, b.of.at.Position)
	if shard != b.of.at.Shard || at < 0 {
		return b.BrokerLog.Get(ctx, shard, positions, buf)
	}
	gap := &channel.GapError{Shard: shard, From: positions[at], To: positions[at] + 1, Lost: b.of.declared.Load(), Cause: errors.New("bad checksum")}
	buf, err := b.BrokerLog.Get(ctx, shard, slices.Delete(slices.Clone(positions), at, at+1), buf)
	return buf, errors.Join(err, gap)
}

func TestAnEventThatIsDeclaredLostEndsWhereItIsSeen(t *testing.T) {
	inWorld(t, func(w *world) {
		log := &holed{Log: w.log, at: channel.ID{Position: 1}}
		w.log = log
		lost := func() uint64 { return w.metrics.Lane("default/default", "default/away").Total(telemetry.Lost) }
		w.subscribe("away", status(http.StatusServiceUnavailable))
		w.trigger("away", "", "away", delivery(5, "linear", "PT1M"))
		w.run()
		w.send("order", 8)
		w.after(time.Minute)
		before, _ := w.pendingInLog()
		if n := lost(); n != 0 || before != 8 {
			t.Errorf("%d events are lost and %d pending while the log may still find them", n, before)
		}
		log.declared.Store(true)
		w.after(10 * time.Minute)
		if n := lost(); n != 1 {
			t.Errorf("%d events are counted lost, want 1", n)
		}
		if n, _ := w.pendingInLog(); n != 7 {
			t.Errorf("%d events are pending, want the other 7", n)
		}
	})
}
