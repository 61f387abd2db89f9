package trigger

import (
	"context"

	apierrs "k8s.io/apimachinery/pkg/api/errors"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/controller"
)

// dependency follows the source that the annotation knative.dev/dependency
// names, in the Trigger's namespace: a Trigger with one is ready when it is. It
// reports whether to look again although nothing that is watched may change.
func (r *Reconciler) dependency(ctx context.Context, t *eventingv1.Trigger) (again bool) {
	text, given := t.Annotations[eventingv1.DependencyAnnotation]
	if !given {
		t.Status.MarkDependencySucceeded()
		return false
	}
	ref, err := eventingv1.GetObjRefFromDependencyAnnotation(text)
	if err != nil || ref.Kind == "" || ref.Name == "" || ref.APIVersion == "" {
		t.Status.MarkDependencyFailed(controller.ReasonDependencyInvalid, "annotation %s: want kind, name and apiVersion of a source, as JSON", eventingv1.DependencyAnnotation)
		return false
	}
	what := ref.Kind + " " + t.Namespace + "/" + ref.Name
	if err := r.Sources.TrackInNamespace(ctx, t)(ref); err != nil {
		t.Status.MarkDependencyFailed(controller.ReasonDependencyNotFound, "%s cannot be watched: %v: install its kind, or correct the annotation %s", what, err, eventingv1.DependencyAnnotation)
		return true
	}
	lister, err := r.Sources.ListerFor(ref)
	if err != nil {
		t.Status.MarkDependencyUnknown(controller.ReasonDependencyUnknown, "%s: %v", what, err)
		return true
	}
	obj, err := lister.ByNamespace(t.Namespace).Get(ref.Name)
	switch source, ok := obj.(*duckv1.Source); {
	case apierrs.IsNotFound(err):
		t.Status.MarkDependencyFailed(controller.ReasonDependencyNotFound, "%s does not exist: create it, or remove the annotation %s", what, eventingv1.DependencyAnnotation)
	case err != nil || !ok:
		t.Status.MarkDependencyUnknown(controller.ReasonDependencyUnknown, "%s cannot be read as a source: %v", what, err)
		return true
	case source.Generation != source.Status.ObservedGeneration:
		t.Status.MarkDependencyUnknown(controller.ReasonDependencyUnknown, "%s has changed and its controller has not looked at it yet", what)
	default:
		source = source.DeepCopy()
		for i := range source.Status.Conditions {
			// Knative's helper takes the message as a format.
			c := &source.Status.Conditions[i]
			c.Message = escape(c.Message)
		}
		t.Status.PropagateDependencyStatus(source)
	}
	return false
}
