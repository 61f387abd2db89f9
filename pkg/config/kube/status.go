package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/penstock-events/penstock/pkg/config"
)

// What the controller tells the data plane stands in status.annotations of the
// object itself. Only the controller writes status, so that nobody can permit
// himself what a Broker's owner or an operator has to.
const (
	// SettingsAnnotation, on a Broker, is what the ConfigMap of its spec.config
	// says: EncodeSettings. A Broker that names a ConfigMap is not ready before
	// the controller has looked.
	SettingsAnnotation = config.AnnotationPrefix + "settings"

	// ChannelAnnotation, on a Broker, is the kind of channel that it was created
	// with and keeps for life.
	ChannelAnnotation = config.AnnotationPrefix + "channel"

	// BrokerAnnotation, on a Trigger, is the Broker of another namespace,
	// namespace/name, that it may listen to. It counts only where it is the one
	// that spec.brokerRef names.
	BrokerAnnotation = config.AnnotationPrefix + "broker"
)

// MaxSettingsBytes bounds the settings of one Broker.
const MaxSettingsBytes = 16 << 10

// EncodeSettings writes the data of a ConfigMap as the value of
// SettingsAnnotation: canonical JSON, so that the same data are the same
// bytes. nil says that there is no such ConfigMap. More than MaxSettingsBytes
// is an error.
func EncodeSettings(data map[string]string) (string, error) {
	text, err := json.Marshal(data) // sorts the keys; nil is null
	if err != nil {
		return "", fmt.Errorf("encode settings: %w", err)
	}
	if len(text) > MaxSettingsBytes {
		return "", fmt.Errorf("settings of %d bytes are more than %d: remove keys that are not Penstock's", len(text), MaxSettingsBytes)
	}
	return string(text), nil
}

// DecodeSettings reads what EncodeSettings wrote.
func DecodeSettings(text string) (map[string]string, error) {
	if len(text) > MaxSettingsBytes {
		return nil, fmt.Errorf("settings of %d bytes are more than %d", len(text), MaxSettingsBytes)
	}
	var data map[string]string
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		return nil, fmt.Errorf("settings are not a JSON object of strings")
	}
	return data, nil
}

// ours are the annotations that count, nil if there are none: Penstock's own
// and the class. Others may be long, and are nobody's business here.
func ours(annotations map[string]string) map[string]string {
	var out map[string]string
	for key, value := range annotations {
		if key == config.ClassAnnotation || strings.HasPrefix(key, config.AnnotationPrefix) {
			if out == nil {
				out = make(map[string]string)
			}
			out[key] = value
		}
	}
	return out
}

// sorted lists the entries of a map as key, value, key, value.
func sorted(m map[string]string) []string {
	out := make([]string, 0, 2*len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key, m[key])
	}
	return out
}
