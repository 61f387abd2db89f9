package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/bench/wire"
)

// trigger is one Trigger of Broker default/default.
type trigger struct {
	name, eventType string
	url             string // "" is the sink, at path
	path            string
	retry           int // 0 is Knative's default

	binary bool // whatever mode events come in

	// known makes this the Broker, with a window in which events are known again;
	// kept the Broker with so much retention.
	known bool
	kept  string
}

func matching(n int) trigger {
	return trigger{name: fmt.Sprintf("t%05d", n), eventType: wire.TypeName(n), path: pathOne}
}

// oneOf are n triggers with an exact filter each, of which only the middle one
// is sent what it wants. What another one delivers is a mistake.
func oneOf(n int) []trigger {
	all := allOf(n)
	for i := range all {
		if i != n/2 {
			all[i].path = pathNone
		}
	}
	return all
}

// fanPaths are where the events of a fan-out come.
func fanPaths(n int) []string {
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf("/fan/%03d", i)
	}
	return paths
}

// fan are triggers that all want the same.
func fan(paths []string) []trigger {
	all := make([]trigger, len(paths))
	for i, path := range paths {
		all[i] = trigger{name: fmt.Sprintf("fan%05d", i), eventType: wire.TypeName(0), path: path}
	}
	return all
}

func allOf(n int) []trigger {
	all := make([]trigger, n)
	for i := range all {
		all[i] = matching(i)
	}
	return all
}

// yaml is the Trigger as a document; sink is the sink's URL.
func (t trigger) yaml(sink string) string {
	annotation := ""
	switch {
	case t.known:
		annotation = "dedup-window: 1h"
	case t.kept != "":
		annotation = "retention: " + t.kept
	}
	if annotation != "" {
		return "---\napiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: default\n  annotations:\n    penstock.dev/" + annotation + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: %s}\nspec:\n  broker: default\n", t.name)
	if t.eventType != "" {
		fmt.Fprintf(&b, "  filter: {attributes: {type: %s}}\n", t.eventType)
	}
	if t.binary {
		b.WriteString("  delivery: {format: binary}\n")
	}
	if t.retry > 0 {
		fmt.Fprintf(&b, "  delivery: {retry: %d, backoffPolicy: exponential, backoffDelay: PT0.2S}\n", t.retry)
	}
	url := t.url
	if url == "" {
		url = sink + t.path
	}
	fmt.Fprintf(&b, "  subscriber: {uri: %q}\n", url)
	return b.String()
}

func startPenstock(triggers []trigger, flags ...string) func(context.Context, *bench, string) (*target, error) {
	return func(ctx context.Context, b *bench, dir string) (*target, error) {
		var ports [3]string
		for i := range ports {
			var err error
			if ports[i], err = freePort(); err != nil {
				return nil, err
			}
		}
		var text strings.Builder
		for _, t := range triggers {
			text.WriteString(t.yaml(b.sink.url("")))
		}
		config := filepath.Join(dir, "triggers.yaml")
		if err := os.WriteFile(config, []byte(text.String()), 0o644); err != nil {
			return nil, err
		}
		args := append([]string{
			"serve", "-f", config, "--data", filepath.Join(dir, "data"),
			"--listen", ports[0], "--api-listen", ports[1], "--metrics-listen", ports[2],
		}, flags...)
		t := &target{address: ports[0], metrics: "http://" + ports[2] + "/metrics", api: "http://" + ports[1]}
		t, err := b.launch(ctx, t, func() (*process, error) { return start("penstock", dir, b.penstock, args...) })
		if err != nil {
			return nil, err
		}
		err = t.until(ctx, 30*time.Second, "become ready", func() bool {
			resp, err := http.Get("http://" + ports[1] + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
		if err != nil {
			t.stop()
			return nil, err
		}
		return t, nil
	}
}
