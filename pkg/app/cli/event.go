package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/client"
)

func eventCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "event [ID]",
		Aliases: []string{"events", "ev"},
		Short:   "What happened to an event, or which events there were",
		Long: `Tell the story of an event: when it was accepted, which Triggers matched and why
the others did not, every attempt with its answer, the replies, and how it ended.

ID is the event's name inside Penstock, SHARD-POSITION, as the 202 answer has it
in its Penstock-Event header, or the id that its sender gave it. Without ID, or
where several events have it, they are listed, newest first.`,
		Example: `  penstock event 0-42
  penstock event order-4711 --source /shop
  penstock event --type order.created --since 1h
  penstock event 0-42 -o json | jq .data | penstock send -f -`,
		Args: cobra.MaximumNArgs(1),
	}
	formats := []string{formatTable, formatWide, formatJSON, formatName}
	addOutput(cmd, formats...)
	var q eventSearch
	flags := cmd.Flags()
	flags.StringVarP(&q.Broker, "broker", "b", "", "only this Broker's, as NAMESPACE/NAME or NAME")
	flags.StringVar(&q.Type, "type", "", "only events of this type")
	flags.StringVar(&q.Source, "source", "", "only events of this source")
	flags.StringVar(&q.Subject, "subject", "", "only events of this subject")
	flags.StringVar(&q.since, "since", "", "only events accepted since then: a time (RFC 3339) or a duration, as in 2h")
	flags.StringVar(&q.until, "until", "", "only events accepted before then: a time (RFC 3339) or a duration ago")
	flags.IntVar(&q.limit, "limit", 20, "at most so many; 0 for all")
	completeFlag(cmd, "broker", completeBrokers)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
		}
		if err := q.check(time.Now()); err != nil {
			return err
		}
		c, err := apiClient(cmd)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return q.list(cmd, c, format)
		}
		return q.tell(cmd, c, format, args[0])
	}
	return cmd
}

// eventSearch is what the flags of `penstock event` say.
type eventSearch struct {
	client.EventQuery
	since, until string
	limit        int
}

func (q *eventSearch) check(now time.Time) (err error) {
	if q.limit < 0 {
		return usage("--limit %d: want 0 or more", q.limit)
	}
	if q.Broker != "" {
		if q.Broker, err = qualify("--broker", q.Broker, ""); err != nil {
			return err
		}
	}
	from, err := timeAgo("--since", q.since, now)
	if err != nil {
		return err
	}
	to, err := timeAgo("--until", q.until, now)
	if err != nil {
		return err
	}
	if from != nil {
		q.From = *from
	}
	if to != nil {
		q.To = *to
	}
	if from != nil && to != nil && !from.Before(*to) {
		return usage("--until %s is not after --since %s", q.until, q.since)
	}
	return nil
}

// tell prints the story of the one event that id names, whichever id it is.
func (q *eventSearch) tell(cmd *cobra.Command, c *client.Client, format, id string) error {
	if _, err := channel.ParseID(id); err == nil && q.Type == "" && q.Source == "" && q.Subject == "" {
		story, err := c.EventStory(cmd.Context(), id, q.Broker)
		if err == nil {
			return printStory(cmd.OutOrStdout(), format, story)
		}
		// It may be an id that a sender gave which looks like one of ours.
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != http.StatusNotFound {
			return err
		}
	}
	q.ID = id
	found, err := q.few(cmd.Context(), c)
	if err != nil {
		return err
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("no event %q is known: it was not accepted, or is longer ago than the journal goes back", id)
	case 1:
		story, err := c.EventStory(cmd.Context(), found[0].ID, found[0].Broker)
		if err != nil {
			return err
		}
		return printStory(cmd.OutOrStdout(), format, story)
	}
	if format != formatJSON && format != formatName {
		fmt.Fprintf(cmd.ErrOrStderr(), "Several events have the id %s; name one by its own:\n", clean(id))
	}
	return q.list(cmd, c, format)
}

// few are the first two events that are asked for: enough to know whether
// there is one.
func (q *eventSearch) few(ctx context.Context, c *client.Client) ([]v1.Event, error) {
	ask := q.EventQuery
	ask.Limit = 2
	var found []v1.Event
	for {
		list, err := c.Events(ctx, ask)
		found = append(found, list.Items...)
		if ask.Cursor = list.Next; err != nil || ask.Cursor == "" || len(found) > 1 {
			return found, err
		}
	}
}

// list prints events page by page.
func (q *eventSearch) list(cmd *cobra.Command, c *client.Client, format string) error {
	ask := q.EventQuery
	all, err := pages[v1.Event]{
		limit: q.limit, page: 500,
		next: func(limit int, cursor string) ([]v1.Event, string, error) {
			ask.Limit, ask.Cursor = limit, cursor
			list, err := c.Events(cmd.Context(), ask)
			return list.Items, list.Next, err
		},
		name:  func(e v1.Event) string { return clean(e.Broker) + " " + e.ID },
		table: eventTable,
		none:  "No events found.", more: "There may be more than these %d; --limit 0 lists all.\n",
	}.print(cmd, format)
	if err != nil || format != formatJSON {
		return err
	}
	return printJSON(cmd.OutOrStdout(), v1.EventList{Items: all.items, Next: all.next})
}

func eventTable(items []v1.Event, wide bool) table {
	t := table{header: []string{"ID", "BROKER", "ACCEPTED", "TYPE", "EVENT", "SOURCE"}}
	if wide {
		t.header = append(t.header, "SUBJECT", "CAUSE", "CORRELATION")
	}
	for _, e := range items {
		row := []cell{text(e.ID), text(e.Broker), text(e.Accepted.Local().Format(time.DateTime)), text(e.EventType), text(e.EventID), text(e.EventSource)}
		if wide {
			row = append(row, text(e.EventSubject), text(e.CausationID), text(e.CorrelationID))
		}
		t.add(row...)
	}
	return t
}

// printStory prints what happened as a person tells it.
func printStory(w io.Writer, format string, s v1.EventStory) error {
	switch format {
	case formatJSON:
		return printJSON(w, s)
	case formatName:
		_, err := fmt.Fprintln(w, clean(s.Broker)+" "+s.ID)
		return err
	}
	for _, field := range []struct{ name, value string }{
		{"ID", s.ID}, {"Broker", s.Broker}, {"Accepted", clock(s.Accepted)},
		{"Event", s.EventID}, {"Type", s.EventType}, {"Source", s.EventSource}, {"Subject", s.EventSubject},
		{"Caused by", s.CausationID}, {"Correlation", s.CorrelationID},
	} {
		if field.value != "" {
			fmt.Fprintf(w, "%-13s%s\n", field.name+":", clean(field.value))
		}
	}
	for _, missing := range s.Missing {
		fmt.Fprintf(w, "%-13s%s\n", "Not whole:", clean(missing))
	}
	colour := colours(w)
	for _, t := range s.Triggers {
		state := t.State
		if t.Ended != nil {
			state += " " + clock(*t.Ended)
		}
		if t.State == v1.StatePending && t.Next != nil {
			state += ", next attempt " + clock(*t.Next)
		}
		if colour {
			state = paint(state, stateColour(t.State))
		}
		fmt.Fprintf(w, "\nTrigger %s: %s\n", clean(t.Trigger), state)
		for _, why := range []string{t.Why, t.Reason} {
			if why != "" {
				fmt.Fprintf(w, "  %s\n", clean(why))
			}
		}
		if len(t.Attempts) == 0 {
			continue
		}
		if err := printAttempts(w, t.Attempts, format == formatWide); err != nil {
			return err
		}
	}
	if len(s.Triggers) == 0 {
		fmt.Fprintln(w, "\nNo Trigger of the Broker matched.")
	}
	if format != formatWide || len(s.Data) == 0 {
		return nil
	}
	var data bytes.Buffer
	if err := json.Indent(&data, s.Data, "", "  "); err != nil {
		return fmt.Errorf("event %s: %w", s.ID, err)
	}
	data.WriteByte('\n')
	fmt.Fprintln(w, "\nEvent:")
	return writeJSON(w, data.Bytes())
}

func stateColour(state string) string {
	switch state {
	case v1.StateDead, v1.StateLost:
		return red
	case v1.StatePending, v1.StateCancelled:
		return yellow
	}
	return ""
}

func printAttempts(w io.Writer, attempts []v1.Attempt, wide bool) error {
	t := table{header: []string{"  ATTEMPT", "START", "TOOK", "CODE", "RESULT"}}
	for _, a := range attempts {
		name := fmt.Sprintf("  %d", a.Number)
		switch {
		case a.Sink:
			name = fmt.Sprintf("  sink %d", a.Number)
		case a.Rerun != "":
			name = fmt.Sprintf("  %s %d", a.Rerun, a.Number)
		}
		result := a.Error
		if result == "" {
			result = "taken"
		}
		if a.Spared {
			result += " (not counted)"
		}
		if len(a.Replies) > 0 {
			result += ", reply " + strings.Join(a.Replies, " ")
		}
		if a.Next != nil {
			result += ", next " + clock(*a.Next)
		}
		t.add(text(name), text(clock(a.Start)), text(took(a.Seconds)), text(codeText(a.Status)), text(result))
		if answer := answerText(a, wide); answer != "" {
			t.add(text(""), text(""), text(""), text(""), text(answer))
		}
	}
	return t.print(w, true)
}

// answerText is what is shown of an answer: its first line, or with -o wide
// all that was kept of it, on one line.
func answerText(a v1.Attempt, wide bool) string {
	switch {
	case a.Error == "" && !wide:
		return ""
	case len(a.AnswerBy) > 0:
		return fmt.Sprintf("%d bytes that are not text; -o json has them", len(a.AnswerBy))
	case wide:
		return a.Answer
	}
	line, rest, _ := strings.Cut(strings.TrimSpace(a.Answer), "\n")
	const most = 100
	if r := []rune(line); len(r) > most {
		line, rest = string(r[:most]), "more"
	}
	if rest != "" {
		line += " ..."
	}
	return line
}

// took is a duration as people say it: 12ms, 3.5s.
func took(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// clock is a moment with its milliseconds, in local time.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }
