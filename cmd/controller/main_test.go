package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/eventing/v1beta3"
	"knative.dev/eventing/pkg/client/clientset/versioned"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// cluster is a real API server with Knative's CRDs, and the real controller
// beside it. The data plane is one pod of each program that loads what it sees
// and shows it, but has no log and no ingress.
type cluster struct {
	*testing.T
	ctx      context.Context
	rest     *rest.Config
	core     kubernetes.Interface
	eventing versioned.Interface

	binary                  string
	system, knative, tenant string // namespaces
	board                   *loaded.Board
	port                    int
	held                    *atomic.Pointer[chan struct{}] // while it holds one that is open, pods load nothing new
}

func onCluster(t *testing.T) *cluster {
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		t.Skip("KUBECONFIG is not set: this needs an API server with Knative's CRDs")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS, cfg.Burst = 200, 400
	c := &cluster{T: t, rest: cfg, core: kubernetes.NewForConfigOrDie(cfg), eventing: versioned.NewForConfigOrDie(cfg), held: new(atomic.Pointer[chan struct{}])}
	c.ctx = t.Context()
	if _, err := c.eventing.EventingV1().Brokers("default").List(c.ctx, metav1.ListOptions{Limit: 1}); err != nil {
		t.Skipf("the API server has no Brokers: %v", err)
	}
	c.binary = filepath.Join(t.TempDir(), "controller")
	if out, err := exec.Command("go", "build", "-o", c.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c.system, c.knative, c.tenant = c.namespace("system"), c.namespace("knative"), c.namespace("shop")
	_, err = c.core.CoreV1().ConfigMaps(c.system).Create(c.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "config-leader-election"},
		Data:       map[string]string{"lease-duration": "3s", "renew-deadline": "2s", "retry-period": "200ms"},
	}, metav1.CreateOptions{})
	c.must(err)
	c.dataPlane()
	return c
}

func (c *cluster) namespace(role string) string {
	ns, err := c.core.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "controller-test-" + role + "-"}}, metav1.CreateOptions{})
	c.must(err)
	c.Cleanup(func() {
		c.core.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{})
	})
	return ns.Name
}

// step is a part of the story. If it fails the story ends.
func (c *cluster) step(name string, f func(*cluster)) {
	ok := c.Run(name, func(t *testing.T) {
		part := *c
		part.T = t
		f(&part)
	})
	if !ok {
		c.FailNow()
	}
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// dataPlane is one process that stands for both programs: it watches as they
// do, and its Board is what they have.
func (c *cluster) dataPlane() {
	ip := ownAddress(c.T)
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	c.must(err)
	c.port = listener.Addr().(*net.TCPAddr).Port
	c.board = loaded.NewBoard(loaded.BoardOptions{Authorize: func(*http.Request) error { return nil }})
	mux := http.NewServeMux()
	mux.Handle(loaded.Path, c.board)
	server := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	source := kube.New(kube.Options{Client: c.eventing, Compile: config.Options{Channels: []string{"disk", "memory"}}})
	ctx, stop := context.WithCancel(context.Background())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		source.Run(ctx, func(s *config.Snapshot) {
			if held := c.held.Load(); held != nil {
				<-*held
			}
			objects := make(map[channel.UID]string)
			for _, b := range s.Brokers() {
				objects[b.UID] = b.Version
			}
			for _, t := range s.Triggers() {
				objects[t.UID] = t.Version
			}
			c.board.Publish(objects)
		})
	}()
	c.Cleanup(func() {
		stop()
		<-watching
		c.board.Close()
		server.Close()
		<-done
	})
	for _, service := range []string{"penstock-ingress", "penstock-dispatcher"} {
		_, err := c.core.DiscoveryV1().EndpointSlices(c.system).Create(c.ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: service + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{ip}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: service + "-0"}}},
		}, metav1.CreateOptions{})
		c.must(err)
	}
}

// ownAddress is one that an EndpointSlice may hold: not a loopback one.
func ownAddress(t *testing.T) string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has loopback addresses only, which no EndpointSlice may hold")
	return ""
}

// controller starts one, and returns how to stop it.
func (c *cluster) controller() (stop func()) {
	stop, _ = c.process()
	return stop
}

func (c *cluster) process() (stop func(), pid int) {
	probes := freePort(c.T)
	cmd := exec.Command(c.binary)
	cmd.Env = append(os.Environ(),
		"SYSTEM_NAMESPACE="+c.system, "EVENTING_NAMESPACE="+c.knative, "POD_NAME=controller-"+strconv.Itoa(probes),
		"PENSTOCK_TOKEN=", "PENSTOCK_INGRESS_TOKEN=", "PENSTOCK_BOARD_PORT="+strconv.Itoa(c.port),
		"PENSTOCK_PROBE_PORT="+strconv.Itoa(probes), "PROFILING_PORT="+strconv.Itoa(freePort(c.T)))
	log, err := os.Create(filepath.Join(c.TempDir(), "log"))
	c.must(err)
	cmd.Stdout, cmd.Stderr = log, log
	c.must(cmd.Start())
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { c.Error("the controller did not stop"); cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			c.Errorf("the controller ended with %v", err)
		}
		if out, _ := os.ReadFile(log.Name()); c.Failed() || os.Getenv("CONTROLLER_LOG") != "" {
			c.Logf("log of the controller:\n%s", tail(out))
		}
		log.Close()
	}
	c.Cleanup(stop)
	c.eventually("probes answer", func() string {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readiness", probes))
		if err != nil {
			return err.Error()
		}
		response.Body.Close()
		return wantStatus(response.StatusCode)
	})
	return stop, cmd.Process.Pid
}

func wantStatus(code int) string {
	if code != http.StatusOK {
		return "status " + strconv.Itoa(code)
	}
	return ""
}

func tail(out []byte) string {
	if len(out) > 20_000 {
		out = out[len(out)-20_000:]
	}
	return string(out)
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// eventually polls until check says nothing more against it.
func (c *cluster) eventually(what string, check func() string) {
	c.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		why := check()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("%s: %s", what, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *cluster) broker(name string, change ...func(*eventingv1.Broker)) *eventingv1.Broker {
	c.Helper()
	b := &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{Namespace: c.tenant, Name: name, Annotations: map[string]string{config.ClassAnnotation: config.BrokerClass}}}
	for _, f := range change {
		f(b)
	}
	b, err := c.eventing.EventingV1().Brokers(c.tenant).Create(c.ctx, b, metav1.CreateOptions{})
	c.must(err)
	return b
}

func (c *cluster) trigger(name, broker string) *eventingv1.Trigger {
	c.Helper()
	t, err := c.eventing.EventingV1().Triggers(c.tenant).Create(c.ctx, &eventingv1.Trigger{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.tenant, Name: name},
		Spec:       eventingv1.TriggerSpec{Broker: broker, Subscriber: duckv1.Destination{URI: apis.HTTP("subscriber.example")}},
	}, metav1.CreateOptions{})
	c.must(err)
	return t
}

// is compares the Ready of a Broker or Trigger: True, False Reason, Unknown Reason.
func is(conditions duckv1.Conditions, want string) string {
	for _, x := range conditions {
		if got := strings.TrimSpace(string(x.Status) + " " + x.Reason); x.Type == apis.ConditionReady {
			if got == want {
				return ""
			}
			return fmt.Sprintf("Ready is %s (%s), want %s", got, x.Message, want)
		}
	}
	return "no Ready, want " + want
}

func (c *cluster) brokerIs(name, want string) *eventingv1.Broker {
	c.Helper()
	var b *eventingv1.Broker
	c.eventually("Broker "+name, func() (why string) {
		var err error
		b, err = c.eventing.EventingV1().Brokers(c.tenant).Get(c.ctx, name, metav1.GetOptions{})
		c.must(err)
		if b.Status.ObservedGeneration != b.Generation {
			return "not observed"
		}
		return is(b.Status.Conditions, want)
	})
	return b
}

func (c *cluster) triggerIs(name, want string) *eventingv1.Trigger {
	c.Helper()
	var t *eventingv1.Trigger
	c.eventually("Trigger "+name, func() (why string) {
		var err error
		t, err = c.eventing.EventingV1().Triggers(c.tenant).Get(c.ctx, name, metav1.GetOptions{})
		c.must(err)
		if t.Status.ObservedGeneration != t.Generation {
			return "not observed"
		}
		return is(t.Status.Conditions, want)
	})
	return t
}

func TestOnARealAPIServer(t *testing.T) {
	c := onCluster(t)
	stop := c.controller()
	long := strings.Repeat("b", 63)

	c.step("a Broker and its Trigger become Ready", func(c *cluster) {
		c.trigger("early", "orders")
		c.triggerIs("early", "False BrokerDoesNotExist")
		c.broker("orders")
		b := c.brokerIs("orders", "True")
		if want := "http://penstock-ingress." + c.system + ".svc.cluster.local/" + c.tenant + "/orders"; b.Status.Address.URL.String() != want {
			c.Errorf("address %s, want %s", b.Status.Address.URL, want)
		}
		tr := c.triggerIs("early", "True")
		if tr.Status.SubscriberURI.String() != "http://subscriber.example" || len(tr.Finalizers)+len(b.Finalizers) > 0 {
			c.Errorf("%+v", tr)
		}
		c.broker(long)
		c.trigger(strings.Repeat("t", 63), long)
		c.triggerIs(strings.Repeat("t", 63), "True")
	})
	c.step("people are told", func(c *cluster) {
		c.eventually("Events", func() string {
			events, err := c.core.CoreV1().Events(c.tenant).List(c.ctx, metav1.ListOptions{})
			c.must(err)
			seen := map[string]bool{}
			for _, e := range events.Items {
				seen[e.InvolvedObject.Kind+" "+e.InvolvedObject.Name+" "+e.Reason] = true
			}
			for _, want := range []string{"Trigger early BrokerDoesNotExist", "Broker orders Ready", "Trigger early Ready"} {
				if !seen[want] {
					return fmt.Sprintf("no %q in %v", want, seen)
				}
			}
			return ""
		})
	})
	c.step("a change waits until it is loaded, an outage un-readies nothing", func(c *cluster) {
		held := make(chan struct{})
		c.held.Store(&held)
		tr := c.triggerIs("early", "True")
		tr.Spec.Filter = &eventingv1.TriggerFilter{Attributes: map[string]string{"type": "paid"}}
		_, err := c.eventing.EventingV1().Triggers(c.tenant).Update(c.ctx, tr, metav1.UpdateOptions{})
		c.must(err)
		c.triggerIs("early", "Unknown Loading")
		close(held)
		c.triggerIs("early", "True")
		slices, err := c.core.DiscoveryV1().EndpointSlices(c.system).List(c.ctx, metav1.ListOptions{})
		c.must(err)
		for _, s := range slices.Items {
			s.Endpoints[0].Conditions.Serving, s.Endpoints[0].Conditions.Ready = new(bool), new(bool)
			_, err := c.core.DiscoveryV1().EndpointSlices(c.system).Update(c.ctx, &s, metav1.UpdateOptions{})
			c.must(err)
		}
		c.broker("during")
		c.brokerIs("during", "Unknown Loading")
		c.brokerIs("orders", "True")
		c.triggerIs("early", "True")
		for _, s := range slices.Items {
			now, err := c.core.DiscoveryV1().EndpointSlices(c.system).Get(c.ctx, s.Name, metav1.GetOptions{})
			c.must(err)
			now.Endpoints[0].Conditions = discoveryv1.EndpointConditions{}
			_, err = c.core.DiscoveryV1().EndpointSlices(c.system).Update(c.ctx, now, metav1.UpdateOptions{})
			c.must(err)
		}
		c.brokerIs("during", "True")
	})
	c.step("settings are live", func(c *cluster) {
		ref := &duckv1.KReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: c.tenant, Name: "settings"}
		c.broker("tuned", func(b *eventingv1.Broker) { b.Spec.Config = ref })
		c.brokerIs("tuned", "False ConfigMapNotFound")
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"retention": "1h"}}
		cm, err := c.core.CoreV1().ConfigMaps(c.tenant).Create(c.ctx, cm, metav1.CreateOptions{})
		c.must(err)
		if b := c.brokerIs("tuned", "True"); b.Status.Annotations[kube.SettingsAnnotation] != `{"retention":"1h"}` {
			c.Errorf("annotations %v", b.Status.Annotations)
		}
		cm.Data["retention"] = "long"
		cm, err = c.core.CoreV1().ConfigMaps(c.tenant).Update(c.ctx, cm, metav1.UpdateOptions{})
		c.must(err)
		c.brokerIs("tuned", "False AnnotationInvalid")
		cm.Data["retention"] = "2h"
		_, err = c.core.CoreV1().ConfigMaps(c.tenant).Update(c.ctx, cm, metav1.UpdateOptions{})
		c.must(err)
		c.brokerIs("tuned", "True")
	})
	c.step("other classes are not touched", func(c *cluster) {
		c.broker("foreign", func(b *eventingv1.Broker) { b.Annotations[config.ClassAnnotation] = "MTChannelBasedBroker" })
		c.trigger("foreign", "foreign")
		c.broker("after")
		c.brokerIs("after", "True") // so much time has passed
		b, err := c.eventing.EventingV1().Brokers(c.tenant).Get(c.ctx, "foreign", metav1.GetOptions{})
		c.must(err)
		tr, err := c.eventing.EventingV1().Triggers(c.tenant).Get(c.ctx, "foreign", metav1.GetOptions{})
		c.must(err)
		if len(b.Status.Conditions)+len(tr.Status.Conditions) > 0 || tr.Status.ObservedGeneration != 0 {
			c.Errorf("written: %+v %+v", b.Status, tr.Status)
		}
	})
	c.step("a Broker deleted and made again", func(c *cluster) {
		c.must(c.eventing.EventingV1().Brokers(c.tenant).Delete(c.ctx, "orders", metav1.DeleteOptions{}))
		c.triggerIs("early", "False BrokerDoesNotExist")
		c.broker("orders")
		c.brokerIs("orders", "True")
		c.triggerIs("early", "True")
	})
	c.step("types of events, while the flag is on", func(c *cluster) {
		probe := &v1beta3.EventType{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: v1beta3.EventTypeSpec{Attributes: []v1beta3.EventAttributeDefinition{}}}
		if _, err := c.eventing.EventingV1beta3().EventTypes(c.tenant).Create(c.ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			c.Skipf("no EventType can be made here: Knative's webhook does not run: %v", err)
		}
		b := c.brokerIs("orders", "True")
		seen := loaded.Type{Broker: kube.BrokerUID(b), Type: "com.example.paid", Source: "/till", SpecVersion: "1.0"}
		_, err := c.core.CoreV1().ConfigMaps(c.knative).Create(c.ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "config-features"}, Data: map[string]string{"eventtype-auto-create": "enabled"},
		}, metav1.CreateOptions{})
		c.must(err)
		c.eventually("an EventType", func() string {
			c.board.Seen(seen) // nobody may be asking yet
			all, err := c.eventing.EventingV1beta3().EventTypes(c.tenant).List(c.ctx, metav1.ListOptions{})
			c.must(err)
			if len(all.Items) != 1 {
				return fmt.Sprintf("%d of them", len(all.Items))
			}
			if et := all.Items[0]; !strings.HasPrefix(et.Name, "et-orders-") || et.OwnerReferences[0].UID != b.UID {
				c.Errorf("%+v", et)
			}
			return ""
		})
	})
	c.step("another controller takes over", func(c *cluster) {
		other := c.controller()
		stop()
		defer other()
		c.broker("next")
		c.brokerIs("next", "True")
	})
}
