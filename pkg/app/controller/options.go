package controller

import (
	"fmt"
	"os"
	"strings"

	"github.com/kelseyhightower/envconfig"
	"k8s.io/apimachinery/pkg/util/validation"
	"knative.dev/pkg/system"

	"github.com/penstock-events/penstock/pkg/config"
)

// Options come from the environment; those that are not Knative's have the
// prefix PENSTOCK_.
type Options struct {
	Ingress      string   `split_words:"true" default:"penstock-ingress"`                        // Service that events are posted to
	Dispatchers  string   `split_words:"true" default:"penstock-dispatcher"`                     // headless Service of the dispatchers
	BoardPort    int      `split_words:"true" default:"8088"`                                    // where pods of both show what they have loaded
	Token        string   `split_words:"true" default:"/var/run/secrets/penstock/token"`         // file, for dispatchers; "" sends none
	IngressToken string   `split_words:"true" default:"/var/run/secrets/penstock/ingress-token"` // file, for ingress; "" sends none
	Channels     []string `split_words:"true" default:"disk,memory"`                             // kinds of channel that the dispatchers have
	Threads      int      `split_words:"true" default:"8"`                                       // objects of one kind that are reconciled at once

	ProbePort int `split_words:"true" default:"8080"`

	SystemNamespace   string `ignored:"true"` // SYSTEM_NAMESPACE: ours
	EventingNamespace string `ignored:"true"` // EVENTING_NAMESPACE: Knative's
}

// defaultEventingNamespace is where Knative keeps its flags unless told otherwise.
const defaultEventingNamespace = "knative-eventing"

// FromEnvironment reads the options. An error names the variable and the cure.
func FromEnvironment() (Options, error) {
	var o Options
	if err := envconfig.Process("PENSTOCK", &o); err != nil {
		return o, fmt.Errorf("environment: %w", err)
	}
	o.SystemNamespace, o.EventingNamespace = os.Getenv(system.NamespaceEnvKey), os.Getenv("EVENTING_NAMESPACE")
	if o.EventingNamespace == "" {
		o.EventingNamespace = defaultEventingNamespace
	}
	for name, value := range map[string]string{
		system.NamespaceEnvKey: o.SystemNamespace, "EVENTING_NAMESPACE": o.EventingNamespace,
		"PENSTOCK_INGRESS": o.Ingress, "PENSTOCK_DISPATCHERS": o.Dispatchers,
	} {
		if wrong := validation.IsDNS1123Label(value); len(wrong) > 0 {
			return o, fmt.Errorf("environment: %s=%q: want a name: %s", name, value, strings.Join(wrong, ", "))
		}
	}
	for name, port := range map[string]int{"PENSTOCK_BOARD_PORT": o.BoardPort, "PENSTOCK_PROBE_PORT": o.ProbePort} {
		if port < 1 || port > 65535 {
			return o, fmt.Errorf("environment: %s=%d: want a port", name, port)
		}
	}
	if o.Threads < 1 || o.Threads > 100 {
		return o, fmt.Errorf("environment: PENSTOCK_THREADS=%d: want 1 to 100", o.Threads)
	}
	for _, kind := range o.Channels {
		switch kind {
		case config.ChannelDisk, config.ChannelMemory, config.ChannelJetStream:
		default:
			return o, fmt.Errorf("environment: PENSTOCK_CHANNELS: %q: want some of disk, memory and jetstream, separated by commas", kind)
		}
	}
	return o, nil
}
