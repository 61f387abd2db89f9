package channeltest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func lifeStories() []story {
	return []story{
		{"BrokerKeepsItsShards", brokerKeepsItsShards},
		{"BrokersAreListed", brokersAreListed},
		{"RemovedBrokerIsGone", removedBrokerIsGone},
		{"ClosedLogSaysSo", closedLogSaysSo},
	}
}

// unstarted are the stories that begin before Run is called.
func unstarted() map[string]func(*suite, *testing.T, channel.Log) {
	return map[string]func(*suite, *testing.T, channel.Log){
		"AppendAndReadWaitForRun":      waitForRun,
		"AppendBeforeRunMayGiveUp":     giveUpBeforeRun,
		"RunThatIsOverAtOnceStillEnds": runOverAtOnce,
	}
}

func brokerKeepsItsShards(w *world) {
	four := w.brokerOf(channel.BrokerInfo{UID: "four", Name: "default/four"})
	if got := four.Shards(); len(got) != 4 || !slices.IsSorted(got) || four.Info().Shards != 4 {
		w.t.Errorf("shards of a broker that asked for none: %v, info says %d", got, four.Info().Shards)
	}
	seven := w.brokerOf(channel.BrokerInfo{UID: "seven", Shards: 7, Name: "default/old"})
	if got := seven.Shards(); len(got) != 7 || seven.Info().Shards != 7 {
		w.t.Errorf("7 shards asked for, got %v, info says %d", got, seven.Info().Shards)
	}
	all := w.appendMany("seven", "kept", 20, 10)
	again := channel.BrokerInfo{UID: "seven", Shards: 2, Name: "default/new", Retention: time.Hour, RetentionBytes: 5 << 20, MaxBytes: 30 << 20}
	b := w.brokerOf(again)
	if b != seven {
		w.t.Error("a broker opened again is another BrokerLog")
	}
	again.Shards = 7
	if got := b.Info(); got != again {
		w.t.Errorf("opened with %+v, info says %+v", again, got)
	}
	if got := b.Stats().MaxBytes; got != again.MaxBytes {
		w.t.Errorf("opened with a bound of %d, stats say %d", again.MaxBytes, got)
	}
	w.wantExactly(b, all)
}

func brokersAreListed(w *world) {
	if got := w.log.Brokers(); len(got) != 0 {
		w.t.Errorf("a new log has brokers: %v", got)
	}
	w.broker("a")
	w.broker("b")
	var uids []channel.UID
	for _, info := range w.log.Brokers() {
		uids = append(uids, info.UID)
		if info.Name != "default/"+string(info.UID) || info.Shards != 4 {
			w.t.Errorf("listed as %+v", info)
		}
	}
	slices.Sort(uids)
	if !slices.Equal(uids, []channel.UID{"a", "b"}) {
		w.t.Errorf("brokers a and b are listed as %v", uids)
	}
	w.appendMany("a", "ready", 1, 1) // the first append waits until the log runs
	if err := w.log.Ready(); err != nil {
		w.t.Errorf("a log that runs is not ready: %v", err)
	}
}

func removedBrokerIsGone(w *world) {
	b := w.broker("a")
	kept := w.broker("b")
	ofB := w.appendMany("b", "kept", 10, 10)
	e := anEvent("1", 1)
	id := w.append("a", e)[0]
	w.setRoutes(b, channel.Routes{Whole: true, Set: []channel.Route{route("t", "")}})
	w.die(b, deadLetter(id, "t", e))
	_, next := b.Range(id.Shard)
	got := w.readAside(w.t.Context(), b, id.Shard, next)
	w.wantWaiting(got, "with all events read")

	if err := w.log.Remove(w.t.Context(), "a"); err != nil {
		w.t.Fatalf("remove: %v", err)
	}
	if a := <-got; !errors.Is(a.err, channel.ErrNoBroker) {
		w.t.Errorf("the read under way ended with %v", a.err)
	}
	w.wantEverythingFails(b, channel.ErrNoBroker)
	_, err := w.Append(w.t.Context(), "a", []event.Event{e})
	w.wantRefused(err, channel.ErrNoBroker)
	if brokers := w.log.Brokers(); len(brokers) != 1 || brokers[0].UID != "b" {
		w.t.Errorf("a is removed, b is kept, listed are %v", brokers)
	}
	for _, uid := range []channel.UID{"a", "never there"} {
		if err := w.log.Remove(w.t.Context(), uid); err != nil {
			w.t.Errorf("remove %s, which is not there: %v", uid, err)
		}
	}
	w.wantExactly(kept, ofB)

	b = w.broker("a")
	w.wantExactly(b, stored{})
	w.wantDead(b, "", 10, nil)
	if routes := b.Routes(); len(routes) != 0 {
		w.t.Errorf("a new broker of a removed one's uid has routes %v", routes)
	}
	for _, shard := range b.Shards() {
		if p := b.Progress(shard); len(p.Lanes) != 0 {
			w.t.Errorf("a new broker of a removed one's uid has progress %s", describe(p))
		}
	}
	w.wantExactly(b, w.appendMany("a", "new", 10, 10))
}

// wantEverythingFails checks that each method which can answers with reason.
func (w *world) wantEverythingFails(b channel.BrokerLog, reason error) {
	w.t.Helper()
	ctx := context.Background()
	e := anEvent("late", 1)
	_, _, readErr := b.Read(ctx, b.Shards()[0], 0, make([]channel.Record, 0, 1))
	_, getErr := b.Get(ctx, b.Shards()[0], []channel.Position{1}, nil)
	_, routesErr := b.SetRoutes(ctx, channel.Routes{Whole: true})
	_, _, deadErr := b.Dead(ctx, "", "", 1)
	_, numberErr := b.DeadByNumber(ctx, []uint64{1})
	_, _, findErr := b.FindDead(ctx, "t", channel.ID{Shard: b.Shards()[0], Position: 1})
	_, groupsErr := b.DeadGroups(ctx, "")
	_, discardErr := b.DiscardDead(ctx, []uint64{1})
	for call, err := range map[string]error{
		"Read": readErr, "Get": getErr, "SetRoutes": routesErr, "Dead": deadErr,
		"DeadByNumber": numberErr, "FindDead": findErr, "DeadGroups": groupsErr, "DiscardDead": discardErr,
		"SaveProgress": b.SaveProgress(ctx, []channel.ShardProgress{{Shard: b.Shards()[0], Scanned: 1}}),
		"AppendDead":   b.AppendDead(ctx, []channel.DeadLetter{deadLetter(channel.ID{Shard: b.Shards()[0], Position: 1}, "t", e)}),
	} {
		if !errors.Is(err, reason) {
			w.t.Errorf("%s answers %v, want an error that wraps %q", call, err, reason)
		}
	}
}

func closedLogSaysSo(w *world) {
	b := w.broker("a")
	w.appendMany("a", "before", 10, 10)
	shard := b.Shards()[0]
	_, next := b.Range(shard)
	got := w.readAside(w.t.Context(), b, shard, next)
	w.wantWaiting(got, "with all events read")
	w.stop()
	if a := <-got; !errors.Is(a.err, channel.ErrClosed) {
		w.t.Errorf("the read under way ended with %v", a.err)
	}
	w.wantEverythingFails(b, channel.ErrClosed)
	_, err := w.Append(w.t.Context(), "a", []event.Event{anEvent("late", 1)})
	w.wantRefused(err, channel.ErrUnavailable)
	if !errors.Is(err, channel.ErrClosed) {
		w.t.Errorf("append answers %v, want ErrClosed as its cause", err)
	}
	if _, err := w.log.Broker(w.t.Context(), channel.BrokerInfo{UID: "b"}); !errors.Is(err, channel.ErrClosed) {
		w.t.Errorf("opening a broker answers %v", err)
	}
	if err := w.log.Ready(); !errors.Is(err, channel.ErrClosed) {
		w.t.Errorf("a closed log is ready, or not for this reason: %v", err)
	}
}

func waitForRun(s *suite, t *testing.T, log channel.Log) {
	type outcome struct {
		records []channel.Record
		err     error
	}
	appended, read := make(chan error, 1), make(chan outcome, 1)
	go func() {
		// Opening a broker may wait for Run as well.
		b, err := log.Broker(t.Context(), channel.BrokerInfo{UID: "a", Shards: 1})
		if err != nil {
			appended <- err
			read <- outcome{}
			return
		}
		go func() {
			records, _, err := b.Read(t.Context(), b.Shards()[0], 0, make([]channel.Record, 0, 1))
			read <- outcome{records, err}
		}()
		_, err = log.Append(t.Context(), "a", []event.Event{anEvent("early", 1)})
		appended <- err
	}()
	s.settle()
	select {
	case err := <-appended:
		t.Fatalf("append answered %v before Run was called", err)
	case r := <-read:
		t.Fatalf("read answered %d records and %v before Run was called", len(r.records), r.err)
	default:
	}
	w := s.start(t, log)
	defer w.stop()
	if err := <-appended; err != nil {
		t.Errorf("append: %v", err)
	}
	if r := <-read; r.err != nil || len(r.records) != 1 || r.records[0].Event.ID() != "early" {
		t.Errorf("read %d records, error %v", len(r.records), r.err)
	}
}

func giveUpBeforeRun(s *suite, t *testing.T, log channel.Log) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		if _, err := log.Broker(ctx, channel.BrokerInfo{UID: "a", Shards: 1}); err != nil {
			done <- nil // it waits for Run as well, and gave up
			return
		}
		_, err := log.Append(ctx, "a", []event.Event{anEvent("early", 1)})
		done <- err
	}()
	s.settle()
	cancel()
	err := <-done
	w := s.start(t, log)
	defer w.stop()
	all := stored{}
	if err != nil {
		w.wantRefused(err, channel.ErrUnavailable)
		w.wantExactly(w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1}), all)
	}
}

func runOverAtOnce(_ *suite, t *testing.T, log channel.Log) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := log.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
	if err := log.Ready(); err == nil {
		t.Error("a closed log is ready")
	}
}
