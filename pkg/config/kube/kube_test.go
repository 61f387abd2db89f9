package kube

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/client/clientset/versioned/fake"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

func broker(namespace, name, uid string) *eventingv1.Broker {
	return &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(uid), Generation: 1,
		Annotations: map[string]string{config.ClassAnnotation: config.BrokerClass},
	}}
}

func trigger(namespace, name, uid, of string) *eventingv1.Trigger {
	return &eventingv1.Trigger{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid), Generation: 1},
		Spec: eventingv1.TriggerSpec{
			Broker:     of,
			Subscriber: duckv1.Destination{URI: apis.HTTP("orders.shop")},
		},
		Status: eventingv1.TriggerStatus{SubscriberURI: apis.HTTP("orders.shop")},
	}
}

// cluster is an API server in memory and a Source that follows it, inside a
// bubble of virtual time.
type cluster struct {
	t      *testing.T
	client *fake.Clientset
	source *Source
	cancel context.CancelFunc
	done   chan error

	mu        sync.Mutex
	snapshots []*config.Snapshot
	block     chan struct{} // apply waits for it where it is not nil
}

func newFake(objects ...runtime.Object) *fake.Clientset { return fake.NewSimpleClientset(objects...) }

func start(t *testing.T, o Options, objects ...runtime.Object) *cluster {
	t.Helper()
	c := &cluster{t: t, client: newFake(objects...), done: make(chan error, 1)}
	c.follow(o)
	return c
}

func (c *cluster) follow(o Options) {
	o.Client = c.client
	c.source = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() {
		c.done <- c.source.Run(ctx, func(s *config.Snapshot) {
			if c.block != nil {
				<-c.block
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.snapshots = append(c.snapshots, s)
		})
	}()
	c.settle()
}

// settle waits until everything that happened has been applied.
func (c *cluster) settle() {
	c.t.Helper()
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

func (c *cluster) stop() {
	c.t.Helper()
	c.cancel()
	if err := <-c.done; err != nil {
		c.t.Fatalf("Run returned %v", err)
	}
}

func (c *cluster) last() *config.Snapshot {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.snapshots) == 0 {
		c.t.Fatal("no snapshot was applied")
	}
	return c.snapshots[len(c.snapshots)-1]
}

func (c *cluster) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.snapshots)
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	c.settle()
}

func (c *cluster) create(objects ...runtime.Object) {
	c.t.Helper()
	for _, o := range objects {
		c.must(c.client.Tracker().Add(o.DeepCopyObject()))
	}
}

func (c *cluster) update(o runtime.Object) {
	c.t.Helper()
	switch o := o.(type) {
	case *eventingv1.Broker:
		_, err := c.client.EventingV1().Brokers(o.Namespace).Update(context.Background(), o, metav1.UpdateOptions{})
		c.must(err)
	case *eventingv1.Trigger:
		_, err := c.client.EventingV1().Triggers(o.Namespace).Update(context.Background(), o, metav1.UpdateOptions{})
		c.must(err)
	}
}

func (c *cluster) delete(o runtime.Object) {
	c.t.Helper()
	switch o := o.(type) {
	case *eventingv1.Broker:
		c.must(c.client.EventingV1().Brokers(o.Namespace).Delete(context.Background(), o.Name, metav1.DeleteOptions{}))
	case *eventingv1.Trigger:
		c.must(c.client.EventingV1().Triggers(o.Namespace).Delete(context.Background(), o.Name, metav1.DeleteOptions{}))
	}
}

// removed lists what the last snapshot says is gone for good.
func (c *cluster) removed() []channel.UID {
	c.t.Helper()
	var uids []channel.UID
	for _, r := range c.last().Removed() {
		uids = append(uids, r.UID)
	}
	return uids
}
