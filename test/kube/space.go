package kube

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/penstock-events/penstock/test/kube/probe"
)

// Patience bounds every wait that has no bound of its own.
const Patience = 2 * time.Minute

// Space is the namespace of one test.
type Space struct {
	*Cluster
	Name string

	t    testing.TB
	ctx  context.Context
	seen *seen
}

// seen is what all views of a namespace share.
type seen struct {
	mu      sync.Mutex
	reached bool     // the probe
	known   []string // receivers
}

// New makes a namespace with a probe in it, for as long as the test runs. It
// skips the test where there is no cluster.
func New(t testing.TB) *Space {
	t.Helper()
	s := &Space{Cluster: On(t), t: t, ctx: context.Background(), seen: new(seen)}
	ns, err := s.Kube.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-", Labels: map[string]string{"penstock.dev/e2e": "true"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	s.Name = ns.Name
	t.Cleanup(s.end)
	if _, err := s.Kube.CoreV1().Pods(s.Name).Create(s.ctx, s.probePod(), metav1.CreateOptions{}); err != nil {
		t.Fatalf("start the probe: %v", err)
	}
	return s
}

// In is the same namespace seen by a part of the test.
func (s *Space) In(t testing.TB) *Space {
	return &Space{Cluster: s.Cluster, Name: s.Name, t: t, ctx: s.ctx, seen: s.seen}
}

// T is the test, Context ends with nothing: cleaning up goes on when the test is over.
func (s *Space) T() testing.TB            { return s.t }
func (s *Space) Context() context.Context { return s.ctx }

func (s *Space) end() {
	if s.t.Failed() {
		s.Explain()
		if os.Getenv("E2E_KEEP") != "" {
			s.t.Logf("kept the namespace %s", s.Name)
			return
		}
	}
	// Triggers first: a Broker that goes before them makes work for its controller.
	for _, err := range []error{
		s.Eventing.EventingV1().Triggers(s.Name).DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		s.Eventing.EventingV1().Brokers(s.Name).DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		s.Kube.CoreV1().Namespaces().Delete(s.ctx, s.Name, metav1.DeleteOptions{}),
	} {
		if err != nil {
			s.t.Logf("clean up %s: %v", s.Name, err)
		}
	}
}

func (s *Space) probePod() *corev1.Pod {
	no, yes, user, grace := false, true, int64(65532), int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "probe", Labels: map[string]string{"app": "probe"}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			TerminationGracePeriodSeconds: &grace,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "probe", Image: s.probe,
				Ports: []corev1.ContainerPort{{ContainerPort: probe.DataPort}, {ContainerPort: probe.ControlPort}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				ReadinessProbe: &corev1.Probe{
					PeriodSeconds: 1, FailureThreshold: 60,
					ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(probe.ControlPort)}},
				},
			}},
		},
	}
}

// Eventually asks every 100 ms until it is told true, or the test fails with
// what the last answer complained about.
func (s *Space) Eventually(what string, bound time.Duration, ask func() (bool, string)) {
	s.t.Helper()
	if why := s.eventually(bound, ask); why != "" {
		s.t.Fatalf("%s: not after %v: %s", what, bound, why)
	}
}

func (s *Space) eventually(bound time.Duration, ask func() (bool, string)) string {
	deadline := time.Now().Add(bound)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, why := ask()
		if ok {
			return ""
		}
		if time.Now().After(deadline) {
			return fmt.Sprintf("%s ", why)
		}
		<-tick.C
	}
}

// Quiet lets real time pass, for what must not happen.
func (s *Space) Quiet(d time.Duration) { <-time.After(d) }
