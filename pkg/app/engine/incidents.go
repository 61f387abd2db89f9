package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// DefaultSystemBroker is the Broker that failures are told to as events,
// where there is one of that name.
const DefaultSystemBroker = "penstock-system/system"

// maxIncidents bounds what waits to be told. There is one for each lane that
// begins to fail: more at once means that nobody can store them either, and the
// log has what is over the bound.
const maxIncidents = 1024

// Types of the events about failures.
const (
	typeFailing      = "dev.penstock.trigger.failing"
	typeRecovered    = "dev.penstock.trigger.recovered"
	typeDeadLettered = "dev.penstock.event.deadlettered"
)

// reporter turns incidents into events of the system Broker. A Broker that is
// not there, or is not ready, is told nothing. What goes wrong with the system
// Broker's own Triggers is not told: that would feed itself.
type reporter struct {
	namespace, name string
	views           *views
	appender        func(channel.UID) (channel.Appender, error)
	log             *slog.Logger
	queue           chan dispatch.Incident
}

func newReporter(broker string, v *views, appender func(channel.UID) (channel.Appender, error), log *slog.Logger) (*reporter, error) {
	r := &reporter{views: v, appender: appender, log: log, queue: make(chan dispatch.Incident, maxIncidents)}
	if broker == "" {
		return r, nil
	}
	var ok bool
	if r.namespace, r.name, ok = strings.Cut(broker, "/"); !ok || config.CheckName(r.namespace, r.name) != nil {
		return nil, &process.UsageError{Err: fmt.Errorf("--system-broker %q: want NAMESPACE/NAME, as in %s", broker, DefaultSystemBroker)}
	}
	return r, nil
}

// tell never waits.
func (r *reporter) tell(i dispatch.Incident) {
	if r.name == "" || i.Broker == r.namespace+"/"+r.name {
		return
	}
	select {
	case r.queue <- i:
	default:
		r.log.Warn("incident is not told: too many wait", telemetry.KeyBroker, i.Broker, telemetry.KeyTrigger, i.Trigger)
	}
}

// run stores what is told until ctx ends.
func (r *reporter) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case i := <-r.queue:
			if err := r.store(ctx, i); err != nil && ctx.Err() == nil {
				r.log.Warn("incident cannot be stored", telemetry.KeyBroker, r.namespace+"/"+r.name, telemetry.KeyTrigger, i.Trigger, telemetry.KeyError, err)
			}
		}
	}
}

// storeWithin bounds one append: others wait behind it.
const storeWithin = 10 * time.Second

func (r *reporter) store(ctx context.Context, i dispatch.Incident) error {
	b, ok := r.views.Snapshot().Broker(r.namespace, r.name)
	if !ok || !b.Ready {
		return nil
	}
	e, err := incidentEvent(i)
	if err != nil {
		return err
	}
	to, err := r.appender(b.UID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	_, err = to.Append(ctx, b.UID, []event.Event{e})
	return err
}

// incident is the data of an event about a failure.
type incident struct {
	Broker     string     `json:"broker"`               // namespace/name
	Trigger    string     `json:"trigger"`              // namespace/name
	Subscriber string     `json:"subscriber,omitempty"` // URL that was tried last
	Since      *time.Time `json:"since,omitempty"`      // of the first failure
	Failures   uint64     `json:"failures,omitempty"`   // attempts in a row, or of the event that died
	Reason     string     `json:"reason,omitempty"`     // of the last failure, one line
	Status     int        `json:"status,omitempty"`     // HTTP status of it
	Event      string     `json:"event,omitempty"`      // that it was seen by: `penstock event ID`
}

// incidentEvent is what is told of an incident.
func incidentEvent(i dispatch.Incident) (event.Event, error) {
	data := incident{
		Broker: i.Broker, Trigger: i.Trigger, Subscriber: i.Subscriber, Failures: i.Failures,
		Reason: i.Reason, Status: i.Status, Event: i.ID.String(),
	}
	eventType := typeDeadLettered
	if i.Kind != dispatch.DeadLettered {
		since := i.Since.UTC()
		data.Since, eventType = &since, typeFailing
		if i.Kind == dispatch.Recovered {
			eventType = typeRecovered
		}
	}
	text, err := json.Marshal(data)
	if err != nil {
		return event.Event{}, err
	}
	at := i.Time.UTC().Format(time.RFC3339Nano)
	var b event.Builder
	return b.Set(event.AttrID, string(i.TriggerUID)+"-"+strconv.FormatInt(i.Time.UnixNano(), 36)).
		Set(event.AttrSource, "/penstock/"+i.Broker).
		Set(event.AttrSpecVersion, "1.0").
		Set(event.AttrType, eventType).
		Set(event.AttrSubject, i.Trigger).
		Set(event.AttrTime, at).
		Set(event.AttrDataContentType, "application/json").
		Set(event.ExtArrivalTime, at).
		SetValue(event.ExtTTL, event.Value{Text: strconv.Itoa(event.DefaultTTL), Kind: event.Integer}).
		SetData(text).
		Build()
}
