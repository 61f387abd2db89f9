package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/client"
)

func deadLetterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "deadletter",
		Aliases: []string{"deadletters", "dl"},
		Short:   "Look at events that could not be delivered, send them again, discard them",
		Long: `Look at dead letters: events that a Trigger's subscriber did not take within its
retries. The broker keeps them, whether or not there is a dead letter sink, until
they are sent again or discarded.`,
		Example: `  penstock deadletter list --trigger default/orders
  penstock deadletter show orders 0-42
  penstock deadletter redrive orders --rate 50`,
		Args: cobra.NoArgs,
		RunE: showHelp,
	}
	cmd.AddCommand(deadLetterListCommand(), deadLetterShowCommand(), deadLetterRedriveCommand(), deadLetterDiscardCommand())
	return cmd
}

func deadLetterListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, those that died first on top",
		Example: `  penstock deadletter list
  penstock deadletter list --group
  penstock deadletter list --trigger orders --limit 0 -o json`,
		Args: cobra.NoArgs,
	}
	addOutput(cmd, getFormats()...)
	flags := cmd.Flags()
	trigger := flags.StringP("trigger", "t", "", "only this Trigger's, as NAMESPACE/NAME or NAME")
	broker := flags.StringP("broker", "b", "", "only this Broker's, as NAMESPACE/NAME or NAME")
	limit := flags.Int("limit", 100, "at most so many; 0 for all")
	group := flags.Bool("group", false, "count them by Trigger and reason instead")
	completeFlag(cmd, "trigger", completeTriggers)
	completeFlag(cmd, "broker", completeBrokers)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		format, err := outputFormat(cmd, getFormats()...)
		if err != nil {
			return err
		}
		if *limit < 0 {
			return usage("--limit %d: want 0 or more", *limit)
		}
		if *group && flags.Changed("limit") {
			return usage("--group counts all: leave --limit out")
		}
		if *group && format == formatName {
			return usage("--group: groups have no names: want -o table, wide or json")
		}
		var q client.DeadLetterQuery
		if *trigger != "" {
			if q.Trigger, err = qualify("--trigger", *trigger, ""); err != nil {
				return err
			}
		}
		if *broker != "" {
			if q.Broker, err = qualify("--broker", *broker, ""); err != nil {
				return err
			}
		}
		c, err := apiClient(cmd)
		if err != nil {
			return err
		}
		if *group {
			return groupDead(cmd, c, q, format)
		}
		return listDead(cmd, c, q, format, *limit)
	}
	return cmd
}

// listDead prints dead letters page by page.
func listDead(cmd *cobra.Command, c *client.Client, q client.DeadLetterQuery, format string, limit int) error {
	all, err := pages[v1.DeadLetter]{
		limit: limit, page: 1000,
		next: func(limit int, cursor string) ([]v1.DeadLetter, string, error) {
			q.Limit, q.Cursor = limit, cursor
			list, err := c.DeadLetters(cmd.Context(), q)
			return list.Items, list.Next, err
		},
		name:  func(d v1.DeadLetter) string { return clean(d.Trigger) + " " + d.ID },
		table: deadTable,
		none:  "No dead letters found.", more: "There are more than these %d; --limit 0 lists all.\n",
	}.print(cmd, format)
	if err != nil || format != formatJSON {
		return err
	}
	return printJSON(cmd.OutOrStdout(), v1.DeadLetterList{Items: all.items, Next: all.next})
}

func deadTable(items []v1.DeadLetter, wide bool) table {
	t := table{header: []string{"ID", "TRIGGER", "DIED", "ATTEMPTS", "CODE", "TYPE", "REASON"}}
	if wide {
		t.header = append(t.header, "NUMBER", "EVENT", "SOURCE", "SUBJECT", "DESTINATION")
	}
	for _, d := range items {
		row := []cell{text(d.ID), text(d.Trigger), text(d.Died.Local().Format(time.DateTime)),
			number(d.Attempts), text(codeText(d.Code)), text(d.EventType), text(d.Reason)}
		if wide {
			row = append(row, number(d.Number), text(d.EventID), text(d.EventSource), text(d.EventSubject), text(d.Destination))
		}
		t.add(row...)
	}
	return t
}

// groupDead prints the groups, the largest first.
func groupDead(cmd *cobra.Command, c *client.Client, q client.DeadLetterQuery, format string) error {
	groups, err := c.DeadLetterGroups(cmd.Context(), q.Trigger, q.Broker)
	if err != nil {
		return err
	}
	if format == formatJSON {
		return printJSON(cmd.OutOrStdout(), v1.DeadLetterGroupList{Items: groups})
	}
	if len(groups) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "No dead letters found.")
		return nil
	}
	t := table{header: []string{"TRIGGER", "REASON", "COUNT", "FIRST", "LAST"}}
	if format == formatWide {
		t.header = append(t.header, "BROKER")
	}
	for _, g := range groups {
		row := []cell{text(orDash(g.Trigger)), text(g.Reason), number(g.Count), text(dateText(g.First)), text(dateText(g.Last))}
		if format == formatWide {
			row = append(row, text(orDash(g.Broker)))
		}
		t.add(row...)
	}
	return t.print(cmd.OutOrStdout(), true)
}

// orDash is a text, a dash for none.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// dateText is a local time, a dash for none.
func dateText(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// codeText is an HTTP status, or a dash where no answer came.
func codeText(code int) string {
	if code == 0 {
		return "-"
	}
	return fmt.Sprint(code)
}

func deadLetterShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show TRIGGER ID",
		Short: "Show one dead letter: why it died, and the event",
		Example: `  penstock deadletter show orders 0-42
  penstock deadletter show shop/orders 0-42 -o json | jq .event | penstock send -f -`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeTriggers(cmd, args, typed)
		},
	}
	formats := []string{formatTable, formatJSON}
	addOutput(cmd, formats...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
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
		d, err := c.DeadLetter(cmd.Context(), namespace, name, args[1])
		if err != nil {
			return err
		}
		if format == formatJSON {
			return printJSON(cmd.OutOrStdout(), d)
		}
		return showLetter(cmd.OutOrStdout(), d)
	}
	return cmd
}

func showLetter(w io.Writer, d v1.DeadLetter) error {
	answer := d.Answer
	if len(d.AnswerBase64) > 0 {
		answer = fmt.Sprintf("%d bytes that are not text; -o json has them", len(d.AnswerBase64))
	}
	for _, field := range []struct{ name, value string }{
		{"ID", d.ID}, {"Trigger", d.Trigger}, {"Broker", d.Broker},
		{"Accepted", d.Accepted.Local().Format(time.RFC3339)},
		{"Died", d.Died.Local().Format(time.RFC3339)},
		{"Attempts", fmt.Sprint(d.Attempts)}, {"Reason", d.Reason}, {"Code", codeText(d.Code)},
		{"Destination", d.Destination}, {"Answer", answer},
	} {
		if field.value != "" {
			fmt.Fprintf(w, "%-13s%s\n", field.name+":", clean(field.value))
		}
	}
	var event bytes.Buffer
	if err := json.Indent(&event, d.Event, "", "  "); err != nil {
		return fmt.Errorf("event of dead letter %s: %w", d.ID, err)
	}
	event.WriteByte('\n')
	if _, err := io.WriteString(w, "Event:\n"); err != nil {
		return err
	}
	return writeJSON(w, event.Bytes())
}
