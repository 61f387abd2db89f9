package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/client"
	"github.com/penstock-events/penstock/pkg/event"
)

// lineData is how much of an event's data a line shows.
const lineData = 120

func tailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Watch events as a Broker accepts them",
		Long: `Watch events as a Broker accepts them, from now on, until -n events have come or
the command is interrupted. Watching changes nothing: it takes no event away
and holds none up. A watcher that is too slow misses events and is told how
many.

-o json prints one CloudEvent a line, which 'penstock send -f -' takes.`,
		Example: `  penstock tail
  penstock tail --broker shop/orders --filter "type LIKE 'order.%' AND region = 'eu'"
  penstock tail --type order.created -n 1 -o json`,
		Args: cobra.NoArgs,
	}
	formats := []string{formatLine, formatJSON}
	addOutput(cmd, formats...)
	flags := cmd.Flags()
	var q client.TailQuery
	flags.StringVarP(&q.Broker, "broker", "b", "default/default", "the Broker, as NAMESPACE/NAME or NAME")
	flags.StringVar(&q.Filter, "filter", "", "only events for which this CESQL expression is true")
	flags.StringVar(&q.Type, "type", "", "only events of this type")
	flags.StringVar(&q.Source, "source", "", "only events of this source")
	count := flags.IntP("count", "n", 0, "end after so many events; 0 goes on")
	completeFlag(cmd, "broker", completeBrokers)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
		}
		if *count < 0 {
			return usage("--count %d: want 0 or more", *count)
		}
		if q.Broker, err = qualify("--broker", q.Broker, ""); err != nil {
			return err
		}
		return runTail(cmd, q, format, *count)
	}
	return cmd
}

func runTail(cmd *cobra.Command, q client.TailQuery, format string, count int) error {
	c, err := apiClient(cmd)
	if err != nil {
		return err
	}
	ctx, out, notes := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	t, err := c.Tail(ctx, q)
	if err != nil {
		return err
	}
	defer t.Close()
	if isTerminal(notes) {
		fmt.Fprintf(notes, "Watching %s; end with Ctrl-C.\n", clean(q.Broker))
	}
	seen := 0
	for line, err := range t.Lines() {
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the broker ended the stream after %d events", seen)
		case err != nil:
			return err
		case line.Skipped > 0:
			fmt.Fprintf(notes, "%d events skipped: they came faster than they could be shown\n", line.Skipped)
		case line.Error != "":
			fmt.Fprintln(notes, clean(line.Error))
		case line.Event != nil:
			if err := printEvent(out, line, format); err != nil {
				return err
			}
			if seen++; seen == count {
				return nil
			}
		}
	}
	return nil
}

func printEvent(w io.Writer, line v1.TailLine, format string) error {
	if format == formatJSON {
		return writeJSON(w, append(line.Event, '\n'))
	}
	e, err := event.DecodeJSON(line.Event)
	if err != nil {
		return fmt.Errorf("event %s of the stream: %w", line.ID, err)
	}
	when := ""
	if line.Time != nil {
		when = line.Time.Local().Format(time.TimeOnly + ".000")
	}
	fields := []string{when, line.ID, e.Type(), e.Source()}
	if e.Subject() != "" {
		fields = append(fields, "subject="+e.Subject())
	}
	fields = append(fields, "id="+e.ID())
	if e.HasData() {
		fields = append(fields, excerpt(e.Data()))
	}
	for i := range fields {
		fields[i] = clean(fields[i])
	}
	_, err = fmt.Fprintln(w, strings.Join(fields, "  "))
	return err
}

// excerpt is the beginning of an event's data in one line.
func excerpt(data []byte) string {
	text := string(data[:min(len(data), lineData)])
	if json.Valid(data) {
		text = strings.Join(strings.Fields(text), " ")
	}
	if len(data) > lineData {
		text = strings.ToValidUTF8(text, "") + fmt.Sprintf("... (%d bytes)", len(data))
	}
	return text
}
