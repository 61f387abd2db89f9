package kube

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock-events/penstock/test/kube"
)

// TestFiveThousandTriggersBecomeReady: E2E_SCALE=1. The controller stays under
// 200 MiB resident.
func TestFiveThousandTriggersBecomeReady(t *testing.T) {
	if os.Getenv("E2E_SCALE") == "" {
		t.Skip("E2E_SCALE is not set")
	}
	const brokers, each, limit = 10, 500, 200
	s := space(t)
	sink := s.Receiver("sink")
	for b := range brokers {
		s.ReadyBroker(fmt.Sprintf("broker-%d", b))
	}
	before := s.Resident(kube.Controller)
	begun := time.Now()
	work := make(chan int)
	var makers sync.WaitGroup
	var failed sync.Once
	for range 8 {
		makers.Go(func() {
			for n := range work {
				name := fmt.Sprintf("trigger-%d", n)
				tr := s.NewTrigger(name, fmt.Sprintf("broker-%d", n%brokers), sink.Ref(), kube.Attributes("type", name))
				if _, err := s.Eventing.EventingV1().Triggers(s.Name).Create(s.Context(), tr, metav1.CreateOptions{}); err != nil {
					failed.Do(func() { t.Errorf("make %s: %v", name, err) })
				}
			}
		})
	}
	for n := range brokers * each {
		work <- n
	}
	close(work)
	makers.Wait()
	made := time.Since(begun)
	peak := 0.0
	var all time.Duration
	s.Eventually("5,000 Triggers are Ready", 20*time.Minute, func() (bool, string) {
		s.Quiet(2 * time.Second)
		for _, bytes := range s.Resident(kube.Controller) {
			peak = max(peak, bytes)
		}
		list, err := s.Eventing.EventingV1().Triggers(s.Name).List(s.Context(), metav1.ListOptions{})
		if err != nil {
			return false, err.Error()
		}
		ready := 0
		for i := range list.Items {
			if list.Items[i].Status.IsReady() {
				ready++
			}
		}
		all = time.Since(begun)
		return ready == brokers*each, fmt.Sprintf("%d are", ready)
	})
	t.Logf("%d Triggers made in %.0f s, all Ready %.0f s after the first was made", brokers*each, made.Seconds(), all.Seconds())
	for _, component := range []string{kube.Controller, kube.Dispatcher, kube.Ingress} {
		of := s.Resident(component)
		for _, pod := range slices.Sorted(maps.Keys(of)) {
			t.Logf("%s: %.0f MiB resident", pod, of[pod]/(1<<20))
		}
	}
	for pod, bytes := range before {
		t.Logf("%s held %.0f MiB before, %.0f MiB at most", pod, bytes/(1<<20), peak/(1<<20))
	}
	if peak/(1<<20) > limit {
		t.Errorf("the controller held %.0f MiB, want under %d MiB", peak/(1<<20), limit)
	}
	for _, n := range []int{0, brokers*each/2 + 1, brokers*each - 1} {
		e := kube.Small(fmt.Sprintf("trigger-%d", n))
		s.Post(http.StatusAccepted, kube.Binary(kube.Address(s.GetBroker(fmt.Sprintf("broker-%d", n%brokers))), e))
		sink.Exactly(e.ID(), 1)
	}
}
