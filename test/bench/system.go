package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/bench/wire"
)

// Paths at the sink: what a system must deliver to, and what must stay empty.
const (
	pathOne  = "/one"
	pathNone = "/none"
)

// Names of the systems, which are also the rows of the report.
const (
	sysNginx    = "nginx, reverse proxy"
	sysNetHTTP  = "floor, net/http"
	sysFastHTTP = "floor, fasthttp"
	sysMemory   = "penstock, memory, 1 trigger"
	sysDisk     = "penstock, disk, 1 trigger"
	sysMany     = "penstock, disk, 1 of 10,000 triggers"
	sysSpread   = "penstock, disk, each of 10,000 triggers in turn"
	sysSplit    = "penstock, disk, ingress and dispatcher apart"
	sysBare     = "penstock, disk, no journal"
	sysKnown    = "penstock, disk, journal and dedup-window"
)

// manyTriggers is what 10,000 triggers are. The one that matches stands in the middle.
const manyTriggers = 10_000

// system is something that takes events and passes them on.
type system struct {
	name             string
	firstType, types int // of the events sent to it
	start            func(ctx context.Context, b *bench, dir string) (*target, error)
}

// target is a system that runs and is ready.
type target struct {
	*process
	address string // where events are posted to
	metrics string // URL, "" where there is none
	api     string // URL, "" where there is none
}

// systems are in an order that puts each beside what it is compared with.
func systems(nginx string, quick bool) []system {
	var all []system
	if nginx != "" {
		all = append(all, system{name: sysNginx, start: startNginx(nginx)})
	}
	if !quick {
		all = append(all, system{name: sysFastHTTP, start: startFloor("fasthttp", pathOne)})
	}
	all = append(all,
		system{name: sysNetHTTP, start: startFloor("nethttp", pathOne)},
		system{name: sysMemory, start: startPenstock([]trigger{matching(0)}, "--memory")},
		system{name: sysDisk, start: startPenstock([]trigger{matching(0)})},
		system{name: sysSplit, start: startSplit},
		system{name: sysMany, start: startPenstock(oneOf(manyTriggers)), firstType: manyTriggers / 2},
	)
	if !quick {
		all = append(all, pair()...)
		all = append(all, system{name: sysSpread, start: startPenstock(allOf(manyTriggers)), types: manyTriggers})
	}
	return all
}

// pair is what the journal and deduplication cost.
func pair() []system {
	return []system{
		{name: sysBare, start: startPenstock([]trigger{matching(0)}, "--journal-bytes", "0")},
		{name: sysKnown, start: startPenstock([]trigger{matching(0), {known: true}})},
	}
}

func startFloor(library, path string) func(context.Context, *bench, string) (*target, error) {
	return func(ctx context.Context, b *bench, dir string) (*target, error) {
		address, err := freePort()
		if err != nil {
			return nil, err
		}
		return b.launch(ctx, &target{address: address}, func() (*process, error) {
			return start("floor-"+library, dir, b.self, "floor", "-library", library, "-listen", address, "-target", b.sink.url(path))
		})
	}
}

// nginxConfig is nginx at its best for this: one connection to the sink for
// each of ours, kept; no log; a worker for each processor.
const nginxConfig = `daemon off;
worker_processes %[1]d;
pid %[2]s/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  upstream sink { server %[3]s; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen %[4]s;
    location = ` + ingressPath + ` {
      proxy_pass http://sink` + pathOne + `;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
}
`

func startNginx(nginx string) func(context.Context, *bench, string) (*target, error) {
	return func(ctx context.Context, b *bench, dir string) (*target, error) {
		address, err := freePort()
		if err != nil {
			return nil, err
		}
		// Its workers give up root and must still reach their folder.
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, err
		}
		config := filepath.Join(dir, "nginx.conf")
		text := fmt.Sprintf(nginxConfig, runtime.NumCPU(), dir, b.sink.address, address)
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			return nil, err
		}
		return b.launch(ctx, &target{address: address}, func() (*process, error) {
			return start("nginx", dir, nginx, "-p", dir, "-e", "stderr", "-c", config)
		})
	}
}

// findNginx is nginx's path, or "". Debian keeps it where only root looks.
func findNginx() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

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

// launch starts t's process and waits until it listens.
func (b *bench) launch(ctx context.Context, t *target, run func() (*process, error)) (*target, error) {
	p, err := run()
	if err != nil {
		return nil, err
	}
	t.process = p
	if err := p.listening(ctx, t.address); err != nil {
		p.stop()
		return nil, err
	}
	return t, nil
}
