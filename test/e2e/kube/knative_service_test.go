package kube

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// serving is the version whose CustomResourceDefinition of a Knative Service is
// used. Nothing of the module is compiled.
const serving = "knative.dev/serving@v0.51.0"

// servingCRD finds it in the module cache, or fetches the module.
func servingCRD(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", serving)
	cmd.Dir = t.TempDir() // not of our module
	out, err := cmd.Output()
	var m struct{ Dir, Error string }
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil || m.Error != "" {
		t.Skipf("the module %s cannot be had: %v %s", serving, err, m.Error)
	}
	return filepath.Join(m.Dir, "config", "core", "300-resources", "service.yaml")
}

// TestAKnativeServiceThatScalesFromZeroGetsEveryEvent: the Service is a stand-in,
// an object of kind serving.knative.dev/v1 Service whose status the test
// writes. Behind its address the probe plays activator and pod: 503 while there
// is no pod, then a first answer that takes long.
func TestAKnativeServiceThatScalesFromZeroGetsEveryEvent(t *testing.T) {
	s := space(t)
	s.Define(servingCRD(t))
	asleep, first := 20*time.Second, 8*time.Second
	if quick() {
		asleep, first = 8*time.Second, 3*time.Second
	}
	behind, dead := s.Receiver("behind"), s.Receiver("dead")
	services := s.Dynamic.Resource(schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}).Namespace(s.Name)
	o, err := services.Create(s.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"name": "orders"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"image": "example.com/orders"}}}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Object["status"] = map[string]any{
		"observedGeneration": o.GetGeneration(),
		"url":                behind.URL(),
		"address":            map[string]any{"url": behind.URL()},
		"conditions":         []any{map[string]any{"type": "Ready", "status": "True"}},
	}
	if _, err := services.UpdateStatus(s.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	url := kube.Address(s.ReadyBroker("default"))
	s.ReadyTrigger("trigger", "default", duckv1.Destination{Ref: &duckv1.KReference{
		APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "orders", Namespace: s.Name,
	}}, kube.Delivers(kube.Backoff(kube.Delivery(dead, 2), eventingduck.BackoffPolicyExponential, "PT0.2S")))

	behind.Set(probe.Mood{Steps: []probe.Step{
		{For: asleep, Status: http.StatusServiceUnavailable}, {Times: 1, Delay: first}, {Delay: 20 * time.Millisecond},
	}})
	stream := s.Stream("load", probe.Stream{URL: url, Prefix: kube.ID("ksvc") + "-", Rate: 50, Events: 500})
	stream.Finish()
	tally := stream.Settled(behind, settle)
	refused := 0
	for _, req := range behind.Got() {
		if req.Status == http.StatusServiceUnavailable {
			refused++
		}
	}
	t.Logf("%d events came, %d twice; %d attempts met the activator while there was no pod", tally.Came, tally.Twice, refused)
	if n := dead.Total(); n > 0 {
		t.Errorf("%d dead letters: scaling from zero burned their retries", n)
	}
	if refused > 500 {
		t.Errorf("%d attempts while there was no pod, for 500 events: it is called again and again", refused)
	}
}
