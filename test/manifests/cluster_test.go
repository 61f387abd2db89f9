package manifests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// kubectl runs against the cluster of KUBECONFIG.
func kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// elsewhere is a manifest of config under another namespace's name, so that
// an installation on the same cluster is not touched.
func elsewhere(t *testing.T, file, namespace string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "config", file))
	if err != nil {
		t.Fatal(err)
	}
	s := strings.ReplaceAll(string(text), "penstock-system", namespace)
	s = strings.ReplaceAll(s, "penstock-keep-volumes", namespace)
	return regexp.MustCompile(`ko://\S+/`).ReplaceAllString(s, "example.com/")
}

// On a real API server: a delete of the files leaves the namespace with its
// claims, and afterwards the namespace can be deleted. Pods are taken without
// a warning of Pod Security.
func TestADeleteLeavesTheVolumesOnARealAPIServer(t *testing.T) {
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("SKIPPED: KUBECONFIG names no cluster")
	}
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("SKIPPED: kubectl is not here")
	}
	name := fmt.Sprintf("penstock-guard-test-%d", os.Getpid())
	must := func(stdin string, args ...string) string {
		t.Helper()
		out, err := kubectl(t, stdin, args...)
		if err != nil {
			t.Fatalf("kubectl %q: %v\n%s", args, err, out)
		}
		return out
	}
	dir := t.TempDir()
	for _, file := range []string{"100-namespace.yaml", "101-namespace-guard.yaml", "200-serviceaccounts.yaml", "400-services.yaml",
		"500-controller.yaml", "500-dispatcher.yaml", "500-ingress.yaml", "600-disruption-budgets.yaml"} {
		text := elsewhere(t, file, name)
		// No pod runs: the images are not there.
		text = regexp.MustCompile(`(?m)^  replicas: \d+$`).ReplaceAllString(text, "  replicas: 0")
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, what := range []string{"validatingadmissionpolicybinding", "validatingadmissionpolicy", "namespace"} {
			for range 50 { // the API server lets go of a policy a moment after it is deleted
				if _, err := kubectl(t, "", "delete", what, name, "--ignore-not-found", "--wait=false"); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
	if out := must("", "apply", "-f", dir); strings.Contains(out, "Warning") {
		t.Errorf("apply warns:\n%s", out)
	}
	claim := `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"` + name + `"},
		"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Mi"}}}}`
	must(claim, "apply", "-f", "-")

	// A policy is in force a moment after it is made.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if _, err := kubectl(t, "", "delete", "namespace", name, "--dry-run=server"); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the namespace is not guarded")
		}
	}
	out, err := kubectl(t, "", "delete", "-f", dir)
	if err == nil || !strings.Contains(out, "hold stored events") || !strings.Contains(out, "kubectl delete namespace "+name) {
		t.Errorf("the delete ends with %v:\n%s", err, out)
	}
	if out := must("", "get", "all,serviceaccounts,poddisruptionbudgets", "-n", name, "-l", "app.kubernetes.io/part-of=penstock", "-o", "name"); out != "" && !strings.Contains(out, "No resources") {
		t.Errorf("the delete leaves\n%s", out)
	}
	if out := must("", "get", "pvc", "-n", name, "-o", "name"); !strings.Contains(out, "persistentvolumeclaim/data") {
		t.Errorf("the claim is gone: %s", out)
	}
	// The selector of the docs deletes all but the namespace, and says nothing.
	must("", "apply", "-f", dir)
	must("", "delete", "-f", dir, "-l", "penstock.dev/holds!=volumes")
	must("", "get", "namespace", name)

	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if out, err = kubectl(t, "", "delete", "namespace", name, "--wait=false"); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after the uninstall the namespace cannot be deleted: %s", out)
		}
	}
}
