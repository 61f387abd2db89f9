package manifests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	yamlv3 "go.yaml.in/yaml/v3"
)

func variable(pod corev1.PodSpec, name string) string {
	for _, e := range pod.Containers[0].Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// The namespace comes first and what keeps it comes next: a delete asks in
// this order.
func TestTheNamespaceIsFirstAndItsGuardIsNext(t *testing.T) {
	objects := folder(t, "config")
	var kinds []string
	for _, o := range objects[:3] {
		kinds = append(kinds, o.kind.Kind)
	}
	if want := []string{"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}; !slices.Equal(kinds, want) {
		t.Fatalf("config begins with %v, want %v", kinds, want)
	}
	ns := objects[0].typed.(*corev1.Namespace)
	for _, mode := range []string{"enforce", "warn", "audit"} {
		if ns.Labels["pod-security.kubernetes.io/"+mode] != "restricted" {
			t.Errorf("Pod Security %s is %q", mode, ns.Labels["pod-security.kubernetes.io/"+mode])
		}
	}
	policy := objects[1].typed.(*admissionv1.ValidatingAdmissionPolicy)
	rule := policy.Spec.MatchConstraints.ResourceRules[0]
	if !slices.Equal(rule.ResourceNames, []string{ns.Name}) || !slices.Equal(rule.Operations, []admissionv1.OperationType{admissionv1.Delete}) {
		t.Errorf("the guard watches %+v", rule)
	}
	if binding := objects[2].typed.(*admissionv1.ValidatingAdmissionPolicyBinding); binding.Spec.PolicyName != policy.Name {
		t.Errorf("the binding is for %s", binding.Spec.PolicyName)
	}
	for _, o := range objects {
		if n := o.meta.GetNamespace(); n != "" && n != ns.Name {
			t.Errorf("%v is in namespace %s", o, n)
		}
		if strings.HasPrefix(o.kind.Kind, "Role") && o.meta.GetNamespace() == "" {
			t.Errorf("%v has no namespace", o)
		}
	}
	// What is in no namespace carries our name, so that no two installations of
	// different things meet.
	for _, o := range objects {
		if o.meta.GetNamespace() == "" && !strings.HasPrefix(o.meta.GetName(), "penstock-") {
			t.Errorf("%v is the cluster's and does not say whose", o)
		}
	}
}

func TestTheFoldersPlainFilesAndItsKustomizationAreTheSame(t *testing.T) {
	for _, dir := range []string{"config", filepath.Join("deploy", "autoscaling")} {
		text, err := os.ReadFile(filepath.Join(root, dir, "Kustomization"))
		if err != nil {
			t.Fatal(err)
		}
		var k struct{ Resources []string }
		if err := yamlv3.Unmarshal(text, &k); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(root, dir, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range files {
			files[i] = filepath.Base(files[i])
		}
		slices.Sort(files)
		if !slices.Equal(k.Resources, files) {
			t.Errorf("%s has %v, its Kustomization %v", dir, files, k.Resources)
		}
		// Below the folder there is nothing that plain apply would leave out and
		// that is not optional.
		if more, err := filepath.Glob(filepath.Join(root, "config", "*", "*")); err != nil || len(more) > 0 {
			t.Errorf("apply does not go into folders: %v, %v", more, err)
		}
	}
}

// Names that programs are told agree with what is there, under either set of names.
func TestProgramsAreToldTheNamesThatAreThere(t *testing.T) {
	for dispatchers, objects := range map[string]func(t *testing.T) []object{
		"penstock-dispatcher": func(t *testing.T) []object { return folder(t, "config") },
		"message-queue":       func(t *testing.T) []object { return rendered(t, "deploy/message-queue") },
	} {
		t.Run(dispatchers, func(t *testing.T) {
			objects := objects(t)
			set := every[*appsv1.StatefulSet](objects)[0]
			if set.Name != dispatchers || set.Spec.ServiceName != dispatchers {
				t.Errorf("StatefulSet %s, its Service %s", set.Name, set.Spec.ServiceName)
			}
			services := every[*corev1.Service](objects)
			find := func(name string) *corev1.Service {
				i := slices.IndexFunc(services, func(s *corev1.Service) bool { return s.Name == name })
				if i < 0 {
					t.Fatalf("there is no Service %s", name)
				}
				return services[i]
			}
			if s := find(dispatchers); s.Spec.ClusterIP != corev1.ClusterIPNone || !s.Spec.PublishNotReadyAddresses {
				t.Errorf("the Service of the dispatchers is %+v", s.Spec)
			}
			for _, w := range workloads(objects) {
				got := variable(w.template.Spec, "PENSTOCK_DISPATCHERS")
				if w.template.Spec.Containers[0].Name != "dispatcher" && got != dispatchers {
					t.Errorf("%s looks for dispatchers at %q", w.name, got)
				}
				if ingress := variable(w.template.Spec, "PENSTOCK_INGRESS"); ingress != "" {
					find(ingress)
				}
			}
		})
	}
	for _, w := range workloads(folder(t, "deploy", "backup")) {
		set := every[*appsv1.StatefulSet](folder(t, "config"))[0]
		if got := variable(w.template.Spec, "PENSTOCK_BACKUP_EXPECT"); got != "3" || *set.Spec.Replicas != 3 {
			t.Errorf("the backup expects %s of %d dispatchers", got, *set.Spec.Replicas)
		}
		if variable(w.template.Spec, "PENSTOCK_DISPATCHERS") != set.Name {
			t.Error("the backup looks elsewhere")
		}
		if want := "/var/run/secrets/penstock/token"; variable(w.template.Spec, "PENSTOCK_TOKEN_FILE") != want {
			t.Errorf("the backup's token is not at %s", want)
		}
	}
}

// What a dispatcher holds outlives the pod, the StatefulSet and its scale; and
// a stop takes as long as it needs.
func TestVolumesStayAndStopsAreGivenTime(t *testing.T) {
	objects := folder(t, "config")
	set := every[*appsv1.StatefulSet](objects)[0]
	if r := set.Spec.PersistentVolumeClaimRetentionPolicy; r == nil || r.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || r.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
		t.Errorf("claims are %+v", r)
	}
	if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
		t.Error("dispatchers wait for each other")
	}
	pod := set.Spec.Template.Spec
	mounted := ""
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.Name == set.Spec.VolumeClaimTemplates[0].Name {
			mounted = m.MountPath
		}
	}
	if mounted == "" || variable(pod, "PENSTOCK_DATA") != mounted {
		t.Errorf("the claim is at %q, the data at %q", mounted, variable(pod, "PENSTOCK_DATA"))
	}
	for _, d := range every[*appsv1.Deployment](objects) {
		if d.Name != "penstock-ingress" {
			continue
		}
		if u := d.Spec.Strategy.RollingUpdate; u.MaxUnavailable.IntValue() != 0 {
			t.Error("a rollout takes ingress away before there is another")
		}
	}
}
