package cluster

import (
	"context"
	"fmt"
	"io"

	"github.com/kelseyhightower/envconfig"
	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/app/process"
)

// Command makes the command of a program that runs in a cluster: options is a
// pointer to its Options, which are filled from the environment (prefix
// PENSTOCK_) at once, before the caller binds flags to them; run is called with
// clients of the cluster when the command is.
func Command(about cobra.Command, options any, run func(ctx context.Context, c Clients, errOut io.Writer) error) *cobra.Command {
	envErr := envconfig.Process("PENSTOCK", options)
	cmd := about
	cmd.Args, cmd.SilenceUsage, cmd.SilenceErrors = cobra.NoArgs, true, true
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if envErr != nil {
			return &process.UsageError{Err: fmt.Errorf("environment: %w", envErr)}
		}
		clients, err := Connect("penstock-" + cmd.Name())
		if err != nil {
			return err
		}
		return run(cmd.Context(), clients, cmd.ErrOrStderr())
	}
	return &cmd
}
