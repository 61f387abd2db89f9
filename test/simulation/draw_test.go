package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/history"
)

// draw makes a script.
func draw(rng *rand.Rand) *script {
	d := &drawer{rng: rng, script: &script{}, moments: []time.Duration{active}}
	for range 1 + rng.IntN(3) {
		d.broker()
	}
	for range 1 + rng.IntN(8) {
		d.trigger(0)
	}
	// Every eighth run has no fault: there nothing may come twice.
	if rng.IntN(8) > 0 {
		d.times(3, d.network)
		d.times(2, d.slowDisk)
		d.times(1, d.fullDisk)
		d.times(1, d.failedSync)
		d.times(2, func() { d.crash(history.Kill) })
		d.times(2, func() { d.crash(history.PowerCut) })
		d.times(1, d.restart)
		d.times(2, d.jump)
	}
	d.times(3, d.reconfigure)
	d.sends(40 + rng.IntN(80))
	s := d.script
	slices.SortStableFunc(s.steps, func(a, b step) int { return int(a.at - b.at) })
	return s
}

// drawer draws the parts of a script.
type drawer struct {
	rng      *rand.Rand
	script   *script
	brokers  []string
	triggers []string
	moments  []time.Duration
}

// times draws something up to n times.
func (d *drawer) times(n int, draw func()) {
	for range d.rng.IntN(n + 1) {
		draw()
	}
}

// moment is when something begins.
func (d *drawer) moment() time.Duration {
	at := time.Millisecond + d.upTo(active)
	d.moments = append(d.moments, at)
	return at
}

// busy is when a sender sends: anywhen, around the moments when something
// begins, or at the very end.
func (d *drawer) busy() time.Duration {
	switch d.rng.IntN(8) {
	case 0, 1, 2:
		return time.Millisecond + d.upTo(played)
	case 3:
		return played - d.upTo(time.Minute)
	default:
		at := pick(d.rng, d.moments...) - time.Second
		return max(time.Millisecond, at+d.upTo(pick(d.rng, 2*time.Second, time.Minute)))
	}
}

func (d *drawer) upTo(limit time.Duration) time.Duration {
	return time.Duration(d.rng.Int64N(int64(limit))).Truncate(time.Millisecond)
}

// between is a time between two, short ones as likely as long ones by their
// order of magnitude.
func (d *drawer) between(least, most time.Duration) time.Duration {
	t := least
	for t < most && d.rng.IntN(3) > 0 {
		t *= 2
	}
	return min(most, t+d.upTo(t))
}

// lasts is how long something that began lasts: now and then to the end, so
// that there is a backlog when everything is healed.
func (d *drawer) lasts(at, least, most time.Duration) time.Duration {
	if d.rng.IntN(4) == 0 {
		return played - at
	}
	return d.between(least, most)
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func (d *drawer) broker() {
	name := fmt.Sprintf("broker-%d", len(d.brokers))
	d.brokers = append(d.brokers, name)
	annotations := pick(d.rng, nil, nil,
		map[string]string{"penstock.dev/retention": "0"},
		map[string]string{"penstock.dev/retention": "10m,128Ki"},
		map[string]string{"penstock.dev/max-bytes": "384Ki"})
	d.script.add(0, func(w *world) { w.broker(name, annotations) }, "broker %s %v", name, annotations)
}

func (d *drawer) trigger(at time.Duration) {
	rng := d.rng
	name := fmt.Sprintf("trigger-%d", len(d.triggers))
	d.triggers = append(d.triggers, name)
	broker, f := pick(rng, d.brokers...), randomFilter(rng)
	spec := delivery{
		retry:         pick(rng, 0, 1, 3, 5, 8, 60),
		policy:        pick(rng, "linear", "exponential"),
		delay:         pick(rng, "", "PT0.2S", "PT1S", "PT10S"),
		backoffMax:    pick(rng, "20s", "1m", "2m"),
		timeout:       pick(rng, "PT5S", "PT30S", "PT2M"),
		retryAfterMax: pick(rng, "", "", "PT0S", "PT30S"),
		concurrency:   pick(rng, 0, 0, 1, 3, 10),
	}
	if rng.IntN(4) == 0 {
		spec.sink = "graves"
	}
	spec.knative = rng.IntN(3) == 0
	d.script.add(at, func(w *world) {
		w.subscribe(name)
		w.trigger(broker, name, f, spec)
	}, "trigger %s of %s: %s %+v", name, broker, f.Canonical(), spec)
	d.times(5, func() { d.mood(name, at) })
}

// randomFilter looks at what history.NewEvent makes.
func randomFilter(rng *rand.Rand) filter.Spec {
	kind := func() string { return pick(rng, "a", "b", "c", "d") }
	exact := func() filter.Dialect { return filter.Dialect{Exact: map[string]string{"type": kind()}} }
	switch rng.IntN(8) {
	case 0, 1:
		return filter.Spec{}
	case 2:
		return filter.Spec{Attributes: map[string]string{"type": kind(), "source": ""}}
	case 3:
		return filter.Spec{Filters: []filter.Dialect{{Prefix: map[string]string{"source": "/history/o"}}}}
	case 4:
		return filter.Spec{Filters: []filter.Dialect{{Any: []filter.Dialect{exact(), {Suffix: map[string]string{"subject": "le"}}}}}}
	case 5:
		return filter.Spec{Filters: []filter.Dialect{{Not: &filter.Dialect{Exact: map[string]string{"colour": "red"}}}}}
	case 6:
		return filter.Spec{Filters: []filter.Dialect{{CESQL: "type IN ('a', 'b') AND EXISTS colour"}}}
	default:
		return filter.Spec{Filters: []filter.Dialect{exact()}}
	}
}

// mood makes a subscriber bad for a while.
func (d *drawer) mood(name string, after time.Duration) {
	rng := d.rng
	at := max(after+time.Second, d.moment())
	lasts := d.lasts(at, 10*time.Second, played-at-time.Minute)
	what := fmt.Sprintf("%s for %v", name, lasts)
	if rng.IntN(6) == 0 {
		d.script.add(at, func(w *world) {
			heal := w.rec.Fault(history.Subscriber, name+" is down")
			s := w.subscribers[name]
			s.down()
			w.later(lasts, func() { s.up(); heal() })
		}, "%s: down", what)
		return
	}
	m := pick(rng,
		mood{what: "slow", wait: d.between(time.Second, time.Minute)},
		mood{what: "hangs", wait: 2 * time.Hour},
		mood{what: "fails", code: pick(rng, 500, 502, 503, 404, 409)},
		mood{what: "refuses", code: pick(rng, 400, 403, 410, 302)},
		mood{what: "asks to wait", code: pick(rng, 429, 503), retryAfter: time.Duration(1+rng.IntN(120)) * time.Second},
		mood{what: "resets", reset: true},
		mood{what: "fails halfway", halfway: true},
		mood{what: "drips", drip: 1 + rng.IntN(60)},
		mood{what: "replies", reply: true},
		mood{what: "lies", nonsense: true},
		mood{what: "says other good things", code: pick(rng, 201, 202, 204, 299)},
	)
	if rng.IntN(2) == 0 {
		m.share = 0.2 + rng.Float64()/2
	}
	d.script.add(at, func(w *world) {
		heal := w.rec.Fault(history.Subscriber, name+" "+m.what)
		s := w.subscribers[name]
		s.feel(m)
		w.later(lasts, func() {
			s.feel(mood{})
			time.Sleep(m.retryAfter) // it has asked for so long, and gets it
			heal()
		})
	}, "%s: %+v", what, m)
}

// sends draws what senders send: single events, batches, what is no event, and
// most of it by senders that try again.
func (d *drawer) sends(n int) {
	for range n {
		at := d.busy()
		host, broker := fmt.Sprintf("sender-%d", d.rng.IntN(3)), pick(d.rng, d.brokers...)
		tries := pick(d.rng, 1, 1, 4)
		var events []history.Event
		for range pick(d.rng, 1, 1, 1, 1, 2, 5) {
			events = append(events, history.NewEvent(d.rng))
		}
		bad := d.rng.IntN(20) == 0
		d.script.add(at, func(w *world) {
			w.busy.Go(func() { w.post(host, broker, events, tries, bad) })
		}, "send %d from %s to %s", len(events), host, broker)
	}
}

// network makes a link bad for a while.
func (d *drawer) network() {
	rng := d.rng
	a, b := front, pick(rng, append(slices.Clone(d.triggers), "sender-0", "sender-1", "graves")...)
	at := d.moment()
	lasts := d.lasts(at, time.Second, 5*time.Minute)
	delay, rate := d.between(10*time.Millisecond, 10*time.Second), pick(rng, 50, 500, 5000)
	kind := pick(rng, "cut", "delay", "drip", "reset")
	d.script.add(at, func(w *world) {
		link := w.net.Link(a, b)
		heal := w.rec.Fault(history.Network, kind+" "+b)
		switch kind {
		case "cut":
			link.Cut()
		case "delay":
			link.Delay(delay)
		case "drip":
			link.Drip(rate)
		case "reset":
			link.Reset()
		}
		w.later(lasts, func() {
			switch kind {
			case "cut":
				link.Heal()
			case "delay":
				link.Delay(0)
				time.Sleep(delay) // for what is on its way
			case "drip":
				link.Drip(0)
				link.Reset() // what is on its way would go on dripping
			}
			heal()
		})
	}, "network to %s: %s (%v, %d bytes/s) for %v", b, kind, delay, rate, lasts)
}

func (d *drawer) slowDisk() {
	takes, lasts := d.between(10*time.Millisecond, 30*time.Second), d.between(10*time.Second, 2*time.Minute)
	d.script.add(d.moment(), func(w *world) {
		heal := w.rec.Fault(history.SlowDisk, takes.String())
		w.slow.Store(int64(takes))
		w.later(lasts, func() {
			w.slow.Store(0)
			w.later(30*time.Second, heal) // the last operation that was begun
		})
	}, "the disk takes %v for each operation for %v", takes, lasts)
}

func (d *drawer) fullDisk() {
	lasts := d.between(10*time.Second, 5*time.Minute)
	d.script.add(d.moment(), func(w *world) {
		heal := w.rec.Fault(history.DiskFull, "")
		w.fill(true)
		w.later(lasts, func() { w.fill(false); heal() })
	}, "the disk is full for %v", lasts)
}

// failedSync lets a sync fail, and somebody start the broker again.
func (d *drawer) failedSync() {
	at, noticed := d.moment(), d.between(time.Second, time.Minute)
	kind, down := pick(d.rng, history.Kill, history.PowerCut, history.Stop), d.between(100*time.Millisecond, 10*time.Second)
	d.script.add(at, func(w *world) {
		w.failSync.Store(true)
		w.later(noticed, func() {
			w.failSync.Store(false)
			if kind == history.Stop {
				w.restart(down)
			} else {
				w.crash(kind, down)
			}
		})
	}, "a sync fails; %s after %v, down %v", kind, noticed, down)
}

func (d *drawer) crash(kind history.Kind) {
	down := d.between(100*time.Millisecond, time.Minute)
	d.script.add(d.moment(), func(w *world) { w.crash(kind, down) }, "%s, down %v", kind, down)
}

func (d *drawer) restart() {
	down := d.between(100*time.Millisecond, time.Minute)
	d.script.add(d.moment(), func(w *world) { w.restart(down) }, "stop, down %v", down)
}

func (d *drawer) jump() {
	by := pick(d.rng, years, -years, time.Hour, -time.Hour, time.Minute, -time.Second)
	d.script.add(d.moment(), func(w *world) { w.jump(by) }, "the wall clock jumps by %v", by)
}

// reconfigure adds, removes, changes or holds a Trigger.
func (d *drawer) reconfigure() {
	at, name := d.moment(), pick(d.rng, d.triggers...)
	switch d.rng.IntN(4) {
	case 0:
		d.trigger(at)
	case 1:
		d.script.add(at, func(w *world) { w.remove(name) }, "%s is removed", name)
	case 2:
		f := randomFilter(d.rng)
		d.script.add(at, func(w *world) { w.edit(name, func(o *config.Object) { o.Trigger.Filter = f }) }, "%s has another filter: %s", name, f.Canonical())
	case 3:
		lasts := d.between(time.Second, 5*time.Minute)
		d.script.add(at, func(w *world) { w.hold(name, lasts) }, "%s is held for %v", name, lasts)
	}
}
