// Package knative runs the data plane of Knative's own Broker class, with its
// channel in memory: the ingress, the channel's dispatcher and the filter of
// knative.dev/eventing, each to be a process of its own, with real HTTP between
// them. Only the Kubernetes API is a stand-in. Metrics and traces are off and
// delivery is synchronous, both as shipped. There is no TLS, no OIDC, no sidecar
// and no network between pods, which flatters it. It is a peer to measure beside
// and nothing of Penstock uses it.
package knative

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	kubernetes "k8s.io/client-go/kubernetes/fake"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/auth"
	knative "knative.dev/eventing/pkg/client/clientset/versioned/fake"
	"knative.dev/eventing/pkg/client/informers/externalversions"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/logging"
)

// Roles are the programs, in the order to start them.
var Roles = []string{"filter", "channel", "ingress"}

// Options say where the three are, and what there is to deliver. All roles need
// all of it.
type Options struct {
	Ingress, Channel, Filter string // host:port

	// Triggers of Broker default/default with an exact filter each, on the first
	// event types. Only the middle one's subscriber is at Target, all others' at Other.
	Triggers      int
	Target, Other string
}

// namespace is where Knative would be installed.
const namespace = "knative-eventing"

// parts are what a role takes from the stand-in.
type parts struct {
	objects  objects
	events   externalversions.SharedInformerFactory
	bundles  corev1listers.ConfigMapNamespaceLister
	tokens   *auth.OIDCTokenProvider
	verifier *auth.Verifier
	features func(context.Context) context.Context
}

// Run serves one role until ctx ends.
func Run(ctx context.Context, role string, o Options) error {
	build, ok := map[string]struct {
		address string
		handler func(context.Context, *parts) (http.Handler, error)
	}{
		"ingress": {o.Ingress, ingressHandler}, "channel": {o.Channel, channelHandler}, "filter": {o.Filter, filterHandler},
	}[role]
	if !ok {
		return fmt.Errorf("role %q: want one of %v", role, Roles)
	}
	port, err := portOf(build.address)
	if err != nil {
		return err
	}
	if err := os.Setenv("SYSTEM_NAMESPACE", namespace); err != nil {
		return err
	}
	logs, err := logging.NewConfigFromMap(nil)
	if err != nil {
		return err
	}
	logger, _ := logging.NewLoggerFromConfig(logs, role)
	ctx = logging.WithLogger(ctx, logger)
	p := &parts{}
	if p.objects, err = declare(o); err != nil {
		return err
	}
	kube := kubernetes.NewClientset()
	// Its verifier asks the API server for keys as it starts, OIDC or not. There is none to answer.
	ctx = injection.WithConfig(context.WithValue(ctx, kubeclient.Key{}, kube), &rest.Config{Timeout: 100 * time.Millisecond})
	core := informers.NewSharedInformerFactory(kube, 0)
	p.bundles = core.Core().V1().ConfigMaps().Lister().ConfigMaps(namespace)
	p.events = externalversions.NewSharedInformerFactory(knative.NewSimpleClientset(p.objects.all()...), 0)
	p.tokens = auth.NewOIDCTokenProvider(ctx)
	config := configmap.NewStaticWatcher(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: feature.FlagsConfigName}})
	store := feature.NewStore(logger)
	store.WatchConfigs(config)
	p.features = store.ToContext
	p.verifier = auth.NewVerifier(ctx, p.events.Eventing().V1alpha1().EventPolicies().Lister(), p.bundles, config)

	handler, err := build.handler(ctx, p)
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	core.Start(ctx.Done())
	core.WaitForCacheSync(ctx.Done())
	p.events.Start(ctx.Done())
	p.events.WaitForCacheSync(ctx.Done())
	if err := serve(ctx, port, handler); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	return nil // how long its connections take to end is not of interest
}

func portOf(address string) (int, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// stopTimeout bounds the end of a role; nothing is under way by then.
const stopTimeout = time.Second
