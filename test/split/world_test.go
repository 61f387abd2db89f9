package split_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/app/dispatcher"
	"github.com/penstock-events/penstock/pkg/app/ingress"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/test/standin"
)

// plane is a data plane of one ingress and some dispatchers: the programs of a
// cluster, on real sockets and real folders, with a stand-in for the Kubernetes
// API alone.
type plane struct {
	t       *testing.T
	dir     string
	clients cluster.Clients
	port    string   // of the hop, at each dispatcher's own loopback address
	apis    []string // by dispatcher
	url     string   // of Broker default/default
	probes  string   // of the ingress
	sub     *subscriber

	dispatchers []*program
	door        *program
}

// program is one Run in this process.
type program struct {
	stop  context.CancelFunc
	ended chan error
	log   *buffer
}

type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// subscriber counts what comes, by id.
type subscriber struct {
	*httptest.Server
	refuse atomic.Bool // all that comes, for good
	mu     sync.Mutex
	got    map[string]int
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refuse.Load() {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[r.Header.Get("Ce-Id")]++
}

func (s *subscriber) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[id] > 0
}

// start brings up so many dispatchers and an ingress that shows them a token.
// Broker and Trigger may get annotations.
func start(t *testing.T, dispatchers int, token string, annotate ...func(*eventingv1.Broker, *eventingv1.Trigger)) *plane {
	t.Helper()
	p := &plane{t: t, dir: t.TempDir(), port: freePort(t, "127.0.0.1"), sub: &subscriber{got: map[string]int{}}}
	p.sub.Server = httptest.NewServer(p.sub)
	t.Cleanup(p.sub.Close)
	var addresses []string
	api := freePort(t, "127.0.0.1")
	for i := range dispatchers {
		addresses = append(addresses, net.JoinHostPort(host(i), p.port))
		p.apis = append(p.apis, net.JoinHostPort(host(i), api))
	}
	trigger, err := standin.Trigger("default", "all", "default", "", p.sub.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	broker := standin.Broker("default", "default")
	for _, f := range annotate {
		f(broker, trigger)
	}
	if p.clients, err = standin.Clients(addresses, api, []runtime.Object{broker, trigger}...); err != nil {
		t.Fatal(err)
	}
	p.dispatchers = make([]*program, dispatchers)
	for i := range dispatchers {
		p.dispatch(i)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "token"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	p.open()
	return p
}

// host is the loopback address of a dispatcher: in a Service all have one port.
func host(i int) string { return fmt.Sprintf("127.0.0.%d", i+1) }

func freePort(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (p *plane) run(name string, run func(ctx context.Context, log io.Writer) error) *program {
	ctx, stop := context.WithCancel(context.Background())
	g := &program{stop: stop, ended: make(chan error, 1), log: &buffer{}}
	go func() { g.ended <- run(ctx, g.log) }()
	p.t.Cleanup(func() {
		g.end(p.t)
		if p.t.Failed() {
			p.t.Logf("%s said:\n%s", name, g.log)
		}
	})
	return g
}

// end stops a program in order. It may be called again.
func (g *program) end(t *testing.T) {
	t.Helper()
	g.stop()
	if err, first := <-g.ended; first {
		close(g.ended)
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

// dispatch starts a dispatcher on its folder and waits until it serves.
func (p *plane) dispatch(i int) {
	p.t.Helper()
	p.dispatchers[i] = p.run(fmt.Sprintf("dispatcher %d", i), func(ctx context.Context, log io.Writer) error {
		return dispatcher.Run(ctx, dispatcher.Options{
			Identity: cluster.Identity{Namespace: standin.Namespace, Pod: fmt.Sprintf("penstock-dispatcher-%d", i)},
			Data:     filepath.Join(p.dir, fmt.Sprint(i)), Listen: net.JoinHostPort(host(i), p.port), APIListen: p.apis[i],
			MetricsListen: host(i) + ":0", DrainTimeout: time.Second, ScrubRate: "0", LogFormat: "text", LogLevel: "info",
			Guard: deliver.Guard{AllowLoopback: true},
		}, p.clients, log)
	})
	p.ready("http://" + p.apis[i] + "/readyz")
}

// open starts the ingress and waits until it serves.
func (p *plane) open() {
	p.t.Helper()
	listen := net.JoinHostPort("127.0.0.1", freePort(p.t, "127.0.0.1"))
	p.probes = net.JoinHostPort("127.0.0.1", freePort(p.t, "127.0.0.1"))
	p.url = "http://" + listen + "/default/default"
	p.door = p.run("ingress", func(ctx context.Context, log io.Writer) error {
		return ingress.Run(ctx, ingress.Options{
			Identity: cluster.Identity{Namespace: standin.Namespace, Pod: "penstock-ingress-0"},
			Listen:   []string{listen}, APIListen: p.probes, MetricsListen: "127.0.0.1:0",
			Dispatchers: "penstock-dispatcher", Service: "penstock-ingress", Token: filepath.Join(p.dir, "token"),
			APIUrl:       "https://penstock.example",
			DrainTimeout: time.Second, LogFormat: "text", LogLevel: "info",
		}, p.clients, log)
	})
	p.ready("http://" + p.probes + "/readyz")
}

// eventually waits for what real processes do in their own time.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-limit.C:
			t.Fatalf("after 20 s: not yet: %s", what)
		case <-poll.C:
		}
	}
}

func (p *plane) ready(url string) {
	p.t.Helper()
	eventually(p.t, url, func() bool {
		answer, err := http.Get(url)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// post sends an event, with a partition key where it is not "".
func (p *plane) post(id, key string) (code int, answer http.Header) {
	p.t.Helper()
	return p.postWith(id, map[string]string{"Ce-Partitionkey": key})
}

// postWith sends an event with these headers beside those it needs.
func (p *plane) postWith(id string, headers map[string]string) (code int, answer http.Header) {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.url, strings.NewReader("hello"))
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range map[string]string{"Ce-Id": id, "Ce-Source": "/test", "Ce-Type": "order", "Ce-Specversion": "1.0"} {
		r.Header.Set(name, value)
	}
	for name, value := range headers {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil // the connection broke: the sender does not know
	}
	got.Body.Close()
	return got.StatusCode, got.Header
}

// serving says in the EndpointSlice whether a dispatcher is ready.
func (p *plane) serving(i int, is bool) {
	p.t.Helper()
	slices := p.clients.Kube.DiscoveryV1().EndpointSlices(standin.Namespace)
	slice, err := slices.Get(p.t.Context(), "penstock-dispatcher-1", metav1.GetOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	slice = slice.DeepCopy()
	slice.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: &is, Serving: &is}
	if _, err := slices.Update(p.t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		p.t.Fatal(err)
	}
}
