package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

func deadLetterRedriveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redrive TRIGGER [ID...]",
		Short: "Send dead letters again",
		Long: `Send a Trigger's dead letters to it again, or to another sink: all of them, those
that meet --where, or those named. A dead letter is discarded once its event was
delivered; one that fails again stays. The events carry the extension
penstockredrive with the job's id.

The broker does the work as a job, beside live events. Interrupting the command
cancels it; with --wait=false the command returns at once.`,
		Example: `  penstock deadletter redrive orders --dry-run
  penstock deadletter redrive orders --where "type=order.created" --rate 50
  penstock deadletter redrive orders 0-42 --to http://localhost:3000/check`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: firstTrigger,
	}
	var f jobFlags
	f.add(cmd, true)
	to := cmd.Flags().String("to", "", "URL that gets the events in place of the Trigger's subscriber")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		trigger, err := qualify("TRIGGER", args[0], "")
		if err != nil {
			return err
		}
		return f.runJob(cmd, v1.JobRedrive, v1.JobRequest{Trigger: trigger, IDs: args[1:], Sink: *to})
	}
	return cmd
}

func deadLetterDiscardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discard TRIGGER [ID...]",
		Short: "Discard dead letters for good",
		Long: `Discard a Trigger's dead letters for good: all of them, those that meet --where,
or those named. TRIGGER may be one that is gone. It asks first, on a terminal;
elsewhere it needs --yes.`,
		Example: `  penstock deadletter discard orders --where "type=order.test" --dry-run
  penstock deadletter discard orders 0-42 --yes`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: firstTrigger,
	}
	var f jobFlags
	f.add(cmd, false)
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		trigger, err := qualify("TRIGGER", args[0], "")
		if err != nil {
			return err
		}
		q := v1.JobRequest{Trigger: trigger, IDs: args[1:]}
		if !*yes && !f.dryRun {
			c, err := apiClient(cmd)
			if err != nil {
				return err
			}
			q.Where = f.where
			p, err := c.PreviewJob(cmd.Context(), v1.JobDiscard, q)
			if err != nil {
				return wrongUse(err)
			}
			ok, err := confirmed(cmd, fmt.Sprintf("Discard %d dead letters of %s for good?", p.Matched, clean(trigger)))
			if err != nil {
				return err
			}
			if !ok {
				return errors.New("nothing was discarded")
			}
		}
		return f.runJob(cmd, v1.JobDiscard, q)
	}
	return cmd
}

func replayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay TRIGGER",
		Short: "Send events of the past to a Trigger once more",
		Long: `Send events that the Broker still has to a Trigger once more: those that match its
filter as it is now, in the order they were accepted for each key (partitionkey,
else subject). 'penstock get brokers' says how far back one can go. The events
carry the extension penstockreplay with the job's id.

The broker does the work as a job, beside live events. Interrupting the command
cancels it; with --wait=false the command returns at once.

--from and --to take a time as in 2026-03-01T12:00:00Z, or how long ago: 2h, 7d.`,
		Example: `  penstock replay orders --from 2h --dry-run
  penstock replay orders --from 2026-03-01T12:00:00Z --to 2026-03-01T13:00:00Z --rate 50
  penstock replay orders --where "subject=customer-7"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: firstTrigger,
	}
	var f jobFlags
	f.add(cmd, true)
	from := cmd.Flags().String("from", "", "accepted from then on; without it all that is kept")
	to := cmd.Flags().String("to", "", "accepted before then; without it until now")
	partial := cmd.Flags().Bool("partial", false, "also if not all since --from is kept")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		trigger, err := qualify("TRIGGER", args[0], "")
		if err != nil {
			return err
		}
		q := v1.JobRequest{Trigger: trigger, Partial: *partial}
		now := time.Now()
		if q.From, err = timeAgo("--from", *from, now); err != nil {
			return err
		}
		if q.To, err = timeAgo("--to", *to, now); err != nil {
			return err
		}
		return f.runJob(cmd, v1.JobReplay, q)
	}
	return cmd
}

// timeAgo reads a time, or how long before now; nil for "".
func timeAgo(flag, value string, now time.Time) (*time.Time, error) {
	if value == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		return &t, nil
	}
	ago, err := time.ParseDuration(value)
	if days, ok := strings.CutSuffix(value, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return nil, usage("%s %q: want a time such as 2026-03-01T12:00:00Z, or how long ago, such as 2h or 7d", flag, value)
	}
	t := now.Add(-ago)
	return &t, nil
}

// firstTrigger completes a Trigger as the first argument.
func firstTrigger(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeTriggers(cmd, args, typed)
}
