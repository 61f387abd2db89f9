package standalone

import (
	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/app/process"
)

// Command is `penstock serve`. It stops in order when the command's context
// ends, which is where main puts the signals.
func Command() *cobra.Command {
	o, envErr := fromEnvironment()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker: take events in, keep them, deliver them",
		Long: `Run the broker in this process.

Without a file there is one Broker, default/default. Brokers and Triggers come
from YAML files, the same that a cluster takes, and are in force within a second
of a change. Events are kept in ./.penstock and survive a restart.

SIGTERM or Ctrl-C stops it in order: no new events, deliveries in flight end,
exit code 0. A second signal stops it at once.`,
		Example: `  # one Broker, default/default, events kept in ./.penstock
  penstock serve

  # Brokers and Triggers from a folder, reloaded when it changes
  penstock serve -f examples/quickstart

  # where a subscriber.ref leads, outside a cluster
  penstock serve -f trigger.yaml --resolve service/orders=http://localhost:3000

  # nothing on disk
  penstock serve --memory`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if envErr != nil {
				return &process.UsageError{Err: envErr}
			}
			return Run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.bind(cmd.Flags())
	return cmd
}
