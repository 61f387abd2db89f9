package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Signals is a context that the first SIGINT or SIGTERM ends. With the handler
// gone then, the second one kills.
func Signals() (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Main runs a program of one command and returns its exit code: 0 done,
// 1 failed, 2 wrong use.
func Main(cmd *cobra.Command) int {
	ctx, stop := Signals()
	defer stop()
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &UsageError{Err: err} })
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
	if wrong, ok := errors.AsType[*UsageError](err); ok {
		return wrong.ExitCode()
	}
	if strings.HasPrefix(err.Error(), "unknown command") {
		return 2
	}
	return 1
}
