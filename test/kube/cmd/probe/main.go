// Command probe receives and sends events inside a cluster for the tests
// outside it. See package probe.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/penstock-events/penstock/test/kube/probe"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	receivers, sender := probe.NewReceivers(), probe.NewSender()
	ended := make(chan error, 2)
	serve := func(port int, h http.Handler) *http.Server {
		s := &http.Server{Addr: fmt.Sprintf(":%d", port), Handler: h, ReadHeaderTimeout: time.Minute}
		go func() { ended <- s.ListenAndServe() }()
		return s
	}
	data := serve(probe.DataPort, receivers)
	control := serve(probe.ControlPort, probe.Control(ctx, receivers, sender))
	select {
	case <-ctx.Done():
		_, _ = data.Close(), control.Close()
	case err := <-ended:
		if !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}
}
