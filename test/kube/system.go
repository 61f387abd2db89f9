package kube

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The components of Penstock, as their labels call them.
const (
	Ingress    = "ingress"
	Dispatcher = "dispatcher"
	Controller = "controller"
)

func selector(component string) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=penstock,app.kubernetes.io/component=" + component}
}

// PodsOf is the pods of a component that are not on their way out.
func (s *Space) PodsOf(component string) []corev1.Pod {
	s.t.Helper()
	list, err := s.Kube.CoreV1().Pods(System).List(s.ctx, selector(component))
	if err != nil {
		s.t.Fatalf("list the pods of %s: %v", component, err)
	}
	var pods []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			pods = append(pods, p)
		}
	}
	return pods
}

// Kill deletes n pods of a component, as a drain of their node does, or with a
// grace of 0 s: the pod is gone from the API at once, and its process has the
// two seconds that the kubelet leaves it.
func (s *Space) Kill(component string, n int, grace int64) {
	s.t.Helper()
	opts := metav1.DeleteOptions{}
	if grace >= 0 {
		opts.GracePeriodSeconds = &grace
	}
	pods := s.PodsOf(component)
	if len(pods) < n {
		s.t.Fatalf("%d pods of %s, %d are to be deleted", len(pods), component, n)
	}
	for _, p := range pods[:n] {
		if err := s.Kube.CoreV1().Pods(System).Delete(s.ctx, p.Name, opts); err != nil {
			s.t.Fatalf("delete pod %s: %v", p.Name, err)
		}
	}
}

// Restart rolls a component, as kubectl rollout restart does.
func (s *Space) Restart(component string) {
	s.t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"penstock.dev/restarted-by-test":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	var err error
	if component == Dispatcher {
		_, err = s.Kube.AppsV1().StatefulSets(System).Patch(s.ctx, "penstock-"+component, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	} else {
		_, err = s.Kube.AppsV1().Deployments(System).Patch(s.ctx, "penstock-"+component, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		s.t.Fatalf("restart %s: %v", component, err)
	}
}

// Rolled waits until every pod of the components is of the last version and ready.
func (s *Space) Rolled(components ...string) {
	s.t.Helper()
	for _, c := range components {
		s.Eventually(c+" is rolled out", 5*time.Minute, func() (bool, string) {
			if c == Dispatcher {
				o, err := s.Kube.AppsV1().StatefulSets(System).Get(s.ctx, "penstock-"+c, metav1.GetOptions{})
				if err != nil {
					return false, err.Error()
				}
				return statefulDone(o) && len(s.PodsOf(c)) == int(*o.Spec.Replicas), fmt.Sprintf("%+v", o.Status)
			}
			o, err := s.Kube.AppsV1().Deployments(System).Get(s.ctx, "penstock-"+c, metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			return deploymentDone(o) && len(s.PodsOf(c)) == int(*o.Spec.Replicas), fmt.Sprintf("%+v", o.Status)
		})
	}
}

func statefulDone(o *appsv1.StatefulSet) bool {
	n, st := *o.Spec.Replicas, o.Status
	return st.ObservedGeneration == o.Generation && st.Replicas == n && st.ReadyReplicas == n && st.UpdatedReplicas == n && st.CurrentRevision == st.UpdateRevision
}

func deploymentDone(o *appsv1.Deployment) bool {
	n, st := *o.Spec.Replicas, o.Status
	return st.ObservedGeneration == o.Generation && st.Replicas == n && st.ReadyReplicas == n && st.UpdatedReplicas == n
}

// Scale sets the number of dispatchers, without a wait, and returns what it was.
func (s *Space) Scale(n int32) int32 {
	s.t.Helper()
	sets := s.Kube.AppsV1().StatefulSets(System)
	scale, err := sets.GetScale(s.ctx, "penstock-"+Dispatcher, metav1.GetOptions{})
	if err != nil {
		s.t.Fatalf("read the number of dispatchers: %v", err)
	}
	was := scale.Spec.Replicas
	scale.Spec.Replicas = n
	if _, err := sets.UpdateScale(s.ctx, "penstock-"+Dispatcher, scale, metav1.UpdateOptions{}); err != nil {
		s.t.Fatalf("scale the dispatchers to %d: %v", n, err)
	}
	return was
}

// Restarts is how often containers of a component were started again.
func (s *Space) Restarts(component string) (n int32) {
	s.t.Helper()
	for _, p := range s.PodsOf(component) {
		for _, c := range p.Status.ContainerStatuses {
			n += c.RestartCount
		}
	}
	return n
}

var residentLine = regexp.MustCompile(`(?m)^process_resident_memory_bytes(?:\{[^}]*\})? (\S+)$`)

// Resident is the resident memory of each pod of a component in bytes, by its
// own metrics.
func (s *Space) Resident(component string) map[string]float64 {
	s.t.Helper()
	all := make(map[string]float64)
	for _, p := range s.PodsOf(component) {
		text, err := s.scrape(p.Name)
		if err != nil {
			s.t.Errorf("metrics of %s: %v", p.Name, err)
			continue
		}
		m := residentLine.FindStringSubmatch(text)
		if m == nil {
			s.t.Errorf("the metrics of %s do not have process_resident_memory_bytes", p.Name)
			continue
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			s.t.Errorf("%s: %v", p.Name, err)
		}
		all[p.Name] = n
	}
	return all
}

// Metrics is what the pods of a component expose, one after the other. Pods
// that do not answer are left out.
func (s *Space) Metrics(component string) string {
	s.t.Helper()
	var all strings.Builder
	for _, p := range s.PodsOf(component) {
		if text, err := s.scrape(p.Name); err == nil {
			all.WriteString("\n" + text)
		}
	}
	return all.String()
}

func (s *Space) scrape(pod string) (string, error) {
	text, err := s.Kube.CoreV1().RESTClient().Get().Namespace(System).Resource("pods").Name(pod + ":9090").
		SubResource("proxy").Suffix("metrics").DoRaw(s.ctx)
	return string(text), err
}
