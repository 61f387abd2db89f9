package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// about picks the findings with a subject.
func about(d v1.Diagnosis, subject string) (found []v1.Finding) {
	for _, f := range d.Findings {
		if f.Subject == subject {
			found = append(found, f)
		}
	}
	return found
}

// one is the only finding about a subject, which must be so severe and say this.
func one(t *testing.T, d v1.Diagnosis, subject, severity string, says ...string) {
	t.Helper()
	found := about(d, subject)
	if len(found) != 1 || found[0].Severity != severity {
		t.Fatalf("about %s: %+v, want one %s", subject, found, severity)
	}
	for _, word := range says {
		if !strings.Contains(found[0].What, word) {
			t.Errorf("about %s: %q does not say %q", subject, found[0].What, word)
		}
	}
	if severity == "problem" && (found[0].Means == "" || found[0].Cure == "") {
		t.Errorf("about %s: no meaning or no cure: %+v", subject, found[0])
	}
}

func TestDoctorFindsNothingWrongWhereNothingIs(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	d := get[v1.Diagnosis](t, serve(t, options(r)), "/api/v1/doctor", 200)
	if d.Version == "" || d.Process == 0 || d.Time.IsZero() {
		t.Errorf("who looked, and when? %+v", d)
	}
	for _, f := range d.Findings {
		if f.Severity != "ok" {
			t.Errorf("a healthy broker has %+v", f)
		}
	}
	for _, subject := range []string{"ready", "configuration", "broker default/shop", "trigger default/orders"} {
		one(t, d, subject, "ok")
	}
}

func TestDoctorTellsOfWhatKeepsEventsFromTheirSubscribers(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("late", "shop", filter.Spec{}), triggerObject("orders", "shop", filter.Spec{}),
		triggerObject("bad", "shop", filter.Spec{Filters: []filter.Dialect{{CESQL: "="}}}), triggerObject("lost", "nowhere", filter.Spec{}))
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r.lanes = []Lane{
		{Trigger: "uid-late", Backlog: 7, Oldest: now.Add(-61 * time.Minute), InFlight: 2, Waiting: 5},
		{Trigger: "uid-orders", Backlog: 7, Oldest: now.Add(-59 * time.Minute)},
	}
	o := options(r)
	o.Now = func() time.Time { return now }
	d := get[v1.Diagnosis](t, serve(t, o), "/api/v1/doctor", 200)
	one(t, d, "trigger default/late", "warning", "7 pending", "2 in flight", "5 wait", "1h1m0s")
	one(t, d, "trigger default/orders", "ok", "7 pending")
	one(t, d, "trigger default/bad", "problem", config.ReasonFilterInvalid)
	one(t, d, "trigger default/lost", "problem")
}

func TestDoctorNamesTheCommonestReasonsOfDeath(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	e := newEvent(t)
	for i := range 9 {
		l := letter(e, channel.ID{Position: channel.Position(i + 1)}, "orders")
		l.TriggerName = "default/orders"
		l.Reason = []string{"status 503", "status 404", "status 503", "timeout after 30s"}[i%4]
		r.bury("shop", l)
	}
	d := get[v1.Diagnosis](t, serve(t, options(r)), "/api/v1/doctor", 200)
	found := about(d, "broker default/shop")
	if len(found) != 2 || found[1].Severity != "warning" || !strings.Contains(found[1].What, "9 dead letters; of the oldest 9: 5 default/orders: status 503; 2 default/orders: status 404; 2 default/orders: timeout after 30s") {
		t.Errorf("about dead letters: %+v", found)
	}
}

// full is a Broker's log whose sizes the test says.
type full struct {
	*running
	stats channel.Stats
}

type sized struct {
	channel.BrokerLog
	stats channel.Stats
}

func (s sized) Stats() channel.Stats { return s.stats }

func (f full) Log(uid channel.UID) (channel.BrokerLog, bool) {
	log, ok := f.running.Log(uid)
	return sized{log, f.stats}, ok
}

func TestDoctorWarnsAtFourFifthsOfTheQuotaAndSaysWhenItIsFull(t *testing.T) {
	const mib = 1 << 20
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	for _, c := range []struct {
		bytes   int64
		backlog uint64
		want    string
	}{
		{600 * mib, 1, "ok"}, {720 * mib, 1, "warning"}, {899 * mib, 1, "warning"}, {899*mib + 1, 1, "problem"}, {1000 * mib, 1, "problem"},
		{1000 * mib, 0, "ok"}, // all of it is settled, and goes when room is needed
	} {
		r.lanes = []Lane{{Trigger: "uid-orders", Backlog: c.backlog}}
		o := options(r)
		o.Source = full{r, channel.Stats{Bytes: c.bytes, MaxBytes: 1000 * mib, DeadReserve: 100 * mib}}
		d := get[v1.Diagnosis](t, serve(t, o), "/api/v1/doctor", 200)
		one(t, d, "broker default/shop", c.want, channel.Amount(c.bytes), "at most 1000.0 MiB")
	}
}

func TestDoctorPassesOnWhatStorageAndReadinessSay(t *testing.T) {
	r := start(t, brokerObject("shop"))
	o := options(r)
	o.Ready = func() []string { return []string{"disk channel: the disk is on fire"} }
	o.Storage = func() []channel.Finding {
		return []channel.Finding{{Severity: channel.Problem, Subject: "log", What: "stopped", Means: "503", Cure: "restart"}}
	}
	server := serve(t, o)
	d := get[v1.Diagnosis](t, server, "/api/v1/doctor", 200)
	one(t, d, "log", "problem", "stopped")
	one(t, d, "ready", "problem", "on fire")
	refused(t, server, "/api/v1/doctor?verbose=true", 400)
}

func TestHealthzIsRedOnlyWhereARestartHelps(t *testing.T) {
	o := options(start(t, brokerObject("shop")))
	dead := []string(nil)
	o.Latched = func() []string { return dead }
	o.Ready = func() []string { return []string{"the volume is full"} }
	server := serve(t, o)
	probe := func() int {
		resp, err := http.Get(server.URL + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if code := probe(); code != 200 {
		t.Errorf("a full volume makes /healthz %d", code)
	}
	dead = []string{"disk channel: the log has stopped"}
	if code := probe(); code != 503 {
		t.Errorf("a log that has stopped makes /healthz %d", code)
	}
}
