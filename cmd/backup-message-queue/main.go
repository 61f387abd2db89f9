// Command backup-message-queue backs up every dispatcher of a cluster into
// one folder. It is what the CronJob in deploy/backup runs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/penstock-events/penstock/pkg/app/backupjob"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends the job in order; with the handler gone the second
	// one kills.
	context.AfterFunc(ctx, stop)
	return backupjob.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
