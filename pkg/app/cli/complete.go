package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/client"
)

// completeTimeout is how long the shell waits for names. A person who pressed
// Tab waits with it.
const completeTimeout = 700 * time.Millisecond

// completeFlag gives a flag a source of values.
func completeFlag(cmd *cobra.Command, flag string, from cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, from); err != nil {
		panic("cli: " + err.Error()) // only if the command has no such flag
	}
}

func completeBrokers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completeNames(cmd, args, typed, func(ctx context.Context, c *client.Client) (names []string, err error) {
		brokers, err := c.Brokers(ctx)
		for _, b := range brokers {
			names = append(names, b.FullName())
		}
		return names, err
	})
}

func completeTriggers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completeNames(cmd, args, typed, func(ctx context.Context, c *client.Client) (names []string, err error) {
		triggers, err := c.Triggers(ctx, client.TriggerQuery{})
		for _, t := range triggers {
			names = append(names, t.FullName())
		}
		return names, err
	})
}

// completeNames offers names of a running broker, or nothing if none answers
// in time. A name typed without a namespace is offered without it.
func completeNames(cmd *cobra.Command, args []string, typed string, list func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	const only = cobra.ShellCompDirectiveNoFileComp
	c, err := apiClient(cmd)
	if err != nil {
		return nil, only
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completeTimeout)
	defer cancel()
	names, err := list(ctx, c)
	if err != nil {
		return nil, only
	}
	given := make(map[string]bool, len(args))
	for _, a := range args {
		given[a] = true
	}
	var offered []string
	for _, name := range names {
		short := strings.TrimPrefix(name, "default/")
		for _, form := range []string{name, short} {
			if strings.HasPrefix(form, typed) && !given[form] {
				offered = append(offered, clean(form))
				break
			}
		}
	}
	return offered, only
}
