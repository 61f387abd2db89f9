// Command penstock is a durable broker for CloudEvents in one process, and
// the command line to ask it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/penstock-events/penstock/pkg/app/cli"
	"github.com/penstock-events/penstock/pkg/app/standalone"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends the command in order; with the handler gone the
	// second one kills.
	context.AfterFunc(ctx, stop)
	return cli.Main(ctx, os.Args[1:], cli.OS(), standalone.Command())
}
