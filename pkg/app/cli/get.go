package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/client"
)

func getFormats() []string { return []string{formatTable, formatWide, formatJSON, formatName} }

func getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "List Brokers and Triggers and how they do",
		Example: `  penstock get brokers
  penstock get triggers --broker default/default -o wide
  penstock get trigger orders -o json`,
		Args: cobra.NoArgs,
		RunE: showHelp,
	}
	cmd.AddCommand(getBrokersCommand(), getTriggersCommand(), getBlockedCommand())
	return cmd
}

// getter is one run of get: what to fetch, and how to show one item.
type getter[T any] struct {
	names  []string // namespace/name; empty for all
	format string
	watch  time.Duration // 0: print once

	fetch func(ctx context.Context) ([]T, error)
	name  func(T) string
	kind  string
	table func(items []T, wide bool) table
	list  func(items []T) any // for JSON
}

func addGetFlags(cmd *cobra.Command) {
	addOutput(cmd, getFormats()...)
	cmd.Flags().StringP("namespace", "n", "", "only this namespace; also the namespace of names given without one")
	cmd.Flags().BoolP("watch", "w", false, "go on, and print what changes")
	cmd.Flags().Duration("interval", 2*time.Second, "how often --watch looks")
}

func getBrokersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "brokers [NAME...]",
		Aliases: []string{"broker"},
		Short:   "List Brokers: what they hold and took in",
		Long: `List Brokers. ACCEPTED counts since the broker's process started, SIZE is what
is kept now, DEAD are the dead letters kept now, REPLAY FROM is the time of the
oldest event that a replay can begin with.`,
		Example: `  penstock get brokers
  penstock get broker default/default -o json`,
		ValidArgsFunction: completeBrokers,
	}
	addGetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := apiClient(cmd)
		if err != nil {
			return err
		}
		g := getter[v1.Broker]{
			kind:  "broker",
			name:  v1.Broker.FullName,
			table: brokerTable,
			list:  func(items []v1.Broker) any { return v1.BrokerList{Items: items} },
		}
		namespace, err := g.read(cmd, args)
		if err != nil {
			return err
		}
		g.fetch = func(ctx context.Context) ([]v1.Broker, error) {
			all, err := c.Brokers(ctx)
			return slices.DeleteFunc(all, func(b v1.Broker) bool { return namespace != "" && b.Namespace != namespace }), err
		}
		return g.run(cmd)
	}
	return cmd
}

func brokerTable(items []v1.Broker, wide bool) table {
	t := table{header: []string{"NAME", "READY", "CHANNEL", "TRIGGERS", "ACCEPTED", "SIZE", "DEAD", "REPLAY FROM", "REASON"}}
	if wide {
		t.header = append(t.header, "RECEIVED", "SHARDS", "MAX", "ADDRESS", "MESSAGE")
	}
	for _, b := range items {
		row := []cell{
			text(b.FullName()), ready(b.Ready), text(b.Channel), number(b.Triggers),
			number(b.Accepted), text(size(b.Bytes)), alarm(b.Dead), text(since(b.Earliest)), text(b.Reason),
		}
		if wide {
			bound := "none"
			if b.MaxBytes > 0 {
				bound = size(b.MaxBytes)
			}
			row = append(row, number(b.Received), number(b.Shards), text(bound), text(b.Address), text(b.Message))
		}
		t.add(row...)
	}
	return t
}

// since is a time in a table, or a dash.
func since(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func getTriggersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "triggers [NAME...]",
		Aliases: []string{"trigger"},
		Short:   "List Triggers: backlog, oldest, in flight, delivered, dead",
		Long: `List Triggers. BACKLOG are events not yet delivered, OLDEST the age of the first
of them, INFLIGHT attempts under way, DELIVERED counts since the broker's process
started, DEAD are the dead letters kept now. REASON says why one is not ready, or
in one word why it waits: paused, circuit (its subscriber is down), blocked (a key
of it is), rate. -o wide says both in full, with until when and the cure.`,
		Example: `  penstock get triggers
  penstock get triggers --broker default/default -o wide
  penstock get triggers -w`,
		ValidArgsFunction: completeTriggers,
	}
	addGetFlags(cmd)
	broker := cmd.Flags().StringP("broker", "b", "", "only this Broker's, as NAMESPACE/NAME or NAME")
	completeFlag(cmd, "broker", completeBrokers)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := apiClient(cmd)
		if err != nil {
			return err
		}
		g := getter[v1.Trigger]{
			kind:  "trigger",
			name:  v1.Trigger.FullName,
			table: triggerTable,
			list:  func(items []v1.Trigger) any { return v1.TriggerList{Items: items} },
		}
		namespace, err := g.read(cmd, args)
		if err != nil {
			return err
		}
		query := client.TriggerQuery{Namespace: namespace}
		if *broker != "" {
			if query.Broker, err = qualify("--broker", *broker, namespace); err != nil {
				return err
			}
		}
		g.fetch = func(ctx context.Context) ([]v1.Trigger, error) { return c.Triggers(ctx, query) }
		return g.run(cmd)
	}
	return cmd
}

func triggerTable(items []v1.Trigger, wide bool) table {
	t := table{header: []string{"NAME", "BROKER", "READY", "BACKLOG", "OLDEST", "INFLIGHT", "DELIVERED", "DEAD", "REASON"}}
	if wide {
		t.header = append(t.header, "WAITING", "FAILED", "CANCELLED", "WINDOW", "COLD", "WAITS", "SUBSCRIBER", "MESSAGE")
	}
	for _, tr := range items {
		oldest := text("-")
		if tr.Backlog > 0 {
			oldest = text(age(time.Duration(tr.OldestPendingSeconds * float64(time.Second))))
		}
		row := []cell{
			text(tr.FullName()), text(tr.Broker), ready(tr.Ready), number(tr.Backlog), oldest,
			number(tr.InFlight), number(tr.Delivered), alarm(tr.Dead), text(reasonOf(tr)),
		}
		if wide {
			cold := text("-")
			if tr.SparedUntil != nil {
				cold = text("spared until " + tr.SparedUntil.Local().Format(time.TimeOnly))
			}
			row = append(row, number(tr.Waiting), number(tr.Failed), number(tr.Cancelled), number(tr.Window), cold, text(orDash(tr.Waits)), text(tr.Subscriber), text(tr.Message))
		}
		t.add(row...)
	}
	return t
}

// reasonOf is why a Trigger is not ready, or else a word for why it waits.
func reasonOf(tr v1.Trigger) string {
	switch {
	case tr.Reason != "":
		return tr.Reason
	case tr.Paused:
		return "paused"
	case tr.Circuit.State != "" && tr.Circuit.State != "closed":
		return "circuit"
	case strings.HasPrefix(tr.Waits, "rate "):
		return "rate"
	case tr.BlockedKeys > 0:
		return "blocked"
	}
	return ""
}

// read takes the flags and arguments all getters share, and returns -n.
func (g *getter[T]) read(cmd *cobra.Command, args []string) (namespace string, err error) {
	if g.format, err = outputFormat(cmd, getFormats()...); err != nil {
		return "", err
	}
	if namespace, err = cmd.Flags().GetString("namespace"); err != nil {
		return "", err
	}
	for _, arg := range args {
		full, err := qualify("NAME", arg, namespace)
		if err != nil {
			return "", err
		}
		g.names = append(g.names, full)
	}
	if watch, err := cmd.Flags().GetBool("watch"); err != nil || !watch {
		return namespace, err
	}
	if g.watch, err = cmd.Flags().GetDuration("interval"); err == nil && g.watch <= 0 {
		err = usage("--interval %s: want more than 0", g.watch)
	}
	return namespace, err
}

// qualify makes NAMESPACE/NAME of what people write; namespace, or else
// default, stands in where they give none.
func qualify(what, arg, namespace string) (string, error) {
	before, after, slash := strings.Cut(arg, "/")
	if !slash {
		if namespace == "" {
			namespace = "default"
		}
		before, after = namespace, arg
	}
	if before == "" || after == "" || strings.Contains(after, "/") {
		return "", usage("%s %q: want NAMESPACE/NAME or NAME", what, arg)
	}
	return before + "/" + after, nil
}

func (g *getter[T]) run(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	items, err := g.get(ctx)
	if err != nil {
		return err
	}
	if g.watch == 0 {
		return g.show(cmd, items)
	}
	return g.follow(ctx, out, items)
}

// get fetches, and picks what was asked for by name, in that order.
func (g *getter[T]) get(ctx context.Context) ([]T, error) {
	all, err := g.fetch(ctx)
	if err != nil || len(g.names) == 0 {
		return all, err
	}
	picked := make([]T, 0, len(g.names))
	for _, name := range g.names {
		before := len(picked)
		for _, item := range all {
			if g.name(item) == name {
				picked = append(picked, item)
			}
		}
		if len(picked) == before {
			return nil, fmt.Errorf("no %s %q; `penstock get %ss -o name` lists those there are", g.kind, name, g.kind)
		}
	}
	return picked, nil
}

func (g *getter[T]) show(cmd *cobra.Command, items []T) error {
	out := cmd.OutOrStdout()
	switch g.format {
	case formatJSON:
		if items == nil {
			items = []T{}
		}
		if len(g.names) == 1 && len(items) == 1 {
			return printJSON(out, items[0])
		}
		return printJSON(out, g.list(items))
	case formatName:
		for _, item := range items {
			fmt.Fprintln(out, clean(g.name(item)))
		}
		return nil
	}
	if len(items) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "No %ss found.\n", g.kind)
		return nil
	}
	t := g.table(items, g.format == formatWide)
	return t.print(out, true)
}

// follow prints all items and then, until ctx ends, those that differ from
// how they were printed last. JSON has one object a line.
func (g *getter[T]) follow(ctx context.Context, out io.Writer, items []T) error {
	printed := map[string]string{}
	tick := time.NewTicker(g.watch)
	defer tick.Stop()
	for first := true; ; first = false {
		now := make(map[string]string, len(items))
		changed := items[:0:0]
		for _, item := range items {
			name, form := g.name(item), g.form(item)
			if now[name] = form; printed[name] != form {
				changed = append(changed, item)
			}
		}
		printed = now
		if err := g.showChanged(out, changed, first); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		if items, err = g.get(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// form is what a change is seen by: the text that would be printed.
func (g *getter[T]) form(item T) string {
	if g.format == formatName {
		return g.name(item)
	}
	if g.format == formatJSON {
		line, err := marshal(item, "")
		if err != nil {
			return err.Error() // the same each time, and showChanged returns it
		}
		return string(line)
	}
	return fmt.Sprint(g.table([]T{item}, g.format == formatWide).rows)
}

func (g *getter[T]) showChanged(out io.Writer, items []T, first bool) error {
	switch g.format {
	case formatTable, formatWide:
		t := g.table(items, g.format == formatWide)
		return t.print(out, first)
	}
	for _, item := range items {
		if g.format == formatName {
			fmt.Fprintln(out, clean(g.name(item)))
			continue
		}
		line, err := marshal(item, "")
		if err != nil {
			return err
		}
		if err := writeJSON(out, line); err != nil {
			return err
		}
	}
	return nil
}
