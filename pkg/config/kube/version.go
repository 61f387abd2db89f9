package kube

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
)

// BrokerVersion tells one declaration of a Broker from another as far as the
// data plane uses it: the generation, which covers spec, a dash, and twelve
// hexadecimal digits that cover the rest: the annotations that count, the
// resolved URL, and what the controller says in status.annotations. A process
// that has loaded this version runs on what the object says. Conditions are
// not in it, so that writing them changes no version.
func BrokerVersion(b *eventingv1.Broker) string {
	return version(b.Generation, sorted(ours(b.Annotations)),
		sorted(ours(b.Status.Annotations)), []string{b.Status.DeadLetterSinkURI.String()})
}

// TriggerVersion is BrokerVersion for a Trigger. That of its Broker is not in
// it: a Trigger that falls back to its Broker's settings runs on those of the
// Broker's own version.
func TriggerVersion(t *eventingv1.Trigger) string {
	return version(t.Generation, sorted(ours(t.Annotations)),
		sorted(ours(t.Status.Annotations)), []string{t.Status.SubscriberURI.String(), t.Status.DeadLetterSinkURI.String()})
}

// version writes each text with its length, so that no two lists look alike.
func version(generation int64, lists ...[]string) string {
	sum := sha256.New()
	var n [8]byte
	for _, list := range lists {
		binary.BigEndian.PutUint64(n[:], uint64(len(list)))
		sum.Write(n[:])
		for _, s := range list {
			binary.BigEndian.PutUint64(n[:], uint64(len(s)))
			sum.Write(n[:])
			sum.Write([]byte(s))
		}
	}
	return strconv.FormatInt(generation, 10) + "-" + hex.EncodeToString(sum.Sum(nil)[:6])
}
