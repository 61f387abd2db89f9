package manifests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// rights are what roles grant, as "scope group/resource[names] verb".
func rights(scope string, rules []rbacv1.PolicyRule) []string {
	var all []string
	for _, r := range rules {
		for _, verb := range r.Verbs {
			for _, url := range r.NonResourceURLs {
				all = append(all, scope+" "+url+" "+verb)
			}
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					names := ""
					if len(r.ResourceNames) > 0 {
						names = fmt.Sprint(r.ResourceNames)
					}
					all = append(all, scope+" "+group+"/"+resource+names+" "+verb)
				}
			}
		}
	}
	return all
}

func TestNoRoleHasWildcardsOrReadsSecrets(t *testing.T) {
	for _, dir := range applied {
		objects := folder(t, dir)
		var all []string
		for _, r := range every[*rbacv1.ClusterRole](objects) {
			all = append(all, rights("cluster", r.Rules)...)
		}
		for _, r := range every[*rbacv1.Role](objects) {
			all = append(all, rights(r.Namespace, r.Rules)...)
		}
		for _, right := range all {
			if strings.Contains(right, "*") {
				t.Errorf("%s: a wildcard: %s", dir, right)
			}
			if strings.Contains(right, "/secrets") {
				t.Errorf("%s: %s", dir, right)
			}
			for _, much := range []string{" escalate", " bind", " impersonate", "/pods/exec", "/serviceaccounts/token", "/nodes"} {
				if strings.Contains(right+" ", much+" ") {
					t.Errorf("%s: %s", dir, right)
				}
			}
		}
	}
}

// What each program may change. Reading is asked for in the roles themselves;
// a right to write that is added shows up here.
func TestProgramsMayWriteWhatIsListedHere(t *testing.T) {
	want := map[string][]string{
		"penstock-controller": {
			"cluster eventing.knative.dev/brokers/status update", "cluster eventing.knative.dev/triggers/status update",
			"cluster eventing.knative.dev/brokers/status patch", "cluster eventing.knative.dev/triggers/status patch",
			"cluster eventing.knative.dev/brokers/finalizers update",
			"cluster eventing.knative.dev/brokers knsubscribe",
			"cluster eventing.knative.dev/eventtypes create",
			"cluster /events create", "cluster /events patch",
			"penstock-system coordination.k8s.io/leases create", "penstock-system coordination.k8s.io/leases update",
			"penstock-system coordination.k8s.io/leases patch", "penstock-system coordination.k8s.io/leases delete",
		},
		"penstock-ingress": {"cluster authentication.k8s.io/tokenreviews create"},
		"penstock-dispatcher": {
			"cluster authentication.k8s.io/tokenreviews create", "cluster authorization.k8s.io/subjectaccessreviews create",
		},
	}
	objects := folder(t, "config")
	got := map[string][]string{}
	roles := map[string][]string{}
	for _, r := range every[*rbacv1.ClusterRole](objects) {
		roles["ClusterRole "+r.Name] = rights("cluster", r.Rules)
	}
	for _, r := range every[*rbacv1.Role](objects) {
		roles["Role "+r.Name] = rights(r.Namespace, r.Rules)
	}
	grant := func(ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		granted, ok := roles[ref.Kind+" "+ref.Name]
		if !ok {
			t.Errorf("%s %s is bound and not there", ref.Kind, ref.Name)
		}
		for _, s := range subjects {
			if s.Kind != rbacv1.ServiceAccountKind || s.Namespace != "penstock-system" {
				t.Errorf("%s is granted to %+v", ref.Name, s)
			}
			for _, right := range granted {
				if verb := right[strings.LastIndex(right, " ")+1:]; !slices.Contains([]string{"get", "list", "watch"}, verb) {
					got[s.Name] = append(got[s.Name], right)
				}
			}
		}
	}
	for _, b := range every[*rbacv1.ClusterRoleBinding](objects) {
		grant(b.RoleRef, b.Subjects)
	}
	for _, b := range every[*rbacv1.RoleBinding](objects) {
		grant(b.RoleRef, b.Subjects)
	}
	for account := range want {
		slices.Sort(want[account])
		slices.Sort(got[account])
		if !slices.Equal(got[account], want[account]) {
			t.Errorf("%s may write\n%s\nwant\n%s", account, strings.Join(got[account], "\n"), strings.Join(want[account], "\n"))
		}
		delete(got, account)
	}
	if len(got) > 0 {
		t.Errorf("others may write, too: %v", got)
	}
}

// What Knative's roles grant once its core is installed must be granted where
// it is not: the labels that fill our aggregated roles are on a role of ours.
func TestSubscribersAreResolvedWithoutKnativesRoles(t *testing.T) {
	roles := map[string]*rbacv1.ClusterRole{}
	for _, r := range every[*rbacv1.ClusterRole](folder(t, "config")) {
		roles[r.Name] = r
	}
	for name, want := range map[string][]string{
		"penstock-controller-addressable-resolver": {"cluster serving.knative.dev/services get", "cluster /services get", "cluster eventing.knative.dev/brokers watch",
			"cluster messaging.knative.dev/channels list", "cluster flows.knative.dev/sequences get", "cluster sinks.knative.dev/jobsinks get"},
		"penstock-controller-source-observer": {"cluster sources.knative.dev/pingsources get"},
	} {
		aggregated := roles[name]
		var all []string
		for _, r := range roles {
			for _, s := range aggregated.AggregationRule.ClusterRoleSelectors {
				if selects(s.MatchLabels, r.Labels) {
					all = append(all, rights("cluster", r.Rules)...)
				}
			}
		}
		for _, right := range want {
			if !slices.Contains(all, right) {
				t.Errorf("%s does not grant %s", name, right)
			}
		}
		if s := aggregated.AggregationRule.ClusterRoleSelectors; !strings.HasPrefix(fmt.Sprint(s[0].MatchLabels), "map[duck.knative.dev/") {
			t.Errorf("%s is not filled by Knative's roles: %v", name, s)
		}
	}
}

func TestEveryServiceAccountIsUsedAndEveryUseIsAnAccount(t *testing.T) {
	for _, dir := range []string{"config", "deploy/backup"} {
		objects := folder(t, dir)
		used := map[string]bool{}
		for _, w := range workloads(objects) {
			used[w.template.Spec.ServiceAccountName] = true
		}
		for _, a := range every[*corev1.ServiceAccount](objects) {
			if !used[a.Name] {
				t.Errorf("%s: ServiceAccount %s is not used", dir, a.Name)
			}
			delete(used, a.Name)
		}
		if len(used) > 0 {
			t.Errorf("%s: pods use accounts that are not there: %v", dir, used)
		}
	}
	// Pods that ask Kubernetes for nothing carry no key to it.
	for _, dir := range []string{"deploy/backup", "deploy/backup/restore", "deploy/standalone"} {
		for _, w := range workloads(folder(t, dir)) {
			if auto := w.template.Spec.AutomountServiceAccountToken; auto == nil || *auto {
				t.Errorf("%s mounts a token of the API server", w.name)
			}
		}
	}
}
