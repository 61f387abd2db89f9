package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Paths at the sink: what a system must deliver to, and what must stay empty.
const (
	pathOne  = "/one"
	pathSlow = "/slow"
	pathNone = "/none"
)

// nobody refuses connections: the port of tcpmux, which no system has served for decades.
const nobody = "http://127.0.0.1:1/"

// slowAnswer is what the slow subscriber takes.
const slowAnswer = 20 * time.Millisecond

// Names of the systems, which are also the rows of the report.
const (
	sysNginx     = "nginx, reverse proxy"
	sysNetHTTP   = "floor, net/http"
	sysFastHTTP  = "floor, fasthttp"
	sysDurable   = "floor, fasthttp, durable"
	sysMemory    = "penstock, memory, 1 trigger"
	sysDisk      = "penstock, disk, 1 trigger"
	sysThousand  = "penstock, disk, 1 of 1,000 triggers"
	sysMany      = "penstock, disk, 1 of 10,000 triggers"
	sysSpread    = "penstock, disk, each of 10,000 triggers in turn"
	sysSplit     = "penstock, disk, ingress and dispatcher apart"
	sysBare      = "penstock, disk, no journal"
	sysKnown     = "penstock, disk, journal and dedup-window"
	sysMemoryOne = "penstock, memory, on 1 processor"
	sysMemoryTwo = "penstock, memory, on 2 processors"
	sysDiskOne   = "penstock, disk, on 1 processor"
	sysDiskTwo   = "penstock, disk, on 2 processors"
	sysFanFloor  = "floor, fasthttp, to 100 paths"
	sysFanMemory = "penstock, memory, 100 triggers match"
	sysFanDisk   = "penstock, disk, 100 triggers match"
	sysFlush     = "one flush of the same size"
	sysAlone     = "penstock, memory, the healthy trigger alone"
	sysBeside    = "penstock, memory, beside one of 20 ms and a dead one"
	sysPending   = "penstock, memory, a dead trigger"
	sysIdle      = "penstock, disk, idle"
	sysKnative   = "Knative, memory, 1 trigger"
	sysKnative10 = "Knative, memory, 1 of 10 triggers"
	sysKnative99 = "Knative, memory, 1 of 100 triggers"

	sysMemoryAllOne = "penstock, memory, sender, broker and sink on 1 processor"
	sysMemoryAllTwo = "penstock, memory, sender, broker and sink on 2 processors"
	sysDiskAllOne   = "penstock, disk, sender, broker and sink on 1 processor"
	sysDiskAllTwo   = "penstock, disk, sender, broker and sink on 2 processors"
)

// How many triggers there are; the one that matches stands in the middle.
const (
	someTriggers = 1_000
	manyTriggers = 10_000

	fanTriggers = 100 // all match
)

// system is something that takes events and passes them on.
type system struct {
	name             string
	firstType, types int                      // of the events sent to it
	paths            []string                 // where every event must come; none is pathOne
	slow             map[string]time.Duration // paths that take their time
	own              *plan                    // where that of its scenario does not fit
	start            func(ctx context.Context, b *bench, dir string) (*target, error)

	// measure is instead of a plain trial of start.
	measure func(ctx context.Context, b *bench, sys system, p plan) ([]sample, error)
}

func (s system) out() outlets {
	if s.paths == nil {
		return outlets{paths: []string{pathOne}, slow: s.slow}
	}
	return outlets{paths: s.paths, slow: s.slow}
}

// target is a system that runs and is ready.
type target struct {
	*process
	address string // where events are posted to
	metrics string // URL, "" where there is none
	api     string // URL, "" where there is none
}

func startFloor(kind string, paths ...string) func(context.Context, *bench, string) (*target, error) {
	return func(ctx context.Context, b *bench, dir string) (*target, error) {
		address, err := freePort()
		if err != nil {
			return nil, err
		}
		targets := make([]string, len(paths))
		for i, path := range paths {
			targets[i] = b.sink.url(path)
		}
		return b.launch(ctx, &target{address: address}, func() (*process, error) {
			return start("floor-"+kind, dir, b.self, "floor", "-kind", kind, "-listen", address, "-dir", dir, "-targets", strings.Join(targets, ","))
		})
	}
}

// startKnative starts Knative's data plane with n Triggers, of which the middle one matches.
func startKnative(n int) func(context.Context, *bench, string) (*target, error) {
	return func(ctx context.Context, b *bench, dir string) (*target, error) {
		var ports [3]string
		for i := range ports {
			var err error
			if ports[i], err = freePort(); err != nil {
				return nil, err
			}
		}
		t, err := b.launch(ctx, &target{address: ports[0]}, func() (*process, error) {
			return start("knative", dir, b.self, "knative", "-ingress", ports[0], "-channel", ports[1], "-filter", ports[2],
				"-triggers", strconv.Itoa(n), "-target", b.sink.url(pathOne), "-other", b.sink.url(pathNone))
		})
		if err != nil {
			return nil, err
		}
		if err := errors.Join(t.listening(ctx, ports[1]), t.listening(ctx, ports[2])); err != nil {
			t.stop()
			return nil, err
		}
		return t, nil
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

// pinned starts a system that has n of the machine's processors. Sender and sink
// keep all.
func pinned(n int, start func(context.Context, *bench, string) (*target, error)) func(context.Context, *bench, string) (*target, error) {
	return func(ctx context.Context, b *bench, dir string) (t *target, err error) {
		err = onProcessors(n, func() error {
			t, err = start(ctx, b, dir)
			return err
		})
		if err != nil && t != nil {
			t.stop()
			return nil, err
		}
		return t, err
	}
}

// measureOn gives sender, broker and sink together n of the machine's processors,
// as a machine of that size would: the sender cannot take the second one when
// the broker has only the first.
func measureOn(n int) func(context.Context, *bench, system, plan) ([]sample, error) {
	return func(ctx context.Context, b *bench, sys system, p plan) (all []sample, err error) {
		err = onProcessors(n, func() (err error) {
			restore, err := sameProcessors(b.sink.family())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, restore()) }()
			s, err := b.trial(ctx, sys, p)
			all = []sample{s}
			return err
		})
		return all, err
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
