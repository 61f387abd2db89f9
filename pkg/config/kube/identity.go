package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// Ours reports whether a Broker is of class Penstock. One without a class is
// not: Knative's webhook gives each Broker one.
func Ours(b *eventingv1.Broker) bool {
	return b.Annotations[config.ClassAnnotation] == config.BrokerClass
}

// BrokerUID is the identity under which a Broker is stored: its Kubernetes uid.
// A Broker that is deleted and made again has another.
func BrokerUID(b *eventingv1.Broker) channel.UID { return channel.UID(b.UID) }

// TriggerUID is the identity under which a Trigger is stored: its Kubernetes
// uid, a dot, and twelve hexadecimal digits of the SHA-256 of its Broker's
// namespace/name. brokerRef lets a Trigger move to another Broker live, and
// what it has pending at the one has no meaning at the other: it is another
// lane there. By name, not by uid, because a Trigger may be there before its
// Broker, and its identity must not change when that appears.
func TriggerUID(t *eventingv1.Trigger) channel.UID {
	namespace, name := BrokerOf(t)
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	return channel.UID(string(t.UID) + "." + hex.EncodeToString(sum[:6]))
}

// BrokerOf is the Broker that a Trigger names, whether it may or not.
func BrokerOf(t *eventingv1.Trigger) (namespace, name string) {
	namespace, name = t.Namespace, t.Spec.Broker
	if ref := t.Spec.BrokerRef; ref != nil && name == "" {
		name = ref.Name
		if ref.Namespace != "" {
			namespace = ref.Namespace
		}
	}
	return namespace, name
}

// Permitted reports whether a Trigger may listen to the Broker it names: one of
// its own namespace, or the one that the controller has permitted.
func Permitted(t *eventingv1.Trigger) bool {
	namespace, name := BrokerOf(t)
	return namespace == t.Namespace || t.Status.Annotations[BrokerAnnotation] == namespace+"/"+name
}

// fullName is namespace and name of a Broker.
type fullName struct{ namespace, name string }

// brokerOf is BrokerOf for an object that Trigger made.
func brokerOf(o *config.Object) fullName {
	if o.BrokerNamespace != "" {
		return fullName{o.BrokerNamespace, o.BrokerName()}
	}
	return fullName{o.Namespace, o.BrokerName()}
}

func splitName(full string) fullName {
	namespace, name, _ := strings.Cut(full, "/")
	return fullName{namespace, name}
}
