package main

import (
	"context"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/app/dispatcher"
	"github.com/penstock-events/penstock/pkg/app/ingress"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/test/bench/wire"
	"github.com/penstock-events/penstock/test/standin"
)

// startSplit starts the two halves of the data plane as a cluster has them, an
// ingress and a dispatcher process with the hop between them. Only the
// Kubernetes API is a stand-in. Processor time is that of both.
func startSplit(ctx context.Context, b *bench, dir string) (*target, error) {
	var ports [6]string
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	t := &target{address: ports[0]}
	t, err := b.launch(ctx, t, func() (*process, error) {
		return start("split", dir, b.self, "split", "-dir", dir, "-target", b.sink.url(pathOne),
			"-listen", ports[0], "-append", ports[1], "-ingress-probes", ports[2], "-ingress-metrics", ports[3], "-api", ports[4], "-metrics", ports[5])
	})
	if err != nil {
		return nil, err
	}
	ready := "http://" + ports[0] + ingressPath
	err = t.until(ctx, 30*time.Second, "become ready", func() bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, ready, http.NoBody)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusBadRequest // no event, but a broker
	})
	if err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

type splitFlags struct {
	dir, target, listen, append, ingressProbes, ingressMetrics, api, metrics string
}

func (f *splitFlags) parse(name string, args []string) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&f.dir, "dir", "", "folder for the events and the tokens")
	flags.StringVar(&f.target, "target", "", "URL of the subscriber")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address for events")
	flags.StringVar(&f.append, "append", "127.0.0.1:9092", "address of the hop")
	flags.StringVar(&f.ingressProbes, "ingress-probes", "127.0.0.1:8087", "address of the ingress's probes")
	flags.StringVar(&f.ingressMetrics, "ingress-metrics", "127.0.0.1:9089", "address of the ingress's metrics")
	flags.StringVar(&f.api, "api", "127.0.0.1:8088", "address of the dispatcher's API")
	flags.StringVar(&f.metrics, "metrics", "127.0.0.1:9090", "address of the dispatcher's metrics")
	return parse(flags, args)
}

// splitCommand runs the two halves as children until it is told to stop.
func splitCommand(ctx context.Context, args []string) error {
	var f splitFlags
	if err := f.parse("split", args); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.dir, "token"), []byte(cluster.IngressAccount), 0o600); err != nil {
		return err
	}
	return children(ctx, []string{"split-dispatcher", "split-ingress"}, args)
}

func (f *splitFlags) clients() (cluster.Clients, error) {
	retry, policy, delay := int32(10), eventingduckv1.BackoffPolicyExponential, "PT0.2S"
	trigger, err := standin.Trigger("default", "t00000", "default", wire.TypeName(0), f.target,
		&eventingduckv1.DeliverySpec{Retry: &retry, BackoffPolicy: &policy, BackoffDelay: &delay})
	if err != nil {
		return cluster.Clients{}, err
	}
	return standin.Clients([]string{f.append}, "", []runtime.Object{standin.Broker("default", "default"), trigger}...)
}

func splitIngressCommand(ctx context.Context, args []string) error {
	var f splitFlags
	if err := f.parse("split-ingress", args); err != nil {
		return err
	}
	clients, err := f.clients()
	if err != nil {
		return err
	}
	return ingress.Run(ctx, ingress.Options{
		Identity: cluster.Identity{Namespace: standin.Namespace, Pod: "penstock-ingress-0"},
		Listen:   []string{f.listen}, APIListen: f.ingressProbes, MetricsListen: f.ingressMetrics,
		Dispatchers: "penstock-dispatcher", Service: "penstock-ingress", Token: filepath.Join(f.dir, "token"),
		DrainTimeout: time.Second, LogFormat: "text", LogLevel: "info",
	}, clients, os.Stderr)
}

func splitDispatcherCommand(ctx context.Context, args []string) error {
	var f splitFlags
	if err := f.parse("split-dispatcher", args); err != nil {
		return err
	}
	clients, err := f.clients()
	if err != nil {
		return err
	}
	return dispatcher.Run(ctx, dispatcher.Options{
		Identity: cluster.Identity{Namespace: standin.Namespace, Pod: "penstock-dispatcher-0"},
		Data:     filepath.Join(f.dir, "data"), Listen: f.append, APIListen: f.api, MetricsListen: f.metrics,
		DrainTimeout: time.Second, ScrubRate: "0", LogFormat: "text", LogLevel: "info",
		Guard: deliver.Guard{AllowLoopback: true},
	}, clients, os.Stderr)
}
