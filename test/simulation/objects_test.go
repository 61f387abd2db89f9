package simulation_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/history"
)

// compile is the snapshot of the world's objects, and how many changes of
// trigger sets are in it.
func (w *world) compile() (*config.Snapshot, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.compiled(), len(w.routed)
}

func (w *world) compiled() *config.Snapshot {
	return config.Compile(w.objects, config.Options{
		Removed: slices.Clone(w.removed),
		Resolve: func(r config.Reference) (string, error) { return "http://" + r.Name, nil },
	})
}

// born tells the history that a life begins, unless it is over already.
func (w *world) born(p *process, epoch uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life != p {
		return false
	}
	w.rec.Incarnation(p.number, epoch)
	return true
}

// inForce tells the history that a life has put changes in force.
func (w *world) inForce(p *process, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life != p {
		return // a dead one's word
	}
	for _, told := range w.routed[:n] {
		told()
	}
	w.routed = w.routed[n:]
}

// change changes the objects, and tells the history and the broker. edit
// returns the Broker whose Triggers it has changed, "" for none.
func (w *world) change(edit func() (broker string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := edit()
	if name == "" {
		return
	}
	var triggers []history.Trigger
	for _, t := range w.compiled().TriggersOf("default", name) {
		if t.Filter == nil || !t.Ready && !t.Held {
			w.t.Errorf("trigger %s: %s", t.FullName(), t.Message)
		}
		if !t.Held { // one that is held has none of its own
			w.policies[t.UID], w.scales[t.UID] = t.Policy, t.ScalesFromZero
		}
		triggers = append(triggers, history.Trigger{
			Name: t.FullName(), Filter: t.FilterSpec, Policy: w.policies[t.UID], ScalesFromZero: w.scales[t.UID],
		})
	}
	w.routed = append(w.routed, w.rec.Routes("default/"+name, triggers))
	if w.life != nil {
		select {
		case w.life.changed <- struct{}{}:
		default:
		}
	}
}

// broker declares a Broker.
func (w *world) broker(name string, annotations map[string]string) {
	w.change(func() string {
		w.objects = append(w.objects, &config.Object{
			Kind: config.KindBroker, Namespace: "default", Name: name, UID: channel.UID("b-" + name),
			Annotations: annotations, Broker: &config.BrokerSpec{},
		})
		return name
	})
}

// delivery is spec.delivery of a Trigger with what stands in annotations.
type delivery struct {
	retry         int
	policy        string // "" for exponential
	delay         string // "" for none
	timeout       string // "" for 5 minutes
	retryAfterMax string // "" for none
	backoffMax    string // annotation
	concurrency   int    // annotation
	sink          string // host of the dead letter sink
	knative       bool   // the subscriber is a Knative Service
}

// trigger declares a Trigger with a subscriber of its name.
func (w *world) trigger(broker, name string, f filter.Spec, d delivery) {
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	spec := &config.DeliverySpec{
		Retry: &d.retry, BackoffPolicy: text(d.policy), BackoffDelay: text(d.delay), Timeout: text(d.timeout), RetryAfterMax: text(d.retryAfterMax),
	}
	if d.sink != "" {
		spec.DeadLetterSink = &config.Destination{URI: "http://" + d.sink}
	}
	o := &config.Object{
		Kind: config.KindTrigger, Namespace: "default", Name: name, UID: channel.UID("t-" + name), Annotations: map[string]string{},
		Trigger: &config.TriggerSpec{Broker: broker, Filter: f, Subscriber: &config.Destination{URI: "http://" + name}, Delivery: spec},
	}
	if d.knative {
		o.Trigger.Subscriber = &config.Destination{Ref: &config.Reference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: name}}
	}
	if d.backoffMax != "" {
		o.Annotations["penstock.dev/backoff-max"] = d.backoffMax
	}
	if d.concurrency > 0 {
		o.Annotations["penstock.dev/concurrency"] = fmt.Sprint(d.concurrency)
	}
	w.change(func() string {
		w.objects = append(w.objects, o)
		return broker
	})
}

// edit replaces a Trigger by a changed copy. One that is gone stays so.
func (w *world) edit(name string, change func(o *config.Object)) {
	w.change(func() string {
		i := w.find(name)
		if i < 0 {
			return ""
		}
		o := *w.objects[i]
		spec := *o.Trigger
		o.Trigger = &spec
		change(&o)
		w.objects = slices.Clone(w.objects)
		w.objects[i] = &o
		return spec.Broker
	})
}

// remove takes a Trigger away for good.
func (w *world) remove(name string) {
	w.change(func() string {
		i := w.find(name)
		if i < 0 {
			return ""
		}
		o := w.objects[i]
		w.rec.Cancelled(o.FullName())
		w.objects = slices.Delete(slices.Clone(w.objects), i, i+1)
		w.removed = append(w.removed, config.Removed{
			Kind: config.KindTrigger, UID: o.UID, Namespace: o.Namespace, Name: o.Name, Broker: o.Trigger.Broker, At: w.now(),
		})
		return o.Trigger.Broker
	})
}

// hold keeps a Trigger's events and delivers none for a while, as when it is
// gone from its file.
func (w *world) hold(name string, d time.Duration) {
	heal := w.rec.Fault(history.Subscriber, name+" is held")
	w.edit(name, func(o *config.Object) { o.HeldUntil = w.now().Add(10 * time.Minute) })
	w.later(d, func() {
		w.edit(name, func(o *config.Object) { o.HeldUntil = time.Time{} })
		heal()
	})
}

// find is a Trigger's place. The caller holds the mutex.
func (w *world) find(name string) int {
	return slices.IndexFunc(w.objects, func(o *config.Object) bool { return o.Kind == config.KindTrigger && o.Name == name })
}
