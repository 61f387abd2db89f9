// Package controller wires cmd/controller: the reconcilers of Brokers,
// Triggers and EventTypes on Knative's injection, and beside them the streams
// by which the pods of the data plane say what they have loaded.
//
// Probes, metrics, logging, profiling and leader election are those of
// Knative's controllers, and so are their ConfigMaps, in our own namespace;
// each may be absent. It reads Knative's feature flags in Knative's namespace.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"knative.dev/eventing/pkg/apis/feature"
	brokerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/broker"
	triggerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/trigger"
	"knative.dev/pkg/client/injection/kube/client"
	configmapinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/configmap"
	"knative.dev/pkg/configmap"
	knative "knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/injection/sharedmain"

	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/controller"
	"github.com/penstock-events/penstock/pkg/controller/broker"
	"github.com/penstock-events/penstock/pkg/controller/eventtype"
	"github.com/penstock-events/penstock/pkg/controller/trigger"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// component is our name in logs, metrics, leases and ConfigMap keys.
const component = "penstock-controller"

// Requests to the API server in a second. Knative's default of a few makes
// thousands of Triggers wait for each other; the server protects itself.
const (
	defaultQPS   = 200
	defaultBurst = 400
)

// startup is about how long it takes until all caches are filled.
const startup = 30 * time.Second

type loadedUIDs = []channel.UID

// Main reads the command line and the environment and runs until ctx ends. It
// ends the process where Knative's own scaffolding cannot start.
func Main(ctx context.Context) error {
	o, err := FromEnvironment()
	if err != nil {
		return err
	}
	cfg := injection.ParseAndGetRESTConfigOrDie()
	cfg.UserAgent = component
	if cfg.QPS == 0 {
		cfg.QPS = defaultQPS
	}
	if cfg.Burst == 0 {
		cfg.Burst = defaultBurst
	}
	return Run(ctx, cfg, o)
}

// Run runs the controller until ctx ends, and returns after all it started has
// ended.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	own, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client of the API server: %w", err)
	}
	w := &wiring{o: o, watched: make(chan []cache.InformerSynced, 1), log: log, asks: []chan bool{make(chan bool, 1), make(chan bool, 1)}}
	ingress := newPlane(planeOptions{
		client: own, namespace: o.SystemNamespace, service: o.Ingress, port: o.BoardPort,
		token: o.IngressToken, changed: w.news.Tell, types: w.types, log: log,
	})
	dispatcher := newPlane(planeOptions{
		client: own, namespace: o.SystemNamespace, service: o.Dispatchers, port: o.BoardPort,
		token: o.Token, changed: w.news.Tell, types: w.types, log: log,
	})

	w.ingress, w.dispatcher = ingress, dispatcher

	// The scaffolding also ends by itself, when one of its servers does.
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { w.probes(ctx) })
	all.Go(func() { ingress.run(ctx, w.asks[0]) })
	all.Go(func() { dispatcher.run(ctx, w.asks[1]) })
	all.Go(func() { settle(ctx) })

	w.run(ctx, cfg)
	return nil
}

// settle gives back what only the start needed, once that is over.
func settle(ctx context.Context) {
	started := time.NewTimer(startup)
	defer started.Stop()
	select {
	case <-started.C:
		process.Settle()
	case <-ctx.Done():
	}
}

// run runs Knative's scaffolding with our controllers.
func (w *wiring) run(ctx context.Context, cfg *rest.Config) {
	knative.DefaultThreadsPerController = w.o.Threads
	sharedmain.MainWithConfig(sharedmain.WithHealthProbesDisabled(ctx), component, cfg, w.brokers, w.triggers, w.eventTypes)
}

// probes serves Knative's probes, on a port that can be chosen, once all
// Brokers and Triggers have been read. That it cannot is seen by those who probe.
func (w *wiring) probes(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case watched := <-w.watched:
		if !cache.WaitForCacheSync(ctx.Done(), watched...) {
			return
		}
	}
	if err := injection.ServeHealthProbes(ctx, w.o.ProbePort); err != nil {
		w.log.Error("probes are not served", "port", w.o.ProbePort, "error", err)
	}
}

// wiring is what the constructors of the controllers share.
type wiring struct {
	o                   Options
	news                controller.News
	ingress, dispatcher controller.Plane
	asks                []chan bool                 // to each plane: whether types are asked for
	watched             chan []cache.InformerSynced // what must have been read before we are ready
	log                 *slog.Logger

	once  sync.Once
	flags *controller.Flags

	mu     sync.Mutex
	report func([]loaded.Type)
}

// options are made with the first controller, when injection has its clients.
func (w *wiring) options(ctx context.Context) controller.Options {
	w.once.Do(func() {
		configMaps := configmapinformer.Get(ctx)
		w.watched <- []cache.InformerSynced{
			brokerinformer.Get(ctx).Informer().HasSynced, triggerinformer.Get(ctx).Informer().HasSynced, configMaps.Informer().HasSynced,
		}
		w.flags = controller.NewFlags(configMaps.Lister(), w.o.EventingNamespace)
		ask := func(any) { w.ask(w.flags.Load().IsEnabled(feature.EvenTypeAutoCreate)) }
		if _, err := configMaps.Informer().AddEventHandler(cache.FilteringResourceEventHandler{
			FilterFunc: w.flags.Concerns, Handler: knative.HandleAll(ask),
		}); err != nil {
			panic(err) // it has been stopped: our own mistake
		}
	})
	return controller.Options{
		Ingress:           w.ingress,
		Dispatcher:        w.dispatcher,
		News:              &w.news,
		Flags:             w.flags,
		Judge:             &controller.Judge{Channels: w.o.Channels},
		Groups:            client.Get(ctx).Discovery(),
		IngressService:    w.o.Ingress,
		SystemNamespace:   w.o.SystemNamespace,
		EventingNamespace: w.o.EventingNamespace,
	}
}

// ask hands the planes the newest wish; one that nobody has taken is replaced.
// It is called by one goroutine, that of the informer's handler.
func (w *wiring) ask(on bool) {
	for _, ask := range w.asks {
		select {
		case <-ask:
		default:
		}
		ask <- on
	}
}

func (w *wiring) brokers(ctx context.Context, _ configmap.Watcher) *knative.Impl {
	return broker.NewController(ctx, w.options(ctx))
}

func (w *wiring) triggers(ctx context.Context, _ configmap.Watcher) *knative.Impl {
	return trigger.NewController(ctx, w.options(ctx))
}

func (w *wiring) eventTypes(ctx context.Context, _ configmap.Watcher) *knative.Impl {
	impl, report := eventtype.NewController(ctx, w.options(ctx).Flags)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = report
	return impl
}

// types passes on what pods have seen, once somebody is there to hear it.
func (w *wiring) types(seen []loaded.Type) {
	w.mu.Lock()
	report := w.report
	w.mu.Unlock()
	if report != nil {
		report(seen)
	}
}
