package controller

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	knative "knative.dev/pkg/controller"
)

// object is a Broker or a Trigger.
type object interface {
	runtime.Object
	metav1.Object
}

// Announce tells people by Kubernetes Events what has changed between two
// states of an object's conditions: what newly stands against it, what it asks
// for that is not supported, and that it has become ready. What stays as it was
// is not said again.
func Announce(ctx context.Context, o object, before, after duckv1.Conditions, ready string) {
	record := knative.GetEventRecorder(ctx)
	if record == nil {
		return
	}
	for _, c := range after {
		if old := find(before, c.Type); c.Type == apis.ConditionReady || old != nil && old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
			continue
		}
		if c.Status == corev1.ConditionFalse || slices.Contains(notSupported, c.Reason) {
			record.Event(o, corev1.EventTypeWarning, c.Reason, string(c.Type)+": "+c.Message)
		}
	}
	if is, was := find(after, apis.ConditionReady), find(before, apis.ConditionReady); is.IsTrue() && !was.IsTrue() {
		record.Event(o, corev1.EventTypeNormal, "Ready", ready)
	}
}

// notSupported are reasons worth a warning though the condition is True.
var notSupported = []string{ReasonTLSNotSupported, ReasonOIDCNotSupported}

func find(conditions duckv1.Conditions, kind apis.ConditionType) *apis.Condition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}
