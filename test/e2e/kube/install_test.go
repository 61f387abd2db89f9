package kube

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock-events/penstock/test/kube"
)

// installation is what ko apply did at the beginning of the run.
var installation struct {
	once         sync.Once
	said         string
	apply, ready time.Duration
	err          error
}

// space is a namespace on a cluster on which config/ is installed.
// E2E_INSTALLED=1 takes what is there.
func space(t *testing.T) *kube.Space {
	t.Helper()
	s := kube.New(t)
	i := &installation
	i.once.Do(func() {
		if os.Getenv("E2E_INSTALLED") != "" {
			return
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), applyTime)
		defer cancel()
		i.said, i.err = kube.Ko(ctx, "apply", "--sbom=none", "-f", "config/")
		i.apply = time.Since(begun)
		if i.err == nil {
			s.Rolled(kube.Ingress, kube.Dispatcher, kube.Controller)
			i.ready = time.Since(begun)
		}
	})
	if i.err != nil {
		t.Fatal(i.err)
	}
	return s
}

const applyTime = 15 * time.Minute

func TestApplyInstallsWithoutAWarningAndABrokerIsReady(t *testing.T) {
	s := space(t)
	t.Logf("ko apply took %.0f s; all pods ready %.0f s after its beginning", installation.apply.Seconds(), installation.ready.Seconds())
	if warning := regexp.MustCompile(`(?mi)^.*(warning|PodSecurity).*$`).FindString(installation.said); warning != "" {
		t.Errorf("ko apply warns: %s", warning)
	}
	begun := time.Now()
	b := s.ReadyBroker("default")
	broker := time.Since(begun)
	sink := s.Receiver("sink")
	begun = time.Now()
	s.ReadyTrigger("trigger", "default", sink.Ref())
	t.Logf("Broker Ready after %v, Trigger Ready after %v", broker.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	e := kube.Full()
	s.Post(http.StatusAccepted, kube.Binary(kube.Address(b), e))
	sink.Exactly(e.ID(), 1)
}

// apply installs once more.
func apply(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), applyTime)
	defer cancel()
	if _, err := kube.Ko(ctx, "apply", "--sbom=none", "-f", "config/"); err != nil {
		t.Fatal(err)
	}
}

// remove deletes what apply installed. The namespace stays, for the volumes in
// it, and ko says so with an exit code of its own.
func remove(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := kube.Ko(ctx, "delete", "-f", "config/"); err != nil && !strings.Contains(err.Error(), "PersistentVolumeClaims") {
		t.Fatal(err)
	}
}

func TestPodsRunRestrictedAndWithinTheirMeans(t *testing.T) {
	t.Parallel()
	s := space(t)
	ns, err := s.Kube.CoreV1().Namespaces().Get(s.Context(), kube.System, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := ns.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("Pod Security of %s is %q", kube.System, got)
	}
	pods, err := s.Kube.CoreV1().Pods(kube.System).List(s.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) < 5 {
		t.Errorf("%d pods, want ingress, 3 dispatchers and controller", len(pods.Items))
	}
	for _, p := range pods.Items {
		for _, c := range p.Spec.Containers {
			if c.ReadinessProbe == nil || c.LivenessProbe == nil {
				t.Errorf("%s has no probes", p.Name)
			}
			if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s asks for no memory or has no limit", p.Name)
			}
		}
	}
	events, err := s.Kube.CoreV1().Events(kube.System).List(s.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.Type == corev1.EventTypeWarning && strings.Contains(e.Message, "PodSecurity") {
			t.Errorf("%s: %s", e.InvolvedObject.Name, e.Message)
		}
	}
}

// TestAnIdlePenstockIsSmall is what the three programs hold when there is
// little to do: resident memory, ingress and controller once, a dispatcher once.
func TestAnIdlePenstockIsSmall(t *testing.T) {
	s := space(t)
	total := 0.0
	for _, component := range []string{kube.Ingress, kube.Dispatcher, kube.Controller} {
		most := 0.0
		for pod, bytes := range s.Resident(component) {
			t.Logf("%s: %.1f MiB resident", pod, bytes/(1<<20))
			most = max(most, bytes)
		}
		total += most
	}
	t.Logf("one of each: %.1f MiB", total/(1<<20))
	if limit := 120.0; !quick() && total/(1<<20) > limit {
		t.Errorf("one of each holds %.1f MiB, want under %.0f MiB when idle", total/(1<<20), limit)
	}
}
