package trigger

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/controller"
)

// The state that we note in a Trigger has two parts. The first says for what
// SubscriptionReady holds: this object, in this generation, on this Broker. The
// second is the mark of the condition BrokerReady as we wrote it, by which we
// see whether somebody else has written since: where there is no Broker, no
// class owns the Trigger, and two that both insist would write for ever.

// stateOf is the first part.
func stateOf(t *eventingv1.Trigger, broker types.UID) string {
	return fmt.Sprintf("%s/%d/%s", t.UID, t.Generation, broker)
}

// note writes the state. It comes after the last condition.
func note(t *eventingv1.Trigger, broker types.UID) {
	annotate(t, controller.StateAnnotation, stateOf(t, broker)+" "+mark(t))
}

// loadedAs is the first part as it was noted.
func loadedAs(t *eventingv1.Trigger) string {
	state, _, _ := strings.Cut(t.Status.Annotations[controller.StateAnnotation], " ")
	return state
}

// lastWriter reports whether nobody else has said anything about the Trigger,
// or nobody since we did.
func lastWriter(t *eventingv1.Trigger) bool {
	if len(t.Status.Conditions) == 0 {
		return true
	}
	_, noted, ours := strings.Cut(t.Status.Annotations[controller.StateAnnotation], " ")
	return ours && noted == mark(t)
}

func mark(t *eventingv1.Trigger) string {
	c := t.Status.GetCondition(eventingv1.TriggerConditionBroker)
	if c == nil {
		return "-"
	}
	sum := sha256.Sum256([]byte(string(c.Status) + "\n" + c.Reason + "\n" + c.Message))
	return hex.EncodeToString(sum[:6])
}
