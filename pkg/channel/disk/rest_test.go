package disk

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// watched is a volume that counts how often somebody looks at it.
type watched struct {
	sharedVolume
	looks *atomic.Int64
}

func (f watched) Space(dir string) (int64, int64, error) {
	f.looks.Add(1)
	return f.sharedVolume.Space(dir)
}

const watchedTotal = 100 * minSegmentSize

func watch(t *testing.T) (*running, watched) {
	fs := watched{sharedVolume{total: watchedTotal, free: new(atomic.Int64)}, new(atomic.Int64)}
	fs.free.Store(watchedTotal)
	o := tiny
	o.FS, o.MaxBytes = fs, 90*minSegmentSize
	return start(t, t.TempDir(), o), fs
}

func TestALogThatHasNothingToDoRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fs := watch(t)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		time.Sleep(10 * time.Second)
		for range 3 {
			before := fs.looks.Load()
			time.Sleep(time.Hour)
			if n := fs.looks.Load() - before; n > 61 {
				t.Errorf("housekeeping looked at the volume %d times in an hour in which nothing happened", n)
			}
			before = fs.looks.Load()
			if _, err := r.Append(t.Context(), "b", []event.Event{made(t, "x", 100)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			if n := fs.looks.Load() - before; n < 1 || n > 10 {
				t.Errorf("housekeeping looked %d times in the three seconds after an event", n)
			}
			time.Sleep(10 * time.Second)
		}
		r.stop()
	})
}

// Whoever asks a log at rest hears what is, and not what was a minute ago.
func TestALogAtRestKnowsOfAVolumeThatFillsUp(t *testing.T) {
	for what, tells := range map[string]func(l *Log) bool{
		"ready":  func(l *Log) bool { return errors.Is(l.Ready(), channel.ErrQuota) },
		"health": func(l *Log) bool { return l.Health().Full != "" && finds(l, channel.Problem, "bytes free") },
	} {
		synctest.Test(t, func(t *testing.T) {
			r, fs := watch(t)
			r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
			time.Sleep(10*time.Second + 500*time.Millisecond)
			fs.free.Store(0)
			if !tells(r.Log) {
				t.Errorf("%s does not tell of a full volume", what)
			}
			fs.free.Store(watchedTotal) // there is room again, and nobody asks
			time.Sleep(2 * tickEvery)
			if _, err := r.Append(t.Context(), "b", []event.Event{made(t, "x", 100)}); err != nil {
				t.Errorf("two seconds after there was room: %v", err)
			}
			r.stop()
		})
	}
}

// An event that comes first onto a volume that was filled meanwhile has its
// place already; the ones behind it are refused as if the log had never rested.
func TestALogThatWakesLooksAtTheVolumeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fs := watch(t)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		time.Sleep(10*time.Second + 500*time.Millisecond)
		fs.free.Store(0)
		if _, err := r.Append(t.Context(), "b", []event.Event{made(t, "x", 100)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := r.Append(t.Context(), "b", []event.Event{made(t, "x", 100)}); !errors.Is(err, channel.ErrQuota) {
			t.Errorf("the second event on a full volume: %v", err)
		}
		r.stop()
	})
}

// Retained events are as good as gone when their time is over, rest or not.
func TestRetainedEventsGoInTimeFromALogAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retention = 90*time.Second + 500*time.Millisecond
		o := tiny
		o.Now = time.Now
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1, Retention: retention, RetentionBytes: 1 << 30})
		for range 20 {
			if _, err := r.Append(t.Context(), "b", []event.Event{made(t, "x", 10_000)}); err != nil {
				t.Fatal(err)
			}
		}
		_, next := b.Range(0)
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: 0, Scanned: next}}); err != nil {
			t.Fatal(err)
		}
		if n := r.Health().Segments; n < 3 {
			t.Fatalf("%d segments: the test shows nothing", n)
		}
		time.Sleep(retention - time.Second)
		if n := r.Health().Segments; n < 3 {
			t.Errorf("%d segments are left though all is retained", n)
		}
		time.Sleep(time.Second + collectEvery + 2*tickEvery)
		if n := r.Health().Segments; n != 1 {
			t.Errorf("%d segments are left seconds after the retention", n)
		}
		r.stop()
	})
}

// What is settled a moment after housekeeping looked goes a few seconds later,
// and not when it has rested.
func TestALogDoesNotRestBeforeWhatIsSettledIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		time.Sleep(time.Minute) // it rests, and looks at the first event
		for range 20 {
			if _, err := r.Append(t.Context(), "b", []event.Event{made(t, "x", 10_000)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		_, next := b.Range(0)
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: 0, Scanned: next}}); err != nil {
			t.Fatal(err)
		}
		if n := r.Health().Segments; n < 3 {
			t.Fatalf("%d segments: the test shows nothing", n)
		}
		time.Sleep(collectEvery + 2*tickEvery)
		if n := r.Health().Segments; n != 1 {
			t.Errorf("%d segments are left though all is settled", n)
		}
		r.stop()
	})
}
