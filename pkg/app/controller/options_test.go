package controller

import (
	"slices"
	"strings"
	"testing"
)

func TestOptionsComeFromTheEnvironment(t *testing.T) {
	t.Setenv("SYSTEM_NAMESPACE", "penstock-system")
	t.Setenv("PENSTOCK_TOKEN", "")
	t.Setenv("PENSTOCK_CHANNELS", "disk")
	o, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if o.SystemNamespace != "penstock-system" || o.EventingNamespace != "knative-eventing" || o.Ingress != "penstock-ingress" || o.Dispatchers != "penstock-dispatcher" ||
		o.Token != "" || o.IngressToken != "/var/run/secrets/penstock/ingress-token" || o.BoardPort != 8088 || !slices.Equal(o.Channels, []string{"disk"}) {
		t.Errorf("%+v", o)
	}
}

func TestAWrongOptionIsNamed(t *testing.T) {
	for variable, value := range map[string]string{
		"SYSTEM_NAMESPACE":     "",
		"EVENTING_NAMESPACE":   "Not A Name",
		"PENSTOCK_INGRESS":     "a/b",
		"PENSTOCK_BOARD_PORT":  "0",
		"PENSTOCK_PROBE_PORT":  "99999",
		"PENSTOCK_THREADS":     "0",
		"PENSTOCK_CHANNELS":    "tape",
		"PENSTOCK_DISPATCHERS": "",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("SYSTEM_NAMESPACE", "penstock-system")
			t.Setenv(variable, value)
			if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), variable) {
				t.Errorf("%s=%q: %v", variable, value, err)
			}
		})
	}
}
