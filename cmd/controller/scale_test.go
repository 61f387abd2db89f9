package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// TestManyTriggers makes as many Triggers as CONTROLLER_TRIGGERS says, on ten
// Brokers, and reports how long it takes until all are Ready and what the
// controller needs for them.
func TestManyTriggers(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("CONTROLLER_TRIGGERS"))
	if n == 0 {
		t.Skip("CONTROLLER_TRIGGERS is not set: 5000 takes some minutes")
	}
	c := onCluster(t)
	_, pid := c.process()
	const brokers = 10
	for i := range brokers {
		c.broker("b" + strconv.Itoa(i))
		c.brokerIs("b"+strconv.Itoa(i), "True")
	}
	t.Logf("idle: %s", memory(t, pid))
	start := time.Now()
	next := make(chan int)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := range next {
				_, err := c.eventing.EventingV1().Triggers(c.tenant).Create(c.ctx, &eventingv1.Trigger{
					ObjectMeta: metav1.ObjectMeta{Namespace: c.tenant, Name: fmt.Sprintf("t%d", i), Labels: map[string]string{"eventing.knative.dev/broker": fmt.Sprintf("b%d", i%brokers)}},
					Spec: eventingv1.TriggerSpec{
						Broker:     fmt.Sprintf("b%d", i%brokers),
						Filter:     &eventingv1.TriggerFilter{Attributes: map[string]string{"type": fmt.Sprintf("com.example.type.%d", i), "source": "/shop"}},
						Subscriber: duckv1.Destination{URI: apis.HTTP(fmt.Sprintf("s%d.example", i))},
					},
				}, metav1.CreateOptions{})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	t.Logf("%d Triggers made after %s", n, time.Since(start).Round(time.Second))
	for deadline := time.Now().Add(10 * time.Minute); ; {
		list, err := c.eventing.EventingV1().Triggers(c.tenant).List(c.ctx, metav1.ListOptions{})
		c.must(err)
		ready := 0
		for _, tr := range list.Items {
			if is(tr.Status.Conditions, "True") == "" {
				ready++
			}
		}
		if ready == n {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d are Ready", ready, n)
		}
		time.Sleep(time.Second)
	}
	t.Logf("all Ready after %s: %s", time.Since(start).Round(time.Second), memory(t, pid))
}

// memory is what the kernel counts for a process, now and at most.
func memory(t *testing.T, pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	var out []string
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmHWM:") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", ")
}
