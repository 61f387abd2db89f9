package disk

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// finds is whether a log's examination says so severely with these words.
func finds(l *Log, s channel.Severity, words ...string) bool {
	return says(Report{Findings: l.Examine()}, s, words...)
}

// sharedVolume is a volume that others fill and empty.
type sharedVolume struct {
	quickFS
	total int64
	free  *atomic.Int64
}

func (f sharedVolume) Space(string) (int64, int64, error) { return f.total, f.free.Load(), nil }

func TestVolumeThatOthersFillIsMetByARefusalAndUsedAgainByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := new(atomic.Int64)
		const total = 100 * minSegmentSize // so a segment is the mark, and not a twentieth
		free.Store(total)
		o := tiny
		o.FS, o.MaxBytes = sharedVolume{total: total, free: free}, 90*minSegmentSize
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		try := func() error {
			time.Sleep(2 * time.Second)
			_, err := r.Append(t.Context(), "b", []event.Event{made(t, "x", 100)})
			return err
		}
		for _, step := range []struct {
			free int64
			ok   bool
		}{
			{minSegmentSize, true}, {minSegmentSize - 1, false}, {minSegmentSize, false}, {2*minSegmentSize - 1, false},
			{2 * minSegmentSize, true}, {minSegmentSize, true}, {0, false}, {total, true},
		} {
			free.Store(step.free)
			err := try()
			if (err == nil) != step.ok || err != nil && !errors.Is(err, channel.ErrQuota) {
				t.Fatalf("%d of %d bytes free: %v", step.free, total, err)
			}
			if why := r.Health().Full; (why == "") != step.ok || !step.ok && !finds(r.Log, channel.Problem, "bytes free", "507") {
				t.Errorf("%d bytes free: health says %q, %+v", step.free, why, r.Examine())
			}
			// The rest of the segment is there for what deliveries must store.
			if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: channel.ID{Position: 1}, Trigger: "t", Event: made(t, "x", 100)}}); err != nil {
				t.Errorf("%d bytes free: dead letter: %v", step.free, err)
			}
		}
		r.stop()
	})
}

func TestHealthTellsALatchedLogAndWhatToDo(t *testing.T) {
	fs := newFault(0, syscall.EIO, false)
	o := tiny
	o.FS = fs
	r := start(t, t.TempDir(), o)
	r.broker(channel.BrokerInfo{UID: "b"})
	if err := r.Latched(); err != nil || !finds(r.Log, channel.OK, "log") {
		t.Fatalf("a good log: %v, %+v", err, r.Examine())
	}
	fs.left.Store(2) // the write succeeds, its sync does not
	if _, err := r.Append(context.Background(), "b", []event.Event{made(t, "lost", 10)}); !errors.Is(err, channel.ErrUnknown) {
		t.Fatalf("append: %v", err)
	}
	if err := r.Latched(); !errors.Is(err, syscall.EIO) {
		t.Errorf("latched: %v", err)
	}
	if !finds(r.Log, channel.Problem, "log", syscall.EIO.Error(), "503", "restart") {
		t.Errorf("%+v", r.Examine())
	}
}

func TestHealthTellsAClockThatWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Int64
		o := tiny
		o.Now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		r := start(t, t.TempDir(), o)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		r.append("b", 10, "before")
		time.Sleep(2 * time.Second)
		if ahead := r.Health().ClockAhead; ahead != 0 {
			t.Errorf("a good clock is %v behind", ahead)
		}
		back.Store(int64(time.Hour))
		time.Sleep(2 * time.Second)
		if ahead := r.Health().ClockAhead; ahead < 59*time.Minute || ahead > time.Hour {
			t.Errorf("a clock set back by an hour is %v behind", ahead)
		}
		if !finds(r.Log, channel.Warning, "clock", "behind", "NTP") {
			t.Errorf("%+v", r.Examine())
		}
		r.stop()
	})
}

func TestHealthCountsWhatIsThere(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	fill(r, 100, 2, 4000)
	h := r.Health()
	if h.Segments < 8 || h.Bytes < 800_000 || h.SyncP50 < 0 || h.SyncP99 < h.SyncP50 || h.Checkpoint.Bytes == 0 || h.Checkpoint.At.IsZero() || h.SegmentSize != minSegmentSize {
		t.Errorf("%+v", h)
	}
	for _, f := range r.Examine() {
		if f.Severity != channel.OK {
			t.Errorf("a healthy log has %+v", f)
		}
	}
}

func TestQuantilesAreOfTheNewestThousand(t *testing.T) {
	var d durations
	for range 5000 {
		d.add(time.Hour)
	}
	for i := range 1000 {
		d.add(time.Duration(i+1) * time.Millisecond)
	}
	if p50, p99 := d.quantiles(); p50 != 500*time.Millisecond || p99 != 990*time.Millisecond {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}
