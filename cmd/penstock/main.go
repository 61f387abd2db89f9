// Command penstock is a durable broker for CloudEvents in one process, and
// the command line to ask it.
package main

import (
	"os"

	"github.com/penstock-events/penstock/pkg/app/cli"
	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/app/standalone"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := process.Signals()
	defer stop()
	return cli.Main(ctx, os.Args[1:], cli.OS(), standalone.Command())
}
