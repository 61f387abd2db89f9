package dedup_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/dedup"
)

// asked is a broker's log that counts how often it is asked where it stands,
// which each flush does.
type asked struct {
	channel.BrokerLog
	n atomic.Int64
}

func (a *asked) Range(shard channel.ShardID) (channel.Position, channel.Position) {
	a.n.Add(1)
	return a.BrokerLog.Range(shard)
}

func TestWhatNobodyAddsToIsNotFlushedEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, world{dir: t.TempDir()})
		log := &asked{BrokerLog: s.broker}
		flushes := func(d time.Duration) int64 {
			before := log.n.Load()
			time.Sleep(d)
			return (log.n.Load() - before) / int64(len(s.broker.Shards()))
		}
		time.Sleep(time.Minute) // without a window for long
		if err := s.Set(t.Context(), dedup.Broker{UID: "b", Name: "shop/orders", Window: time.Hour, Log: log}); err != nil {
			t.Fatal(err)
		}
		for round := range 3 {
			time.Sleep(5 * time.Second)
			if n := flushes(time.Hour); n > 365 {
				t.Errorf("%d flushes in an hour in which nothing came", n)
			}
			orders := ids(2*round, 2*round+2)
			first := s.send(orders...)
			if n := flushes(3 * time.Second); n < 2 {
				t.Errorf("%d flushes in the three seconds after an event", n)
			}
			s.wantKnown(first, orders)
		}
		s.stop()
	})
}

// What is known is written within a second however long nothing had come.
func TestAnEventAfterALongRestIsWrittenWithinASecond(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, world{dir: dir, window: time.Hour})
		for n := range 5 {
			// Within the generation that a journal is of, for it to be one file.
			time.Sleep(time.Minute + time.Duration(n)*777*time.Millisecond)
			journal := files(t, dir, ".log")
			before := size(t, journal[0])
			s.send(ids(n, n+1)...)
			time.Sleep(time.Second + time.Millisecond)
			if after := size(t, journal[0]); after < before+32 {
				t.Errorf("event %d: the journal has %d bytes and had %d", n, after, before)
			}
		}
		s.stop()
	})
}
