package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// What stands against a pause, its end, or a skip. Callers decide on these; the
// errors around them say more.
var (
	ErrNoLane     = errors.New("no such trigger is delivered to here")
	ErrAnnotation = errors.New("the annotation penstock.dev/paused holds it: change that")
	ErrNotPaused  = errors.New("it is not paused")
	ErrPast       = errors.New("a pause cannot end in the past")
)

// pause is one that a person asked for.
type pause struct {
	until time.Time // by the wall clock; zero: until somebody ends it
	ends  time.Time // the same by the clock that nobody sets
}

// Pause stops the deliveries of a trigger until a time, or with the zero time
// until Resume: attempts in flight end, everything else is kept. It outlives
// the process where Options.SavePaused does, and is in force when Pause returns.
func (d *Dispatcher) Pause(ctx context.Context, trigger channel.UID, until time.Time) error {
	if !until.IsZero() && !until.After(d.opts.Now()) {
		return ErrPast
	}
	return d.changePaused(ctx, trigger, func(l *lane, all map[channel.UID]time.Time) error {
		all[trigger] = until
		return nil
	})
}

// Resume ends a pause that a person asked for. One that the annotation asks
// for stays, which is an ErrAnnotation.
func (d *Dispatcher) Resume(ctx context.Context, trigger channel.UID) error {
	var still error
	err := d.changePaused(ctx, trigger, func(l *lane, all map[channel.UID]time.Time) error {
		annotated := l.settings().paused
		if annotated {
			still = ErrAnnotation
		}
		if _, ok := all[trigger]; !ok {
			if annotated {
				return ErrAnnotation
			}
			return ErrNotPaused
		}
		delete(all, trigger)
		return nil
	})
	if err != nil {
		return err
	}
	return still
}

// changePaused changes who is paused: first where it is kept, then in force.
func (d *Dispatcher) changePaused(ctx context.Context, trigger channel.UID, change func(l *lane, all map[channel.UID]time.Time) error) error {
	select {
	case d.pausing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.pausing }()
	l := d.find(trigger)
	if l == nil {
		return ErrNoLane
	}
	all := d.pausesNow()
	if err := change(l, all); err != nil {
		return err
	}
	if err := d.savePaused(all); err != nil {
		return err
	}
	l.setPause(d.pauseOf(trigger))
	return nil
}

// pausesNow copies the pauses that have not ended.
func (d *Dispatcher) pausesNow() map[channel.UID]time.Time {
	all := maps.Clone(*d.paused.Load())
	now := d.opts.Now()
	maps.DeleteFunc(all, func(_ channel.UID, until time.Time) bool { return !until.IsZero() && !until.After(now) })
	return all
}

func (d *Dispatcher) savePaused(all map[channel.UID]time.Time) error {
	if d.opts.SavePaused != nil {
		if err := d.opts.SavePaused(all); err != nil {
			return fmt.Errorf("save pauses: %w", err)
		}
	}
	d.paused.Store(&all)
	return nil
}

// forgetPaused drops the pauses of triggers that are gone for good. One that
// cannot be saved does no harm: a UID is never given again.
func (d *Dispatcher) forgetPaused(gone map[channel.UID]bool) {
	d.pausing <- struct{}{}
	defer func() { <-d.pausing }()
	all, known := d.pausesNow(), false
	for uid := range gone {
		if _, ok := all[uid]; ok {
			known = true
			delete(all, uid)
		}
	}
	if known {
		if err := d.savePaused(all); err != nil {
			d.log.Warn("pauses of triggers that are gone stay on disk", "err", err)
		}
	}
}

// pauseOf is the pause of a trigger that a person asked for; nil for none.
func (d *Dispatcher) pauseOf(trigger channel.UID) *pause {
	until, ok := (*d.paused.Load())[trigger]
	switch {
	case !ok:
		return nil
	case until.IsZero():
		return &pause{}
	}
	left := until.Sub(d.opts.Now())
	if left <= 0 {
		return nil
	}
	return &pause{until: until, ends: time.Now().Add(left)}
}

// find is the lane of a trigger; nil where there is none.
func (d *Dispatcher) find(trigger channel.UID) *lane {
	for _, b := range *d.brokers.Load() {
		b.mu.Lock()
		l := b.lanes[trigger]
		b.mu.Unlock()
		if l != nil {
			return l
		}
	}
	return nil
}

// setPause puts a person's pause, or nil for none, in force.
func (l *lane) setPause(p *pause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pause = p
	if l.stopped {
		return
	}
	if l.still() {
		l.timer.Stop()
		l.rest()
		return
	}
	l.kick()
}

// still reports whether the lane begins nothing, the sink included, whatever
// there is to do. The caller holds the mutex.
func (l *lane) still() bool {
	if l.pause != nil && !l.pause.ends.IsZero() && !l.pause.ends.After(time.Now()) {
		l.pause = nil
	}
	return !l.conf.deliverable || l.conf.paused || l.pause != nil || l.reorder
}
