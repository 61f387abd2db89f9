package standalone

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/penstock-events/penstock/pkg/app/process"
)

// listeners are the addresses of this process. They are opened first: a port
// in use is a mistake to hear of before anything is touched.
type listeners struct{ ingress, api, metrics net.Listener }

func listen(ctx context.Context, o Options) (l listeners, closeAll func(), err error) {
	closeAll, err = process.Listen(ctx,
		process.Port{To: &l.ingress, Address: o.Listen, Flag: "--listen"},
		process.Port{To: &l.api, Address: o.APIListen, Flag: "--api-listen"},
		process.Port{To: &l.metrics, Address: o.MetricsListen, Flag: "--metrics-listen"})
	return l, closeAll, err
}

// banner tells a person what is where and how to begin.
func banner(w io.Writer, o Options, l listeners) {
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
