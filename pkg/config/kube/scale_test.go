package kube

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	k8stesting "k8s.io/client-go/testing"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/config"
)

// Five thousand Triggers that are created one after the other must not cost
// five thousand times five thousand. PENSTOCK_SCALE=1 measures in real time.
func TestFiveThousandTriggersOneByOne(t *testing.T) {
	n := 1000
	if os.Getenv("PENSTOCK_SCALE") != "" {
		n = 5000
	}
	client := newFake()
	triggers := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 100})
	client.PrependWatchReactor("triggers", func(k8stesting.Action) (bool, watch.Interface, error) { return true, triggers, nil })
	if err := client.Tracker().Add(broker("shop", "default", "b1")); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)

	s := New(Options{Client: client})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	snapshots := 0
	applied, first := make(chan *config.Snapshot, 1), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(s *config.Snapshot) {
			snapshots++
			if snapshots == 1 {
				close(first)
			}
			if len(s.Triggers()) == n {
				applied <- s
			}
		})
	}()
	<-first
	start := time.Now()
	for i := range n {
		tr := trigger("shop", fmt.Sprint("trigger-", i), fmt.Sprintf("0b5ab6a5-5f6c-4c0f-9d52-%012d", i), "default")
		tr.Spec.Filter = &eventingv1.TriggerFilter{Attributes: map[string]string{"type": fmt.Sprint("type-", i)}}
		triggers.Add(tr)
		time.Sleep(time.Millisecond) // 1,000 a second are more than an API server makes
	}
	created := time.Since(start)
	select {
	case <-applied:
	case <-time.After(time.Minute):
		t.Fatal("not applied within a minute")
	}
	loaded := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d Triggers: created in %v, in force %v after the last, %d snapshots, %d KiB", n, created.Round(time.Millisecond),
		(loaded - created).Round(time.Millisecond), snapshots, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	if snapshots > n/4 {
		t.Errorf("%d snapshots for %d Triggers: changes are not gathered", snapshots, n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(s)
}

// BenchmarkLook is a look at 5,000 Triggers of which one is new.
func BenchmarkLook(b *testing.B) {
	brokers := []*eventingv1.Broker{broker("shop", "default", "b1")}
	var triggers []*eventingv1.Trigger
	for i := range 5000 {
		tr := trigger("shop", fmt.Sprint("trigger-", i), fmt.Sprintf("0b5ab6a5-5f6c-4c0f-9d52-%012d", i), "default")
		tr.Spec.Filter = &eventingv1.TriggerFilter{Attributes: map[string]string{"type": fmt.Sprint("type-", i)}}
		triggers = append(triggers, tr)
	}
	s := New(Options{})
	s.state.take(brokers, triggers, time.Now())
	s.compile()
	b.Run("nothing new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if s.state.take(brokers, triggers, time.Now()) {
				b.Fatal("something new")
			}
		}
	})
	b.Run("one changed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tr := triggers[2500].DeepCopy()
			tr.Generation++
			triggers[2500] = tr
			if !s.state.take(brokers, triggers, time.Now()) {
				b.Fatal("nothing new")
			}
			s.compile()
		}
	})
}
