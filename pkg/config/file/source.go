package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

// Load reads everything for the first time. An error is one line that names
// the path and the cure: a path that was asked for cannot be read, or the
// identities of an earlier run cannot be read or kept. What is wrong inside
// the files stops nothing and is in the Snapshot.
func (s *Source) Load() (*config.Snapshot, error) {
	unread := s.scan()
	objects, _ := s.declared()
	store, err := openStore(s.o.Dir, objects)
	if err = cmp.Or(err, unread); err != nil {
		return nil, err
	}
	s.store = store
	return s.build()
}

// Run watches until ctx ends, and calls apply with each new Snapshot, from its
// own goroutine and never twice at once. Load must have succeeded. It returns
// nil when ctx ends, after all it started has ended.
func (s *Source) Run(ctx context.Context, apply func(*config.Snapshot)) error {
	if s.last == nil {
		return errors.New("watch configuration: it has not been loaded")
	}
	w := s.watch()
	defer w.close()

	tick := time.NewTimer(poll)
	defer tick.Stop()
	calm := time.NewTimer(0)
	calm.Stop()
	defer calm.Stop()
	var since time.Time // first of the changes that have not been looked at
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.events():
			if !s.concerns(e) {
				continue
			}
			now := time.Now()
			if since.IsZero() {
				since = now
			}
			calm.Reset(min(settle, max(0, maxSettle-now.Sub(since))))
			w.sure = "" // a link may have come in the place of a file
			continue
		case err := <-w.errors():
			s.o.Logger.Warn("watching the configuration is hampered, it is looked at twice a second all the same", "error", err)
			w.missed = true
			tick.Reset(poll)
			continue
		case <-tick.C:
			if !since.IsZero() {
				tick.Reset(poll)
				continue // somebody is writing
			}
		case <-calm.C:
			since = time.Time{}
		}
		s.look(apply)
		w.add(s)
		if s.someBlank() {
			calm.Reset(blankSettle)
		}
		if rest, some := s.rest(w); some {
			tick.Reset(rest)
		} else {
			tick.Stop()
		}
	}
}

// rest is how long it is until the next look that nothing reported asks for;
// false where there is nothing to look for.
func (s *Source) rest(w *watcher) (rest time.Duration, some bool) {
	switch {
	case s.unsaved:
		return poll, true
	case len(s.o.Paths) == 0:
		rest = graceLook
	case w.complete(s):
		rest, some = slowPoll, true
	default:
		rest, some = poll, true
	}
	if until, holds := s.store.nextEnd(); holds {
		left := until.Sub(s.o.Now())
		if left <= 0 {
			left = poll // what cannot be read keeps it
		}
		rest, some = min(rest, left), true
	}
	return rest, some
}

// someBlank reports whether a file has just become empty.
func (s *Source) someBlank() bool {
	for _, f := range s.files {
		if !f.blank.IsZero() {
			return true
		}
	}
	return false
}

// look scans, and applies what changed.
func (s *Source) look(apply func(*config.Snapshot)) {
	_ = s.scan() // what cannot be read is a Problem of the Snapshot and stays in force
	ended := s.store.due(s.o.Now()) && !s.blind()
	if s.signature() == s.input && !ended && !s.unsaved {
		return
	}
	next, err := s.build()
	if err != nil {
		if !s.unsaved {
			s.o.Logger.Error("new configuration is not in force, the old one is", "error", err)
		}
		s.unsaved = true
		return
	}
	s.unsaved = false
	apply(next)
}

// signature tells one outcome of a scan from another.
func (s *Source) signature() string {
	var b strings.Builder
	for _, path := range s.order {
		f := s.files[path]
		fmt.Fprintf(&b, "%q %d %q %q\n", path, f.edition, f.origin, f.fault)
	}
	for _, p := range s.scanProblems {
		fmt.Fprintf(&b, "%q\n", p)
	}
	return b.String()
}

// staysInForce ends the Problem of a file or folder that is no good just now.
const staysInForce = ": until then its last good version, if there was one, stays in force"

// build compiles what the last scan found, and returns it once every identity
// in it is durable.
func (s *Source) build() (*config.Snapshot, error) {
	input, now := s.signature(), s.o.Now()
	objects, problems := s.declared()
	at := situation{now: now, grace: s.o.Grace, broken: make(map[string]bool), blind: s.blind()}
	for _, path := range s.order {
		if f := s.files[path]; f.good == nil {
			at.broken[f.abs] = true
		}
	}
	objects = s.store.reconcile(objects, at)

	o := s.o.Compile
	o.Generation, o.Previous = 1, s.last
	if s.last != nil {
		o.Generation = s.last.Generation() + 1
	}
	o.Problems = append(slices.Clone(o.Problems), problems...)
	o.Removed = slices.Clone(s.store.state.Removed)
	next := config.Compile(objects, o)

	s.store.created(next.Brokers())
	if err := s.store.save(); err != nil {
		return nil, err
	}
	s.last, s.input = next, input
	s.log(next)
	return next, nil
}

// blind reports whether something cannot be read or parsed just now.
func (s *Source) blind() bool {
	return len(s.scanProblems) > 0 || slices.ContainsFunc(s.order, func(path string) bool { return s.files[path].fault != "" })
}

// declared collects what all files declare, in their order, and the Broker
// that always exists.
func (s *Source) declared() (objects []*config.Object, problems []config.Problem) {
	problems = append(problems, s.scanProblems...)
	settings := make(map[settingsKey]map[string]string)
	for _, path := range s.order {
		f := s.files[path]
		if f.fault != "" {
			problems = append(problems, config.Problem{Origin: f.origin, Message: f.fault + staysInForce})
		}
		if f.good == nil {
			continue
		}
		objects = append(objects, f.good.objects...)
		problems = append(problems, f.good.problems...)
		for k, data := range f.good.settings {
			if _, taken := settings[k]; !taken {
				settings[k] = data
			}
		}
	}
	hasDefault := false
	for i, o := range objects {
		if o.Kind != config.KindBroker {
			continue
		}
		hasDefault = hasDefault || o.Namespace == DefaultNamespace && o.Name == "default"
		if ref := o.Broker.Config; ref != nil && ref.Kind == "ConfigMap" {
			k := settingsKey{ref.Namespace, ref.Name}
			if k.namespace == "" {
				k.namespace = o.Namespace
			}
			with := *o
			with.Settings = settings[k]
			objects[i] = &with
		}
	}
	if !hasDefault {
		objects = append(objects, &config.Object{
			Kind: config.KindBroker, Namespace: DefaultNamespace, Name: "default", File: config.BuiltIn, Broker: new(config.BrokerSpec),
		})
	}
	return objects, problems
}

// log tells each problem once, for as long as it lasts.
func (s *Source) log(snapshot *config.Snapshot) {
	now := make(map[config.Problem]bool, len(snapshot.Problems()))
	for _, p := range snapshot.Problems() {
		if !s.logged[p] && !now[p] {
			s.o.Logger.Warn("configuration needs a look", "origin", p.Origin, "problem", p.Message)
		}
		now[p] = true
	}
	s.logged = now
	s.o.Logger.Info("configuration is in force", "generation", snapshot.Generation(),
		"brokers", len(snapshot.Brokers()), "triggers", len(snapshot.Triggers()), "problems", len(snapshot.Problems()))
}
