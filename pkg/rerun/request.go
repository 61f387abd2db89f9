package rerun

import (
	"context"
	"errors"
	"math"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Bounds of a request.
const (
	maxIDs   = 1000
	maxWhere = 32
	maxRate  = 1_000_000
	maxURL   = 2048
	maxWho   = 256
)

// Begin starts a job of a kind that people can ask for.
func (m *Manager) Begin(ctx context.Context, kind string, q v1.JobRequest, who string) (v1.Job, error) {
	if err := m.running(ctx); err != nil {
		return v1.Job{}, err
	}
	r, _, err := m.accept(ctx, kind, q)
	if err != nil {
		return v1.Job{}, err
	}
	r.Who = who[:min(len(who), maxWho)]
	return m.begin(r)
}

// accept makes a job of a request, or says what is wrong with it.
func (m *Manager) accept(ctx context.Context, kind string, q v1.JobRequest) (record, *filter.Filter, error) {
	r := record{Job: v1.Job{Kind: kind, Trigger: q.Trigger, Where: q.Where, IDs: q.IDs, Sink: q.Sink, Rate: q.Rate, Partial: q.Partial}}
	if err := allowed(kind, q); err != nil {
		return r, nil, err
	}
	where, err := m.where(q.Where)
	if err != nil {
		return r, nil, err
	}
	log, err := m.target(ctx, &r)
	if err != nil {
		return r, nil, err
	}
	if kind == v1.JobReplay {
		return r, where, m.past(ctx, &r, log, q.From, q.To)
	}
	r.Total = uint64(len(r.IDs))
	if len(r.IDs) == 0 {
		r.Total = log.DeadCount(r.TriggerUID)
	}
	return r, where, m.known(ctx, &r, log)
}

// allowed refuses values that make no sense, and fields without a meaning for
// the kind: who gives one expects something of it.
func allowed(kind string, q v1.JobRequest) error {
	for _, f := range []struct {
		name  string
		given bool
		kinds string
	}{
		{"ids", len(q.IDs) > 0, "redrive discard"}, {"sink", q.Sink != "", "redrive"}, {"rate", q.Rate != 0, "redrive replay"},
		{"from", q.From != nil, "replay"}, {"to", q.To != nil, "replay"}, {"partial", q.Partial, "replay"},
	} {
		if f.given && !strings.Contains(f.kinds, kind) {
			return refuse(400, "%s has no meaning for a %s", f.name, kind)
		}
	}
	switch {
	case len(q.IDs) > maxIDs:
		return refuse(400, "ids: %d of them, %d at most: use where, or several jobs", len(q.IDs), maxIDs)
	case len(q.IDs) > 0 && len(q.Where) > 0:
		return refuse(400, "ids and where are given together: use one of them")
	case len(q.Where) > maxWhere:
		return refuse(400, "where: %d conditions, %d at most: join some with AND", len(q.Where), maxWhere)
	case math.IsNaN(q.Rate) || q.Rate < 0 || q.Rate > maxRate:
		return refuse(400, "rate %v: want events a second, more than 0 and at most %d, or leave it out for no limit", q.Rate, maxRate)
	case q.From != nil && q.To != nil && !q.From.Before(*q.To):
		return refuse(400, "from %s is not before to %s", q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	if q.Sink != "" {
		u, err := url.Parse(q.Sink)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(q.Sink) > maxURL {
			return refuse(400, "sink %.128q: want a URL such as http://host/path", q.Sink)
		}
	}
	return nil
}

// pair is a condition that names a value: no blank and no quote, which stand
// in nearly every CESQL expression.
var pair = regexp.MustCompile(`^([a-z0-9]+)=([^\s'"]+)$`)

// where compiles conditions; nil is none.
func (m *Manager) where(conditions []string) (*filter.Filter, error) {
	if len(conditions) == 0 {
		return nil, nil
	}
	var spec filter.Spec
	for _, c := range conditions {
		d := filter.Dialect{CESQL: c}
		if p := pair.FindStringSubmatch(c); p != nil {
			d = filter.Dialect{Exact: map[string]string{p[1]: p[2]}}
		}
		if _, err := filter.CompileWith(filter.Spec{Filters: []filter.Dialect{d}}, filter.Options{Keys: m.o.Keys}); err != nil {
			reason := err.Error()
			if where := (*filter.Error)(nil); errors.As(err, &where) {
				reason = where.Reason
			}
			return nil, refuse(400, "where %.200q: %s", c, reason)
		}
		spec.Filters = append(spec.Filters, d)
	}
	f, err := filter.CompileWith(spec, filter.Options{Keys: m.o.Keys})
	if err != nil { // too large together
		return nil, refuse(400, "where: %v", err)
	}
	return f, nil
}

// target finds the Trigger of a request and the log of its Broker.
func (m *Manager) target(ctx context.Context, r *record) (channel.BrokerLog, error) {
	namespace, name, ok := strings.Cut(r.Trigger, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, refuse(400, "trigger %.128q is not NAMESPACE/NAME, as in default/orders", r.Trigger)
	}
	s := m.o.Snapshot()
	t, ok := s.Trigger(namespace, name)
	if !ok {
		if r.Kind == v1.JobDiscard {
			return m.remains(ctx, r)
		}
		return nil, refuse(404, "no trigger %.128q; if it is gone, its dead letters can be discarded, and a new one can have the past (penstock.dev/start)", r.Trigger)
	}
	if t.Held && r.Kind != v1.JobDiscard {
		return nil, refuse(409, "trigger %s was %s", r.Trigger, t.Message)
	}
	b := brokerOf(s, t)
	if b == nil {
		return nil, refuse(409, "trigger %s has no broker: %s", r.Trigger, t.Message)
	}
	log, open := m.o.Log(b.UID)
	if !open {
		return nil, refuse(503, "the channel of broker %s is not open: %s", b.FullName(), b.Message)
	}
	r.Broker, r.BrokerUID, r.TriggerUID = b.FullName(), b.UID, t.UID
	return log, nil
}

func brokerOf(s *config.Snapshot, t *config.Trigger) *config.Broker {
	for _, brokers := range [][]*config.Broker{s.Brokers(), s.HeldBrokers()} {
		for _, b := range brokers {
			if b.FullName() == t.BrokerName() {
				return b
			}
		}
	}
	return nil
}

// remains finds the Broker that has dead letters of a Trigger which is gone:
// they have its name still.
func (m *Manager) remains(ctx context.Context, r *record) (channel.BrokerLog, error) {
	s := m.o.Snapshot()
	for _, brokers := range [][]*config.Broker{s.Brokers(), s.HeldBrokers()} {
		for _, b := range brokers {
			log, open := m.o.Log(b.UID)
			if !open || log.DeadCount("") == 0 {
				continue
			}
			for after := ""; ; {
				letters, next, err := log.Dead(ctx, "", after, letterPage)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				for _, l := range letters {
					if l.TriggerName == r.Trigger {
						r.Broker, r.BrokerUID = b.FullName(), b.UID
						return log, nil
					}
				}
				if next == "" {
					if err != nil && len(letters) == 0 {
						return nil, err
					}
					break
				}
				after = next
			}
		}
	}
	return nil, refuse(404, "no trigger %.128q, and no dead letters of one that was", r.Trigger)
}

// known refuses ids that name no dead letter of the Trigger.
func (m *Manager) known(ctx context.Context, r *record, letters channel.DeadLetters) error {
	for _, text := range r.IDs {
		id, err := channel.ParseID(text)
		if err != nil {
			return refuse(400, "%v", err)
		}
		if r.TriggerUID == "" {
			continue // found by name, page by page
		}
		_, found, err := letters.FindDead(ctx, r.TriggerUID, id)
		if err != nil {
			return err
		}
		if !found {
			return refuse(404, "no dead letter %s of trigger %s; `penstock deadletter list --trigger %s` lists those there are", id, r.Trigger, r.Trigger)
		}
	}
	return nil
}

// previewFor bounds how long a preview looks.
const previewFor = 20 * time.Second

// maxSample bounds the ids that a preview names.
const maxSample = 10

// Preview counts what a job would be about, and does nothing.
func (m *Manager) Preview(ctx context.Context, kind string, q v1.JobRequest) (v1.JobPreview, error) {
	r, _, err := m.accept(ctx, kind, q)
	if err != nil {
		return v1.JobPreview{}, err
	}
	p := v1.JobPreview{Kind: kind, Broker: r.Broker, Trigger: r.Trigger, Sample: []string{}}
	r.Created = m.o.Now()
	limited, cancel := context.WithTimeout(ctx, previewFor)
	defer cancel()
	j := &job{rec: r}
	err = m.source(limited, j, func(e *entry) error {
		p.Seen += e.seen
		if e.meant {
			p.Matched++
			if len(p.Sample) < maxSample {
				p.Sample = append(p.Sample, e.id.String())
			}
		}
		return nil
	})
	p.Whole = err == nil
	p.Gaps = j.rec.Gaps
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = nil
	}
	return p, err
}
