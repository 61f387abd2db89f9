package controller

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
)

// What is kept of a ConfigMap. Settings and flags are short; what is longer is
// cut, which no setting survives, so that it is refused and not obeyed in part.
const (
	maxSettings     = 64
	maxSettingBytes = 1 << 10
)

// channelTemplate is the key by which other classes find their channel. A
// Broker that Knative's defaulting has been at names a ConfigMap with it.
const channelTemplate = "channel-template-spec"

// Slim is a transform for informers: it drops what no reconciler reads and
// what is the larger part of most objects.
func Slim(obj any) (any, error) {
	o, err := meta.Accessor(obj)
	if err != nil {
		return obj, nil // a tombstone
	}
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
		delete(a, corev1.LastAppliedConfigAnnotation)
		o.SetAnnotations(a)
	}
	if cm, ok := obj.(*corev1.ConfigMap); ok {
		cm.Labels, cm.Annotations, cm.BinaryData = nil, nil, nil
		cm.Data = Settings(cm.Data)
	}
	return obj, nil
}

// Settings are the keys of a ConfigMap that could be meant for us. Of too many
// the first are kept: there are fewer keys that we know, so one that is
// unknown is among them.
func Settings(data map[string]string) map[string]string {
	kept := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if key == channelTemplate || strings.HasPrefix(key, "_") {
			continue
		}
		if len(kept) == maxSettings {
			break
		}
		value := data[key]
		if len(value) > maxSettingBytes {
			value = value[:maxSettingBytes] + "..."
		}
		kept[strings.Clone(key)] = strings.Clone(value)
	}
	return kept
}
