package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Thousands of Triggers that are made one by one before the first event leave
// one table behind, and not one for each change.
func TestTablesOfAQuietBrokerDoNotPileUp(t *testing.T) {
	log := memory.New(memory.Options{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- log.Run(ctx) }()
	d := New(Options{
		Sender: deliver.New(deliver.Options{}), Metrics: telemetry.New(nil), Logger: slog.New(slog.DiscardHandler),
		Logs: map[string]channel.Log{config.ChannelMemory: log},
	})
	dispatching, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(dispatching) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	objects := []*config.Object{{Kind: config.KindBroker, Namespace: "default", Name: "default", UID: "b", Broker: &config.BrokerSpec{}}}
	var snapshot *config.Snapshot
	for i := range 100 {
		name := fmt.Sprintf("t%03d", i)
		objects = append(objects, &config.Object{
			Kind: config.KindTrigger, Namespace: "default", Name: name, UID: channel.UID(name),
			Trigger: &config.TriggerSpec{Broker: "default", Filter: filter.Spec{Attributes: map[string]string{"type": name}}, Subscriber: &config.Destination{URI: "http://" + name}},
		})
		snapshot = config.Compile(objects, config.Options{DefaultChannel: config.ChannelMemory, Previous: snapshot})
		if err := d.Apply(t.Context(), snapshot); err != nil {
			t.Fatal(err)
		}
	}
	if n := len((*d.brokers.Load())["b"].tables); n != 1 {
		t.Errorf("%d tables are held after 100 changes without an event, want 1", n)
	}
}
