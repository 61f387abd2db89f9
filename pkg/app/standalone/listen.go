package standalone

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/penstock-events/penstock/pkg/ingress"
)

// listeners are the addresses of this process. They are opened first: a port
// in use is a mistake to hear of before anything is touched.
type listeners struct{ ingress, api, metrics net.Listener }

func listen(ctx context.Context, o Options) (*listeners, error) {
	l := &listeners{}
	for _, want := range []struct {
		to            *net.Listener
		address, flag string
	}{
		{&l.ingress, o.Listen, "--listen"},
		{&l.api, o.APIListen, "--api-listen"},
		{&l.metrics, o.MetricsListen, "--metrics-listen"},
	} {
		ln, err := ingress.Listen(ctx, want.address, want.flag)
		if err != nil {
			l.close()
			return nil, err
		}
		*want.to = ln
	}
	return l, nil
}

// close closes what no server has closed.
func (l *listeners) close() {
	for _, ln := range []net.Listener{l.ingress, l.api, l.metrics} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

// banner tells a person what is where and how to begin.
func banner(w io.Writer, o Options, l *listeners) {
	storage := o.Data + " (an event is on disk before its 202)"
	if o.Memory {
		storage = "memory (a restart forgets all events)"
	}
	events := reachable(l.ingress.Addr()) + "/default/default"
	api := reachable(l.api.Addr())
	var b strings.Builder
	fmt.Fprintf(&b, "Penstock is ready.\n\n")
	fmt.Fprintf(&b, "  events   %s\n", events)
	fmt.Fprintf(&b, "  API      %s/api/v1   (probes: /healthz, /readyz)\n", api)
	fmt.Fprintf(&b, "  metrics  %s/metrics\n", reachable(l.metrics.Addr()))
	fmt.Fprintf(&b, "  storage  %s\n\n", storage)
	fmt.Fprintf(&b, "Send an event:\n\n")
	fmt.Fprintf(&b, "  curl -i %s -H 'Ce-Id: 1' -H 'Ce-Source: /me' -H 'Ce-Type: hello' \\\n", events)
	fmt.Fprintf(&b, "    -H 'Ce-Specversion: 1.0' -H 'Content-Type: application/json' -d '{\"hello\":\"world\"}'\n\n")
	_, _ = io.WriteString(w, b.String())
}
