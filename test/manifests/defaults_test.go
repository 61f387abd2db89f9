package manifests

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/eventing/pkg/apis/config"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
)

// The ConfigMaps that the guide shows, asked as Knative's webhook asks them.
func TestTheDefaultsThatTheGuideShowsDoWhatItSays(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join(root, "docs", "guides", "kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	var shown []*config.Defaults
	for _, b := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(guide, -1) {
		for _, m := range every[*corev1.ConfigMap](parse(t, "docs/guides/kubernetes.md", withoutBrokers(b[1]))) {
			if m.Name == config.DefaultsConfigName {
				d, err := config.NewDefaultsConfigFromConfigMap(m)
				if err != nil {
					t.Fatal(err)
				}
				shown = append(shown, d)
			}
		}
	}
	if len(shown) != 2 {
		t.Fatalf("the guide shows %d ConfigMaps", len(shown))
	}
	const mt = "MTChannelBasedBroker"
	// Knative ships this one; it shows the trap that the guide tells of.
	shipped, err := config.NewDefaultsConfigFromMap(map[string]string{config.BrokerDefaultsKey: `{clusterDefault: {brokerClass: ` + mt + `,
		apiVersion: v1, kind: ConfigMap, name: config-br-default-channel, namespace: knative-eventing}}`})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		defaults   *config.Defaults
		class      string // of a new Broker
		got        string
		settled    bool // it gets a spec.config
		deliveries bool // it gets the shipped delivery
	}{
		{"Knative's own", shipped, "Penstock", "Penstock", true, false},
		{"ours the default", shown[0], "", "Penstock", false, true},
		{"ours the default", shown[0], "Penstock", "Penstock", false, true},
		{"beside another", shown[1], "Penstock", "Penstock", false, true},
		{"beside another", shown[1], "", mt, true, true},
		{"beside another", shown[1], mt, mt, true, true},
	} {
		b := eventingv1.Broker{}
		b.Name, b.Namespace = "default", "shop"
		if c.class != "" {
			b.Annotations = map[string]string{eventingv1.BrokerClassAnnotationKey: c.class}
		}
		b.SetDefaults(config.ToContext(t.Context(), &config.Config{Defaults: c.defaults}))
		if class := b.Annotations[eventingv1.BrokerClassAnnotationKey]; class != c.got {
			t.Errorf("%s, class %q: it becomes %q, want %q", c.name, c.class, class, c.got)
		}
		if (b.Spec.Config != nil) != c.settled {
			t.Errorf("%s, class %q: spec.config is %v", c.name, c.class, b.Spec.Config)
		}
		if got := b.Spec.Delivery != nil && b.Spec.Delivery.Retry != nil && *b.Spec.Delivery.Retry == 10; got != c.deliveries {
			t.Errorf("%s, class %q: spec.delivery is %+v", c.name, c.class, b.Spec.Delivery)
		}
	}
}

// withoutBrokers leaves out what Kubernetes' own types do not know.
func withoutBrokers(text []byte) []byte {
	if regexp.MustCompile(`(?m)^kind: (Broker|Trigger)$`).Match(text) {
		return nil
	}
	return text
}
