package api

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

const (
	// nearQuota is the share of what its events may use from which a Broker is
	// called nearly full, in percent.
	nearQuota = 80
	// almostNothing is how many bytes of that may be left where it is called full,
	// or a twentieth of it if that is less: some events still fit, others do not.
	almostNothing = 1 << 20
	// tooOld is how long an event may be pending before somebody should look.
	tooOld = time.Hour
	// deadLooked is how many dead letters of a Broker are read for their reasons.
	deadLooked = 4 * letterPage
	// maxToldProblems bounds how many problems of the configuration are listed.
	maxToldProblems = 20
)

// doctor looks at everything that can be wrong with a running broker.
func (s *Server) doctor(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	d := diagnosis{server: s, snapshot: s.opts.Source.Snapshot(), lanes: s.lanes(r)}
	d.process()
	if s.opts.Storage != nil {
		d.findings = append(d.findings, s.opts.Storage()...)
	}
	d.configuration()
	for _, b := range slices.Concat(d.snapshot.Brokers(), d.snapshot.HeldBrokers()) {
		d.broker(r.Context(), b)
	}
	for _, t := range d.snapshot.Triggers() {
		d.trigger(t)
	}
	version, _ := telemetry.Build()
	return answer(w, v1.Diagnosis{Version: version, Process: os.Getpid(), Time: s.opts.Now(), Findings: Findings(d.findings)})
}

// Findings are findings as the API shows them.
func Findings(findings []channel.Finding) []v1.Finding {
	all := make([]v1.Finding, 0, len(findings))
	for _, f := range findings {
		all = append(all, v1.Finding{Severity: f.Severity.String(), Subject: f.Subject, What: f.What, Means: f.Means, Cure: f.Cure})
	}
	return all
}

// diagnosis is one answer in the making.
type diagnosis struct {
	server   *Server
	snapshot *config.Snapshot
	lanes    map[channel.UID]Lane
	findings []channel.Finding
}

func (d *diagnosis) add(s channel.Severity, subject, what, means, cure string) {
	d.findings = append(d.findings, channel.Finding{Severity: s, Subject: subject, What: what, Means: means, Cure: cure})
}

func (d *diagnosis) process() {
	var reasons []string
	if d.server.opts.Ready != nil {
		reasons = d.server.opts.Ready()
	}
	for _, reason := range reasons {
		d.add(channel.Problem, "ready", reason, "events are refused with 503, or 507 where it is full", "see below; a start and a stop pass by themselves")
	}
	if len(reasons) == 0 {
		d.add(channel.OK, "ready", "events are accepted and stored", "", "")
	}
}

func (d *diagnosis) configuration() {
	problems := d.snapshot.Problems()
	for i, p := range problems {
		if i == maxToldProblems {
			d.add(channel.Warning, "configuration", fmt.Sprintf("and %d problems more", len(problems)-i), "", "GET /api/v1/problems lists them all")
			break
		}
		d.add(channel.Warning, "configuration", p.Origin+": "+p.Message, "", "")
	}
	if len(problems) == 0 {
		d.add(channel.OK, "configuration", channel.Count(len(d.snapshot.Brokers()), "Broker")+" and "+channel.Count(len(d.snapshot.Triggers()), "Trigger")+", no problem", "", "")
	}
}

func (d *diagnosis) broker(ctx context.Context, b *config.Broker) {
	subject := "broker " + b.FullName()
	log, open := d.server.opts.Source.Log(b.UID)
	switch {
	case !b.Ready:
		d.add(channel.Problem, subject, "not ready, "+b.Reason+": "+b.Message, "its events are refused with 503", "mend it at "+b.Origin)
	case !open:
		d.add(channel.Problem, subject, "its channel is not open yet", "its events are refused with 503", "the log of the process says why")
	}
	if !open {
		return
	}
	backlog := uint64(0)
	for _, t := range d.snapshot.TriggersOf(b.Namespace, b.Name) {
		backlog += d.lanes[t.UID].Backlog
	}
	d.quota(subject, log, backlog)
	d.dead(ctx, subject, b, log)
}

// quota compares what a Broker keeps with what it may.
func (d *diagnosis) quota(subject string, log channel.BrokerLog, backlog uint64) {
	stats := log.Stats()
	room := stats.MaxBytes - stats.DeadReserve // for events
	what := channel.Amount(stats.Bytes) + " kept"
	if stats.MaxBytes > 0 {
		what += " of at most " + channel.Amount(stats.MaxBytes) + ", of which events leave " + channel.Amount(stats.DeadReserve) + " to dead letters"
	}
	what += fmt.Sprintf("; %s of dead letters, %d deliveries pending", channel.Amount(stats.DeadBytes), backlog)
	const cure = "mend or remove the subscribers it waits for, raise penstock.dev/max-bytes, or keep less (penstock.dev/retention)"
	switch owed := backlog > 0 || stats.DeadBytes > 0; {
	case stats.MaxBytes <= 0 || stats.Bytes < room/100*nearQuota:
		d.add(channel.OK, subject, what, "", "")
	case !owed:
		d.add(channel.OK, subject, what+"; settled events go when room is needed", "", "")
	case room-stats.Bytes < min(almostNothing, room/20):
		d.add(channel.Problem, subject, "full: "+what, "events are refused with 507 unless settled ones can go; at the bound Triggers hold the events whose dead letters find no room", cure)
	default:
		d.add(channel.Warning, subject, "nearly full: "+what, "when it is full its events are refused with 507", cure)
	}
}

// dead says how many dead letters there are, and of what the oldest died.
func (d *diagnosis) dead(ctx context.Context, subject string, b *config.Broker, log channel.BrokerLog) {
	n := log.DeadCount("")
	if n == 0 {
		return
	}
	reasons := make(map[string]int)
	looked := 0
	var err error
	for after := ""; looked < deadLooked; {
		var letters []channel.DeadLetter
		letters, after, err = log.Dead(ctx, "", after, letterPage)
		for _, l := range letters {
			reasons[l.TriggerName+": "+l.Reason]++
			looked++
		}
		if after == "" || err != nil {
			break
		}
	}
	common := slices.SortedFunc(maps.Keys(reasons), func(x, y string) int {
		return cmp.Or(reasons[y]-reasons[x], strings.Compare(x, y))
	})
	what := channel.Count(n, "dead letter")
	for i, reason := range common[:min(3, len(common))] {
		lead := "; "
		if i == 0 {
			lead = fmt.Sprintf("; of the oldest %d: ", looked)
		}
		what += fmt.Sprintf("%s%d %s", lead, reasons[reason], reason)
	}
	d.add(channel.Warning, subject, what, "these events were not delivered; they are kept",
		"mend the subscriber, then `penstock deadletter list --broker "+b.FullName()+"`")
	if err != nil && ctx.Err() == nil {
		d.add(channel.Problem, subject, "dead letters cannot be read: "+err.Error(), "these dead letters are lost", "look at the disk (kernel log, SMART)")
	}
}

func (d *diagnosis) trigger(t *config.Trigger) {
	subject := "trigger " + t.FullName()
	lane := d.lanes[t.UID]
	pending := fmt.Sprintf("%d pending, %d in flight, %d wait for their next attempt", lane.Backlog, lane.InFlight, lane.Waiting)
	age := time.Duration(0)
	if lane.Backlog > 0 && !lane.Oldest.IsZero() {
		age = max(0, d.server.opts.Now().Sub(lane.Oldest)).Round(time.Second)
		pending += fmt.Sprintf(", the oldest for %v", age)
	}
	switch {
	case t.Held:
		d.add(channel.Warning, subject, "gone from the files; "+pending, "its events are kept and not delivered; when its grace has ended they are cancelled", "put it back if that is not meant")
	case !t.Ready:
		d.add(channel.Problem, subject, "not ready, "+t.Reason+": "+t.Message+"; "+pending, "nothing is delivered to it; what its filter matches is kept, a filter that does not compile matches nothing", "mend it at "+t.Origin)
	case age > tooOld:
		d.add(channel.Warning, subject, pending, "its events are late", "look at "+t.Subscriber+": `penstock get triggers -o wide` shows failed attempts")
	default:
		d.add(channel.OK, subject, pending, "", "")
	}
}
