package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/event"
)

// offline explains by YAML files as `penstock serve -f` would read them. What
// is wrong in the files goes to standard error: a Trigger that is missing from
// the answer is to be found there.
func offline(cmd *cobra.Command, paths []string, namespace, name string) (explainer, error) {
	source := file.New(file.Options{Paths: paths, Compile: config.Options{
		IngressURL: defaultIngress,
		Channels:   []string{config.ChannelDisk, config.ChannelMemory, config.ChannelJetStream},
		// Where references lead does not matter to filters, and only serve is told.
		Resolve: func(ref config.Reference) (string, error) {
			return "ref://" + strings.ToLower(ref.Kind) + "/" + ref.Namespace + "/" + ref.Name, nil
		},
	}})
	snapshot, err := source.Load()
	if err != nil {
		return nil, err
	}
	for _, p := range snapshot.Problems() {
		fmt.Fprintln(cmd.ErrOrStderr(), clean(p.String()))
	}
	b, ok := snapshot.Broker(namespace, name)
	if !ok {
		return nil, fmt.Errorf("no Broker %s/%s in %s", namespace, name, strings.Join(paths, ", "))
	}
	return func(_ context.Context, e event.Event) (v1.Explanation, error) {
		return api.Explain(b, snapshot.TriggersOf(namespace, name), []event.Event{e}), nil
	}, nil
}
