package rerun_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/rerun"
)

// meter is a log and a subscriber that count the events between the two.
type meter struct {
	channel.BrokerLog

	mu         sync.Mutex
	held, most int
	got        []string
	damaged    bool // positions 11 to 20 of shard 1 cannot be read
}

func (m *meter) take(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held += n
	m.most = max(m.most, m.held)
}

func (m *meter) Read(ctx context.Context, shard channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	if m.damaged && shard == 1 && from <= 20 {
		if from < 11 { // what is good before it comes first
			records, next, err := m.BrokerLog.Read(ctx, shard, from, buf[:len(buf):min(cap(buf), len(buf)+int(11-from))])
			return records, next, err
		}
		return buf, 21, &channel.GapError{Shard: 1, From: 11, To: 21, Cause: errors.New("bad checksum")}
	}
	records, next, err := m.BrokerLog.Read(ctx, shard, from, buf)
	m.take(len(records))
	return records, next, err
}

func (m *meter) Dead(ctx context.Context, trigger channel.UID, after string, limit int) ([]channel.DeadLetter, string, error) {
	letters, next, err := m.BrokerLog.Dead(ctx, trigger, after, limit)
	m.take(len(letters))
	return letters, next, err
}

func (m *meter) Knows(_, _ channel.UID) bool { return true }

func (m *meter) Deliver(_ context.Context, _ channel.UID, x dispatch.Extra) (dispatch.Outcome, error) {
	time.Sleep(time.Millisecond)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held--
	m.got = append(m.got, x.Event.ID())
	return dispatch.Outcome{End: dispatch.Delivered, Attempts: 1}, nil
}

func TestJobsHoldFewEventsHoweverManyTheyGoThrough(t *testing.T) {
	const many = 20_000
	synctest.Test(t, func(t *testing.T) {
		log := memory.New(memory.Options{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- log.Run(ctx) }()
		w := &world{t: t, kind: config.ChannelMemory, log: log, objects: map[string]*config.Object{}}
		w.trigger("orders", "shop")
		objects := []*config.Object{{Kind: config.KindBroker, Namespace: "default", Name: "default", UID: brokerUID, Broker: &config.BrokerSpec{}}, w.objects["orders"]}
		snapshot := config.Compile(objects, config.Options{DefaultChannel: config.ChannelMemory})
		b, _ := snapshot.Broker("default", "default")
		opened, err := log.Broker(ctx, b.Info())
		if err != nil {
			t.Fatal(err)
		}
		m := &meter{BrokerLog: opened}
		jobs, err := rerun.New(rerun.Options{
			Snapshot: func() *config.Snapshot { return snapshot }, Deliverer: m, Logger: slog.New(slog.DiscardHandler),
			Log: func(channel.UID) (channel.BrokerLog, bool) { return m, true },
		})
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- jobs.Run(ctx) }()
		w.jobs = jobs
		if _, err := opened.SetRoutes(ctx, channel.Routes{Set: []channel.Route{{Trigger: "t-orders", Name: orders, Filter: []byte("{}")}}}); err != nil {
			t.Fatal(err)
		}
		var names []string
		for range many / 100 {
			names = append(names, w.send(100)...)
		}
		for i, name := range names {
			var builder event.Builder
			e, err := builder.Set(event.AttrID, name).Set(event.AttrSource, "/s").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t").Build()
			if err != nil {
				t.Fatal(err)
			}
			l := channel.DeadLetter{ID: channel.ID{Shard: channel.ShardID(i % 4), Position: channel.Position(i/4 + 1)}, Trigger: "t-orders", TriggerName: orders, Died: time.Now(), Event: e}
			if err := opened.AppendDead(ctx, []channel.DeadLetter{l}); err != nil {
				t.Fatal(err)
			}
		}
		for kind, bound := range map[string]int{v1.JobReplay: 1000, v1.JobRedrive: 1000} {
			m.mu.Lock()
			m.held, m.most, m.got = 0, 0, nil
			m.mu.Unlock()
			j := w.ended(w.begin(kind, v1.JobRequest{Trigger: orders}).ID)
			slices.Sort(m.got)
			if j.Delivered != many || !slices.Equal(m.got, names) {
				t.Errorf("%s: %d delivered of %d: %s", kind, j.Delivered, many, j.Error)
			}
			if m.most > bound {
				t.Errorf("%s of %d events held %d at once, want at most %d", kind, many, m.most, bound)
			}
		}
		m.damaged = true
		j := w.ended(w.begin(v1.JobReplay, v1.JobRequest{Trigger: orders}).ID)
		if j.State != v1.JobDone || j.Delivered != many-10 || j.Unreadable != 10 || len(j.Gaps) != 1 || !strings.Contains(j.Gaps[0], "events 1-11 to 1-20 cannot be read: bad checksum") {
			t.Errorf("over a gap: %+v", j)
		}
		if n := opened.DeadCount(""); n != 0 {
			t.Errorf("%d dead letters left", n)
		}
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
