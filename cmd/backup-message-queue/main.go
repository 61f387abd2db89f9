// Command backup-message-queue backs up every dispatcher of a cluster into
// one folder. It is what the CronJob in deploy/backup runs.
package main

import (
	"os"

	"github.com/penstock-events/penstock/pkg/app/backupjob"
	"github.com/penstock-events/penstock/pkg/app/process"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := process.Signals()
	defer stop()
	return backupjob.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
