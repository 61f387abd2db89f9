package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/client/informers/externalversions"
	eventinglisters "knative.dev/eventing/pkg/client/listers/eventing/v1"

	"github.com/penstock-events/penstock/pkg/config"
)

// Source watches all Brokers and Triggers of a cluster. Make it with New.
type Source struct {
	o     Options
	state *state
	last  *config.Snapshot
	ready atomic.Bool

	brokers  eventinglisters.BrokerLister
	triggers eventinglisters.TriggerLister

	// touched holds one token while there is a change that has not been looked at.
	touched chan struct{}
}

// New makes a Source. It asks nobody yet.
func New(o Options) *Source {
	o.fill()
	return &Source{o: o, state: newState(o.Grace), touched: make(chan struct{}, 1)}
}

// Run watches until ctx ends, and calls apply with each new Snapshot, from its
// own goroutine and never twice at once. The first comes when the caches have
// come into step with the API server, however long that takes, and is there
// also when nothing is declared. What changes while apply runs is in the next.
// While the API server is away the last stays in force. Run returns nil when
// ctx ends, after all it started has ended, and an error where it cannot
// begin. It is called once.
func (s *Source) Run(ctx context.Context, apply func(*config.Snapshot)) error {
	factory := s.o.Factory
	if factory == nil {
		if s.o.Client == nil {
			return errors.New("watch configuration: neither a client nor informers were given")
		}
		factory = NewFactory(s.o.Client)
		if s.o.BrokersOnly {
			factory = newFactory(s.o.Client, StripUnordered)
		}
		defer factory.Shutdown() // waits for the informers
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	synced, leave, err := s.watch(factory)
	if err != nil {
		return fmt.Errorf("watch configuration: %w", err)
	}
	defer leave()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	if s.o.Stored != nil {
		s.state.remember(s.o.Stored(), s.o.Now())
	}
	s.follow(ctx, apply)
	return nil
}

// watch has the informers touch the Source.
func (s *Source) watch(factory externalversions.SharedInformerFactory) (synced []cache.InformerSynced, leave func(), err error) {
	brokers := factory.Eventing().V1().Brokers()
	s.brokers = brokers.Lister()
	triggers := factory.Eventing().V1().Triggers()
	s.triggers = triggers.Lister()
	informers := map[string]cache.SharedIndexInformer{config.KindBroker: brokers.Informer(), config.KindTrigger: triggers.Informer()}
	var leaves []func()
	leave = func() {
		for _, l := range leaves {
			l()
		}
	}
	for kind, informer := range informers {
		// It is refused where the informer runs already; then its owner has set one.
		_ = informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { s.failed(kind, err) })
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { s.touch() },
			UpdateFunc: func(any, any) { s.touch() },
			DeleteFunc: func(any) { s.touch() },
		})
		if err != nil {
			leave()
			return nil, nil, err
		}
		leaves = append(leaves, func() { _ = informer.RemoveEventHandler(registration) })
		synced = append(synced, registration.HasSynced)
	}
	return synced, leave, nil
}

// failed tells of an error of a watch. client-go tries again by itself, with
// growing pauses.
func (s *Source) failed(kind string, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // how watches end in the best of days
	}
	s.o.Logger.Warn("the Kubernetes API cannot be watched, what is in force stays", "kind", kind, "error", err)
}

func (s *Source) touch() {
	select {
	case s.touched <- struct{}{}:
	default:
	}
}

// follow looks at once, and then whenever something was touched or some grace
// has ended.
func (s *Source) follow(ctx context.Context, apply func(*config.Snapshot)) {
	grace := time.NewTimer(0)
	grace.Stop()
	defer grace.Stop()
	for {
		took := s.look(apply)
		if until := s.state.nextEnd(); until.IsZero() {
			grace.Stop()
		} else {
			grace.Reset(max(0, until.Sub(s.o.Now())))
		}
		if !wait(ctx, min(took, maxPause)) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-grace.C:
		case <-s.touched:
			if !s.calm(ctx) {
				return
			}
		}
	}
}

// calm waits until nothing moves any more, or has moved for too long.
func (s *Source) calm(ctx context.Context) bool {
	end := time.Now().Add(maxSettle)
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-quiet.C:
			return true
		case <-s.touched:
			quiet.Reset(min(settle, max(0, time.Until(end))))
		}
	}
}

// look applies what is declared now, if it is anything new, and says how long
// that took.
func (s *Source) look(apply func(*config.Snapshot)) time.Duration {
	start := time.Now()
	brokers, err := s.brokers.List(labels.Everything())
	if err == nil {
		var triggers []*eventingv1.Trigger
		triggers, err = s.triggers.List(labels.Everything())
		if s.o.BrokersOnly {
			triggers = slices.DeleteFunc(triggers, func(t *eventingv1.Trigger) bool { return !config.OrdersByKey(t.Annotations) })
		}
		if err == nil && (s.state.take(brokers, triggers, s.o.Now()) || s.last == nil) {
			s.compile()
			apply(s.last)
			s.ready.Store(true)
		}
	}
	if err != nil { // a cache of other things than it was made for
		s.o.Logger.Error("the cache of the Kubernetes API cannot be read", "error", err)
	}
	return time.Since(start)
}

func (s *Source) compile() {
	o := s.o.Compile
	o.Generation, o.Previous = 1, s.last
	if s.last != nil {
		o.Generation = s.last.Generation() + 1
	}
	o.Removed = s.state.removedList()
	s.last = config.Compile(s.state.objects(), o)
	s.state.created(s.last.Brokers())

	log := s.o.Logger.Debug
	if o.Previous == nil {
		log = s.o.Logger.Info
	}
	log("configuration is new", "generation", s.last.Generation(), "brokers", len(s.last.Brokers()),
		"triggers", len(s.last.Triggers()), "problems", len(s.last.Problems()), "removed", len(o.Removed))
}

// Ready is nil once the first Snapshot has been applied, otherwise what is
// waited for. It may be called at any time by any goroutine.
func (s *Source) Ready() error {
	if s.ready.Load() {
		return nil
	}
	return errors.New("configuration: waiting for the Kubernetes API to list Brokers and Triggers")
}

// wait reports whether ctx has not ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
