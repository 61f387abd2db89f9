package broker

import (
	"fmt"

	apierrs "k8s.io/apimachinery/pkg/api/errors"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/tracker"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
)

// defaultChannel is the ConfigMap that Knative's shipped defaults write into
// the spec.config of every Broker, whatever its class. Its keys are not ours.
const defaultChannel = "config-br-default-channel"

// settings reads what spec.config names, hands it to the data plane in
// status.annotations and judges the Broker by it.
//
// Settings that are wrong do not replace settings that are in force: the
// condition says what is wrong, and the data plane goes on with the last good
// ones. A Broker that never had any is not opened before they are right, lest
// it be opened as something that it cannot be changed from.
func (r *Reconciler) settings(b *eventingv1.Broker) error {
	found, err := r.read(b)
	if err != nil {
		return err
	}
	manager := Conditions.Manage(&b.Status)
	last, had := b.Status.Annotations[kube.SettingsAnnotation]
	if found.reason != "" {
		if had {
			found.message += inForce
		}
		manager.MarkFalse(ConditionConfigParsed, found.reason, "%s", found.message)
		return nil
	}
	if found.encoded == "" {
		delete(b.Status.Annotations, kube.SettingsAnnotation)
	} else {
		setAnnotation(b, kube.SettingsAnnotation, found.encoded)
	}
	reason, message, channel := r.Judge.Broker(b)
	if reason == "" {
		setAnnotation(b, kube.ChannelAnnotation, channel)
		manager.MarkTrueWithReason(ConditionConfigParsed, found.note, "%s", found.text)
		return nil
	}
	if had && found.encoded != "" {
		setAnnotation(b, kube.SettingsAnnotation, last)
		if fault, _, _ := r.Judge.Broker(b); fault == "" {
			message += inForce
		} else {
			setAnnotation(b, kube.SettingsAnnotation, found.encoded)
		}
	}
	manager.MarkFalse(ConditionConfigParsed, reason, "%s", message)
	return nil
}

// inForce ends the message of a fault in settings that replaced good ones.
const inForce = " (the settings read before stay in force)"

// settingsFound is what there is behind spec.config.
type settingsFound struct {
	encoded         string // for the data plane
	note, text      string // why nothing was taken, though that is no fault
	reason, message string // a fault
}

// read looks for the ConfigMap of spec.config, and asks to be called when it
// changes.
func (r *Reconciler) read(b *eventingv1.Broker) (settingsFound, error) {
	none, _ := kube.EncodeSettings(nil)
	ref := b.Spec.Config
	if ref == nil {
		return settingsFound{}, nil
	}
	if ref.Kind != configMap.Kind || ref.Name == "" {
		return settingsFound{encoded: none, note: controller.ReasonConfigIgnored,
			text: fmt.Sprintf("spec.config: %s %q is ignored: settings are read from a ConfigMap or from penstock.dev/ annotations", ref.Kind, ref.Name)}, nil
	}
	namespace := ref.Namespace
	if namespace == "" {
		namespace = b.Namespace
	}
	if namespace != b.Namespace && namespace != r.EventingNamespace && namespace != r.SystemNamespace {
		return settingsFound{reason: controller.ReasonConfigMapForbidden,
			message: fmt.Sprintf("spec.config: ConfigMap %s/%s is in another namespace: name one in %s, or in %s where the operator keeps those for all", namespace, ref.Name, b.Namespace, r.EventingNamespace)}, nil
	}
	version, kind := configMap.ToAPIVersionAndKind()
	if err := r.Tracker.TrackReference(tracker.Reference{APIVersion: version, Kind: kind, Namespace: namespace, Name: ref.Name}, b); err != nil {
		return settingsFound{reason: controller.ReasonConfigMapNotFound, message: fmt.Sprintf("spec.config: %v", err)}, nil
	}
	cm, err := r.ConfigMaps.ConfigMaps(namespace).Get(ref.Name)
	switch {
	case apierrs.IsNotFound(err) && namespace == r.EventingNamespace && ref.Name == defaultChannel:
		return settingsFound{encoded: none, note: controller.ReasonConfigIgnored,
			text: fmt.Sprintf("spec.config: ConfigMap %s/%s, which Knative's defaults name, is for other classes", namespace, ref.Name)}, nil
	case apierrs.IsNotFound(err):
		return settingsFound{reason: controller.ReasonConfigMapNotFound,
			message: fmt.Sprintf("spec.config: there is no ConfigMap %s/%s: create it, if need be without any key", namespace, ref.Name)}, nil
	case err != nil:
		return settingsFound{}, fmt.Errorf("read ConfigMap %s/%s: %w", namespace, ref.Name, err)
	}
	settings, known := r.Judge.Public(controller.Settings(cm.Data))
	found := settingsFound{}
	if len(settings) > 0 && !known && namespace == r.EventingNamespace {
		// What stands there without a single key of ours is the default of another
		// class, which Knative's webhook writes into Brokers of every class.
		settings = map[string]string{}
		found = settingsFound{note: controller.ReasonConfigIgnored,
			text: fmt.Sprintf("spec.config: ConfigMap %s/%s has no key of ours and is taken for that of another class", namespace, ref.Name)}
	}
	encoded, err := kube.EncodeSettings(settings)
	if err != nil {
		return settingsFound{reason: config.ReasonSpecInvalid, message: fmt.Sprintf("spec.config: ConfigMap %s/%s: %v", namespace, ref.Name, err)}, nil
	}
	found.encoded = encoded
	return found, nil
}
