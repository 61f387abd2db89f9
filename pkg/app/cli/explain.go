package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/event"
)

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say which Triggers an event would go to, and why not to the others",
		Long: `Say for each Trigger of a Broker whether its filter matches an event, or which
clause is the first that does not, with what it wants and what the event has.
Nothing is stored or sent.

The event is described by flags as in 'penstock send', or read with -f. With
--config the Triggers are those of YAML files, and no broker need run.`,
		Example: `  penstock explain --type order.created -e region=eu
  penstock explain --broker shop/orders -f event.json
  penstock explain -c triggers.yaml --type order.created`,
		Args: cobra.NoArgs,
	}
	var f eventFlags
	f.bind(cmd)
	addOutput(cmd, formatTable, formatJSON)
	broker := cmd.Flags().StringP("broker", "b", "default/default", "the Broker, as NAMESPACE/NAME or NAME")
	paths := cmd.Flags().StringArrayP("config", "c", nil, "explain by this file or folder of YAML instead of a running broker; repeatable")
	completeFlag(cmd, "broker", completeBrokers)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		format, err := outputFormat(cmd, formatTable, formatJSON)
		if err != nil {
			return err
		}
		if err := f.check(cmd); err != nil {
			return err
		}
		full, err := qualify("--broker", *broker, "")
		if err != nil {
			return err
		}
		namespace, name, _ := strings.Cut(full, "/")
		ask, err := online(cmd, namespace, name)
		if len(*paths) > 0 {
			ask, err = offline(cmd, *paths, namespace, name)
		}
		if err != nil {
			return err
		}
		events, err := f.all(cmd)
		if err != nil {
			return err
		}
		return runExplain(cmd, format, full, events, ask)
	}
	return cmd
}

// explainer asks about one event.
type explainer func(context.Context, event.Event) (v1.Explanation, error)

// online asks a running broker.
func online(cmd *cobra.Command, namespace, name string) (explainer, error) {
	c, err := apiClient(cmd)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e event.Event) (v1.Explanation, error) {
		header := make(http.Header)
		body, err := e.WriteHTTP(header, event.Binary, nil)
		if err != nil {
			return v1.Explanation{}, err
		}
		return c.Explain(ctx, namespace, name, header, body)
	}, nil
}

// all reads every event that the flags give.
func (f *eventFlags) all(cmd *cobra.Command) ([]event.Event, error) {
	if f.file == "" {
		b, err := f.build(cmd)
		if err != nil {
			return nil, err
		}
		e, err := b.Build()
		return []event.Event{e}, err
	}
	in, err := openInput(cmd, f.file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	const most = 1000
	var events []event.Event
	for e, err := range readEvents(in) {
		if err == nil {
			e, err = f.override(cmd, e)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.file, err)
		}
		if events = append(events, e); len(events) > most {
			return nil, fmt.Errorf("%s: more than %d events to explain", f.file, most)
		}
	}
	if len(events) == 0 {
		return nil, fmt.Errorf("%s: %w", f.file, errors.New("no event in it"))
	}
	return events, nil
}

func runExplain(cmd *cobra.Command, format, broker string, events []event.Event, ask explainer) error {
	whole := v1.Explanation{Broker: broker, Events: []v1.EventExplained{}}
	for _, e := range events {
		x, err := ask(cmd.Context(), e)
		if err != nil {
			return err
		}
		whole.Events = append(whole.Events, x.Events...)
	}
	out := cmd.OutOrStdout()
	if format == formatJSON {
		return printJSON(out, whole)
	}
	for i, x := range whole.Events {
		if len(whole.Events) > 1 {
			if i > 0 {
				fmt.Fprintln(out)
			}
			fmt.Fprintf(out, "event %s:\n", clean(x.EventID))
		}
		if len(x.Triggers) == 0 {
			fmt.Fprintf(out, "Broker %s has no Triggers: the event would go nowhere.\n", clean(broker))
			continue
		}
		t := table{header: []string{"TRIGGER", "MATCHES", "WHY"}}
		for _, tr := range x.Triggers {
			matches := cell{text: "no"}
			switch {
			case tr.Matched && tr.Ready:
				matches.text = "yes"
			case tr.Matched:
				matches = cell{text: "yes", colour: yellow}
			case !tr.Ready:
				matches.colour = red
			}
			t.add(text(tr.Trigger), matches, text(tr.Text))
		}
		if err := t.print(out, true); err != nil {
			return err
		}
	}
	return nil
}
