package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/client"
)

func pauseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause TRIGGER",
		Short: "Stop the deliveries of a Trigger and keep its events",
		Long: `Stop the deliveries of a Trigger. Attempts in flight end, everything else is
kept and waits. With --for it goes on by itself; otherwise until
` + "`penstock resume`" + `. A pause outlives a restart of the broker. It is apart from
the annotation penstock.dev/paused, which holds a Trigger as long as it stands there.`,
		Example: `  penstock pause orders --for 30m
  penstock pause shop/orders`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneTrigger,
	}
	duration := cmd.Flags().String("for", "", "how long, as in 30m, 24h, 7d or PT24H; without it until resumed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("for") && *duration == "" {
			return usage("--for is empty: leave it out or give a duration, as in 30m")
		}
		return control(cmd, args[0], func(ctx context.Context, c *client.Client, namespace, name string) (string, error) {
			t, err := c.Pause(ctx, namespace, name, *duration)
			switch {
			case err != nil:
				return "", err
			case t.PausedUntil != nil:
				return fmt.Sprintf("paused until %s, %d pending", t.PausedUntil.Local().Format(time.DateTime), t.Backlog), nil
			}
			return fmt.Sprintf("paused until it is resumed, %d pending", t.Backlog), nil
		})
	}
	return cmd
}

func resumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume TRIGGER",
		Short: "Go on with the deliveries of a Trigger that was paused",
		Long: `End a pause that ` + "`penstock pause`" + ` began. Where the annotation penstock.dev/paused
holds the Trigger that is an error, and it stays paused.`,
		Example:           `  penstock resume orders`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneTrigger,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return control(cmd, args[0], func(ctx context.Context, c *client.Client, namespace, name string) (string, error) {
			t, err := c.Resume(ctx, namespace, name)
			return fmt.Sprintf("resumed, %d pending", t.Backlog), err
		})
	}
	return cmd
}

func skipCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "skip TRIGGER ID",
		Short: "Give up the event that a key of an ordered Trigger waits for",
		Long: `Give up the event that blocks a key of a Trigger with penstock.dev/order: key. It
becomes a dead letter with the reason "skipped by an operator", and the next event of
its key goes. ` + "`penstock get blocked`" + ` lists the ids.`,
		Example: `  penstock get blocked orders
  penstock skip orders 0-42`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeOneTrigger,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return control(cmd, args[0], func(ctx context.Context, c *client.Client, namespace, name string) (string, error) {
			_, err := c.Skip(ctx, namespace, name, args[1])
			return args[1] + " skipped: it is a dead letter now", err
		})
	}
	return cmd
}

// control runs a change of one Trigger and says what it came to.
func control(cmd *cobra.Command, arg string, do func(ctx context.Context, c *client.Client, namespace, name string) (string, error)) error {
	full, err := qualify("TRIGGER", arg, "")
	if err != nil {
		return err
	}
	c, err := apiClient(cmd)
	if err != nil {
		return err
	}
	namespace, name, _ := strings.Cut(full, "/")
	said, err := do(cmd.Context(), c, namespace, name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), clean("trigger "+full+" "+said))
	return err
}

// completeOneTrigger completes the first argument.
func completeOneTrigger(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeTriggers(cmd, args, typed)
}

func getBlockedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "blocked TRIGGER",
		Short: "List blocked keys of an ordered Trigger",
		Long: `List the keys of a Trigger with penstock.dev/order: key whose first event failed
and is to be tried again, the longest blocked on top. BEHIND are the events of the
key that wait for it.`,
		Example: `  penstock get blocked orders
  penstock skip orders 0-42`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneTrigger,
	}
	formats := []string{formatTable, formatJSON, formatName}
	addOutput(cmd, formats...)
	limit := cmd.Flags().Int("limit", 100, "at most so many, 1 to 1000")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
		}
		if *limit < 1 || *limit > 1000 {
			return usage("--limit %d: want 1 to 1000", *limit)
		}
		full, err := qualify("TRIGGER", args[0], "")
		if err != nil {
			return err
		}
		c, err := apiClient(cmd)
		if err != nil {
			return err
		}
		namespace, name, _ := strings.Cut(full, "/")
		list, err := c.Blocked(cmd.Context(), namespace, name, *limit)
		if err != nil {
			return err
		}
		return showBlocked(cmd, list, format)
	}
	return cmd
}

func showBlocked(cmd *cobra.Command, list v1.BlockedList, format string) error {
	out, notes := cmd.OutOrStdout(), cmd.ErrOrStderr()
	switch format {
	case formatJSON:
		return printJSON(out, list)
	case formatName:
		for _, b := range list.Items {
			fmt.Fprintln(out, b.ID)
		}
	default:
		if list.Total == 0 {
			fmt.Fprintln(notes, "No blocked keys found.")
			return nil
		}
		t := table{header: []string{"ID", "KEY", "SINCE", "ATTEMPTS", "NEXT", "BEHIND"}}
		for _, b := range list.Items {
			t.add(text(b.ID), text(b.Key), text(b.Since.Local().Format(time.DateTime)), number(b.Attempts),
				text(b.NextAttempt.Local().Format(time.DateTime)), number(b.Behind))
		}
		if err := t.print(out, true); err != nil {
			return err
		}
	}
	if more := list.Total - len(list.Items); more > 0 {
		fmt.Fprintf(notes, "There are %d more.\n", more)
	}
	return nil
}
