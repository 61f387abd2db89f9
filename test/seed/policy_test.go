package seed

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// endpoint is one end of a connection: a pod, or an address outside.
type endpoint struct {
	name      string
	namespace string            // "" for an address outside the cluster
	ns        map[string]string // labels of the namespace
	pod       map[string]string
	ip        string
}

// policies are NetworkPolicies, evaluated as Kubernetes describes them: a pod
// that a policy selects for a direction is reached, or reaches, what one of
// the policies that select it allows, and nothing else. A connection needs
// both ends' consent.
type policies []networkingv1.NetworkPolicy

func readPolicies(t *testing.T, manifest []byte, namespace string) policies {
	t.Helper()
	var all policies
	for dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096); ; {
		var p networkingv1.NetworkPolicy
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Kind != "NetworkPolicy" {
			continue
		}
		if p.Namespace == "" {
			p.Namespace = namespace
		}
		all = append(all, p)
	}
}

func matches(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(set))
}

// allow reports whether a connection from one to another is let through.
func (all policies) allow(from, to endpoint, protocol string, port int32) bool {
	return all.consent(from, to, networkingv1.PolicyTypeEgress, protocol, port) &&
		all.consent(to, from, networkingv1.PolicyTypeIngress, protocol, port)
}

func (all policies) consent(mine, other endpoint, direction networkingv1.PolicyType, protocol string, port int32) bool {
	selected := false
	for _, p := range all {
		if mine.namespace == "" || p.Namespace != mine.namespace || !matches(&p.Spec.PodSelector, mine.pod) {
			continue
		}
		for _, typ := range p.Spec.PolicyTypes {
			if typ != direction {
				continue
			}
			selected = true
			if direction == networkingv1.PolicyTypeIngress {
				for _, r := range p.Spec.Ingress {
					if peer(p.Namespace, r.From, other) && portAllowed(r.Ports, protocol, port) {
						return true
					}
				}
			} else {
				for _, r := range p.Spec.Egress {
					if peer(p.Namespace, r.To, other) && portAllowed(r.Ports, protocol, port) {
						return true
					}
				}
			}
		}
	}
	return !selected
}

func peer(namespace string, peers []networkingv1.NetworkPolicyPeer, other endpoint) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			ip := netip.MustParseAddr(other.ip)
			in := netip.MustParsePrefix(p.IPBlock.CIDR).Contains(ip)
			for _, e := range p.IPBlock.Except {
				in = in && !netip.MustParsePrefix(e).Contains(ip)
			}
			if in {
				return true
			}
			continue
		}
		if other.namespace == "" {
			continue
		}
		if p.NamespaceSelector == nil && other.namespace != namespace || p.NamespaceSelector != nil && !matches(p.NamespaceSelector, other.ns) {
			continue
		}
		if p.PodSelector == nil || matches(p.PodSelector, other.pod) {
			return true
		}
	}
	return false
}

func portAllowed(ports []networkingv1.NetworkPolicyPort, protocol string, port int32) bool {
	for _, p := range ports {
		if string(*p.Protocol) == protocol && p.Port.IntVal == port {
			return true
		}
	}
	return len(ports) == 0
}

// The cluster of the test.
var (
	penstockNamespace = map[string]string{"kubernetes.io/metadata.name": "penstock-system"}
	ingressPod        = member("ingress", "10.0.0.1")
	dispatcherPod     = member("dispatcher", "10.0.0.2")
	controllerPod     = member("controller", "10.0.0.3")
	backupPod         = member("backup", "10.0.0.4")
	consumerPod       = endpoint{"message-consumer", "penstock-system", penstockNamespace, map[string]string{"app": "message-consumer"}, "10.0.0.5"}
	strangerBeside    = endpoint{"another pod of the namespace", "penstock-system", penstockNamespace, map[string]string{"app": "x"}, "10.0.0.6"}
	producerPod       = endpoint{"producer", "shop", map[string]string{"penstock.dev/producers": "true"}, map[string]string{"app": "checkout"}, "10.0.1.1"}
	strangerPod       = endpoint{"pod of another namespace", "elsewhere", map[string]string{"kubernetes.io/metadata.name": "elsewhere"}, map[string]string{"app": "message-consumer"}, "10.0.1.2"}
	monitoringPod     = endpoint{"prometheus", "monitoring", map[string]string{"penstock.dev/monitoring": "true"}, map[string]string{"app": "prometheus"}, "10.0.1.3"}
	dnsPod            = endpoint{"dns", "kube-system", map[string]string{"kubernetes.io/metadata.name": "kube-system"}, map[string]string{"k8s-app": "kube-dns"}, "10.0.1.4"}
	apiServer         = endpoint{name: "API server", ip: "172.16.0.1"}
	outside           = endpoint{name: "subscriber outside", ip: "203.0.113.7"}
	metadataService   = endpoint{name: "metadata service", ip: "169.254.169.254"}
)

func member(component, ip string) endpoint {
	return endpoint{component, "penstock-system", penstockNamespace,
		map[string]string{"app": "message-queue", "app.kubernetes.io/name": "penstock", "app.kubernetes.io/component": component}, ip}
}

// Practice 4. The article's policy, word for word, keeps a broker that pushes
// from all it needs; ours allows what the article allows, and the rest.
func TestTheNetworkPolicyLetsThroughWhatIsNeededAndNothingElse(t *testing.T) {
	theirs := readPolicies(t, text(t, "testdata", "08-networkpolicy.yaml"), "penstock-system")
	mine := readPolicies(t, deploy(t, "network-policy", "network-policy.yaml"), "")
	rule := theirs[0].Spec.Ingress[0]
	port := rule.Ports[0].Port.IntVal
	if len(theirs) != 1 || !matches(rule.From[0].PodSelector, consumerPod.pod) || !matches(&theirs[0].Spec.PodSelector, ingressPod.pod) {
		t.Fatalf("the article's policy is another: %+v", theirs)
	}
	for _, c := range []struct {
		from, to        endpoint
		protocol        string
		port            int32
		literal, policy bool
	}{
		// What the article allows.
		{consumerPod, ingressPod, string(*rule.Ports[0].Protocol), port, true, true},
		// Events in.
		{producerPod, ingressPod, "TCP", 8080, false, true},
		{producerPod, ingressPod, "TCP", 9092, false, true},
		{strangerPod, ingressPod, "TCP", 8080, false, false},
		{strangerPod, ingressPod, "TCP", port, false, false},
		{strangerBeside, ingressPod, "TCP", 8080, false, false},
		{ingressPod, dispatcherPod, "TCP", 9092, false, true},
		{producerPod, dispatcherPod, "TCP", 9092, false, false},
		{controllerPod, dispatcherPod, "TCP", 9092, false, false},
		// Events out.
		{dispatcherPod, outside, "TCP", 443, false, true},
		{dispatcherPod, producerPod, "TCP", 8080, false, true},
		{dispatcherPod, ingressPod, "TCP", 8080, false, true},
		{dispatcherPod, metadataService, "TCP", 80, false, false},
		{ingressPod, outside, "TCP", 80, false, false},
		// The API and what is loaded.
		{controllerPod, dispatcherPod, "TCP", 8088, false, true},
		{controllerPod, ingressPod, "TCP", 8088, false, true},
		{dispatcherPod, dispatcherPod, "TCP", 8088, false, true},
		{backupPod, dispatcherPod, "TCP", 8088, false, true},
		{producerPod, dispatcherPod, "TCP", 8088, false, false},
		{producerPod, ingressPod, "TCP", 8088, false, false},
		{monitoringPod, dispatcherPod, "TCP", 8088, false, false},
		// Measured, named, and under the API server.
		{monitoringPod, ingressPod, "TCP", 9090, false, true},
		{monitoringPod, dispatcherPod, "TCP", 9090, false, true},
		{monitoringPod, controllerPod, "TCP", 9090, false, true},
		{strangerPod, dispatcherPod, "TCP", 9090, false, false},
		{ingressPod, dnsPod, "UDP", 53, false, true},
		{dispatcherPod, dnsPod, "UDP", 53, false, true},
		{controllerPod, dnsPod, "TCP", 53, false, true},
		{backupPod, dnsPod, "UDP", 53, false, true},
		{ingressPod, apiServer, "TCP", 6443, false, true},
		{controllerPod, apiServer, "TCP", 443, false, true},
		{dispatcherPod, apiServer, "TCP", 6443, false, true},
		{backupPod, outside, "TCP", 8080, false, false},
	} {
		if got := theirs.allow(c.from, c.to, c.protocol, c.port); got != c.literal {
			t.Errorf("the article's policy: %s to %s, %s %d: %v", c.from.name, c.to.name, c.protocol, c.port, got)
		}
		if got := mine.allow(c.from, c.to, c.protocol, c.port); got != c.policy {
			t.Errorf("ours: %s to %s, %s %d: %v", c.from.name, c.to.name, c.protocol, c.port, got)
		}
	}
}
