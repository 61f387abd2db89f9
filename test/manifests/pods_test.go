package manifests

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// workload is what makes pods.
type workload struct {
	name     string
	labels   map[string]string
	selector *metav1.LabelSelector // nil for jobs
	template corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

func workloads(objects []object) []workload {
	var all []workload
	for _, d := range every[*appsv1.Deployment](objects) {
		all = append(all, workload{d.Name, d.Labels, d.Spec.Selector, d.Spec.Template, nil})
	}
	for _, s := range every[*appsv1.StatefulSet](objects) {
		all = append(all, workload{s.Name, s.Labels, s.Spec.Selector, s.Spec.Template, s.Spec.VolumeClaimTemplates})
	}
	for _, c := range every[*batchv1.CronJob](objects) {
		all = append(all, workload{c.Name, c.Labels, nil, c.Spec.JobTemplate.Spec.Template, nil})
	}
	for _, j := range every[*batchv1.Job](objects) {
		all = append(all, workload{j.GenerateName, j.Labels, nil, j.Spec.Template, nil})
	}
	return all
}

// everywhere runs a test on each folder that is applied, and on the overlays.
func everywhere(t *testing.T, test func(t *testing.T, objects []object)) {
	for _, dir := range applied {
		t.Run(dir, func(t *testing.T) { test(t, folder(t, dir)) })
	}
	t.Run("deploy/message-queue", func(t *testing.T) { test(t, rendered(t, "deploy/message-queue")) })
}

func TestEveryFieldIsOneThatKubernetesKnows(t *testing.T) {
	everywhere(t, func(t *testing.T, objects []object) {
		seen := map[string]bool{}
		for _, o := range objects {
			key := strings.Join([]string{o.kind.GroupKind().String(), o.meta.GetNamespace(), o.meta.GetName()}, "/")
			if seen[key] && o.meta.GetName() != "" {
				t.Errorf("%v is there twice", o)
			}
			seen[key] = true
		}
	})
}

// Pod Security restricted, as its page lists it, and what we ask beyond it.
func TestEveryPodFitsPodSecurityRestricted(t *testing.T) {
	everywhere(t, func(t *testing.T, objects []object) {
		for _, w := range workloads(objects) {
			pod := w.template.Spec
			bad := func(format string, args ...any) {
				t.Errorf("%s: %s", w.name, fmt.Sprintf(format, args...))
			}
			if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.InitContainers)+len(pod.EphemeralContainers) > 0 {
				bad("it uses the host's namespaces, or containers that this test does not look at")
			}
			sc := pod.SecurityContext
			if sc == nil || sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot || sc.RunAsUser == nil || *sc.RunAsUser == 0 ||
				sc.SeccompProfile == nil || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || len(sc.Sysctls) > 0 {
				bad("pod security context %+v", sc)
			}
			for _, v := range pod.Volumes {
				keys := v.Secret != nil && v.Secret.SecretName == "request-reply-keys" && *v.Secret.Optional
				if v.ConfigMap == nil && v.Projected == nil && v.PersistentVolumeClaim == nil && !keys {
					bad("volume %s is of a kind that is not needed here", v.Name)
				}
				if v.PersistentVolumeClaim != nil && sc.FSGroup == nil {
					bad("a claim without fsGroup belongs to root")
				}
			}
			if len(w.claims) > 0 && (sc.FSGroup == nil || sc.FSGroupChangePolicy == nil) {
				bad("a claim without fsGroup belongs to root")
			}
			for _, c := range pod.Containers {
				s := c.SecurityContext
				if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
					s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
					s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 ||
					s.Privileged != nil || s.RunAsUser != nil || s.RunAsNonRoot != nil || s.SeccompProfile != nil || s.ProcMount != nil {
					bad("container %s has security context %+v", c.Name, s)
				}
			}
		}
	})
}

func TestPodsAskForLittleAndAreBoundedInMemoryOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, objects []object) {
		for _, w := range workloads(objects) {
			for _, c := range w.template.Spec.Containers {
				requests, limits := c.Resources.Requests, c.Resources.Limits
				if cpu := requests.Cpu().MilliValue(); cpu == 0 || cpu > 50 {
					t.Errorf("%s asks for %dm CPU", w.name, cpu)
				}
				if memory := requests.Memory().Value(); memory == 0 || memory > 64<<20 {
					t.Errorf("%s asks for %d bytes of memory", w.name, memory)
				}
				if !limits.Cpu().IsZero() {
					t.Errorf("%s has a limit for CPU", w.name)
				}
				if limits.Memory().Value() < 2*requests.Memory().Value() {
					t.Errorf("%s is limited to %v", w.name, limits.Memory())
				}
				for _, e := range c.Env {
					if e.Name != "GOMEMLIMIT" {
						continue
					}
					var mib int64
					if _, err := fmt.Sscanf(e.Value, "%dMiB", &mib); err != nil {
						t.Errorf("%s: GOMEMLIMIT %q", w.name, e.Value)
					}
					if limit := limits.Memory().Value(); mib<<20 > limit*85/100 || mib<<20 < limit/3 {
						t.Errorf("%s: GOMEMLIMIT %s under a limit of %v", w.name, e.Value, limits.Memory())
					}
				}
			}
		}
	})
}

// Images are built from what lies in cmd/. Programs that are not there yet are
// named by the manifests all the same.
func TestImagesAreOurOwnPrograms(t *testing.T) {
	everywhere(t, func(t *testing.T, objects []object) {
		for _, w := range workloads(objects) {
			for _, c := range w.template.Spec.Containers {
				program, ours := strings.CutPrefix(c.Image, "ko://github.com/penstock-events/penstock/cmd/")
				if !ours || strings.Contains(program, "/") {
					t.Errorf("%s runs %s", w.name, c.Image)
				}
				if len(c.Command) > 0 && !slices.Equal(c.Command, []string{"/ko-app/" + program}) {
					t.Errorf("%s: ko puts the program at /ko-app/%s, the command is %q", w.name, program, c.Command)
				}
			}
		}
	})
	if target, err := os.Readlink(filepath.Join(root, ".ko.yaml")); err != nil || target != "ko.yaml" {
		t.Errorf(".ko.yaml is no link to ko.yaml: %q, %v", target, err)
	}
}

// port finds a container's port by name.
func port(pod corev1.PodSpec, name string) int32 {
	for _, c := range pod.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func TestProbesAreThereAndTheirPortsAndPathsAreServed(t *testing.T) {
	paths := map[string][2]string{ // by the name of the port: liveness, readiness
		"api":    {"/healthz", "/readyz"},
		"probes": {"/health", "/readiness"}, // Knative's, for the controller
	}
	everywhere(t, func(t *testing.T, objects []object) {
		for _, w := range workloads(objects) {
			if w.selector == nil {
				continue // a job ends by itself
			}
			for _, c := range w.template.Spec.Containers {
				for kind, p := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
					if p == nil || p.HTTPGet == nil {
						t.Errorf("%s has no %s probe", w.name, kind)
						continue
					}
					name := p.HTTPGet.Port.StrVal
					want := paths[name][0]
					if kind == "readiness" {
						want = paths[name][1]
					}
					if port(w.template.Spec, name) == 0 || p.HTTPGet.Path != want {
						t.Errorf("%s: %s probe asks %s of port %q", w.name, kind, p.HTTPGet.Path, name)
					}
				}
			}
		}
	})
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

func TestSelectorsMatchTheirOwnPodsAndNoOthers(t *testing.T) {
	everywhere(t, func(t *testing.T, objects []object) {
		all := workloads(objects)
		for _, w := range all {
			if w.selector == nil {
				continue
			}
			for _, other := range all {
				if got := selects(w.selector.MatchLabels, other.template.Labels); got != (other.name == w.name && other.template.Labels["app.kubernetes.io/component"] == w.template.Labels["app.kubernetes.io/component"]) {
					t.Errorf("the selector of %s and the pods of %s: %v", w.name, other.name, got)
				}
			}
			for _, s := range w.template.Spec.TopologySpreadConstraints {
				if s.WhenUnsatisfiable != corev1.ScheduleAnyway || !selects(s.LabelSelector.MatchLabels, w.template.Labels) {
					t.Errorf("%s: spread over %s", w.name, s.TopologyKey)
				}
			}
		}
		// Exactly one workload behind each Service, and its named ports are there.
		for _, s := range every[*corev1.Service](objects) {
			var behind []workload
			for _, w := range all {
				if selects(s.Spec.Selector, w.template.Labels) {
					behind = append(behind, w)
				}
			}
			if len(behind) != 1 {
				t.Errorf("Service %s leads to %d workloads", s.Name, len(behind))
				continue
			}
			for _, p := range s.Spec.Ports {
				if p.TargetPort.Type != intstr.String || port(behind[0].template.Spec, p.TargetPort.StrVal) == 0 {
					t.Errorf("Service %s: port %s leads to %v, which %s does not have", s.Name, p.Name, p.TargetPort, behind[0].name)
				}
			}
		}
		// Where there are budgets, each workload that runs for long has one of its own.
		budgets := every[*policyv1.PodDisruptionBudget](objects)
		for _, w := range all {
			n := 0
			for _, b := range budgets {
				if w.selector != nil && selects(b.Spec.Selector.MatchLabels, w.template.Labels) {
					n++
				}
			}
			if len(budgets) > 0 && n != 1 {
				t.Errorf("%s has %d disruption budgets", w.name, n)
			}
		}
		for _, b := range budgets {
			if b.Spec.MaxUnavailable == nil || b.Spec.MaxUnavailable.IntValue() != 1 || b.Spec.MaxUnavailable.Type != intstr.Int {
				t.Errorf("PodDisruptionBudget %s: %v may be away", b.Name, b.Spec.MaxUnavailable)
			}
		}
	})
}

func TestLabelsSayWhatBelongsToWhat(t *testing.T) {
	for _, dir := range applied {
		if dir == "deploy/standalone" || dir == "deploy/istio" {
			continue // under the article's names; of a mesh, known by their kind
		}
		for _, o := range folder(t, dir) {
			labels := o.meta.GetLabels()
			if labels["app.kubernetes.io/name"] != "penstock" || labels["app.kubernetes.io/part-of"] != "penstock" {
				t.Errorf("%v has labels %v", o, labels)
			}
		}
		for _, w := range workloads(folder(t, dir)) {
			if !maps.Equal(w.labels, w.template.Labels) {
				t.Errorf("%s and its pods have different labels: %v, %v", w.name, w.labels, w.template.Labels)
			}
			if c := w.labels["app.kubernetes.io/component"]; c == "" || !strings.Contains(w.name, c) {
				t.Errorf("%s is component %q", w.name, c)
			}
		}
	}
}

// The tokens that programs show each other: who asks has one for whom it asks.
func TestTokensAreMeantForThoseWhoReadThem(t *testing.T) {
	want := map[string]map[string]string{ // by ServiceAccount: file to audience
		"penstock-ingress":    {"token": "penstock-dispatcher"},
		"penstock-dispatcher": {}, // is asked and asks nobody
		"penstock-controller": {"token": "penstock-dispatcher", "ingress-token": "penstock-ingress"},
		"penstock-backup":     {"token": ""}, // the API server's: the API of dispatchers is for people, too
	}
	for _, w := range append(workloads(folder(t, "config")), workloads(folder(t, "deploy", "backup"))...) {
		got := map[string]string{}
		for _, v := range w.template.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for _, s := range v.Projected.Sources {
				if s.ServiceAccountToken == nil || *s.ServiceAccountToken.ExpirationSeconds != 3600 {
					t.Errorf("%s: projected source %+v", w.name, s)
					continue
				}
				got[s.ServiceAccountToken.Path] = s.ServiceAccountToken.Audience
			}
			for _, c := range w.template.Spec.Containers {
				mounted := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
					return m.Name == v.Name && m.MountPath == "/var/run/secrets/penstock" && m.ReadOnly
				})
				if !mounted {
					t.Errorf("%s: %s does not mount its tokens", w.name, c.Name)
				}
			}
		}
		if account := w.template.Spec.ServiceAccountName; !maps.Equal(got, want[account]) {
			t.Errorf("%s has tokens %v, want %v", account, got, want[account])
		}
	}
}
