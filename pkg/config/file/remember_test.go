package file

import (
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// What a cluster declared can be served without it: the volume of a dispatcher
// knows whose its events are.
func TestADataFolderOfAClusterIsKnownToAProcessWithoutOne(t *testing.T) {
	dir := t.TempDir()
	snapshot := config.Compile([]*config.Object{
		{Kind: config.KindBroker, Namespace: "shop", Name: "default", UID: "b1", Broker: &config.BrokerSpec{}},
		{Kind: config.KindTrigger, Namespace: "shop", Name: "ship", UID: "t1", Resolved: &config.Resolved{Subscriber: "http://orders.shop/"},
			Trigger: &config.TriggerSpec{Broker: "default", Subscriber: &config.Destination{Ref: &config.Reference{Kind: "Service", Name: "orders"}}}},
	}, config.Options{})
	if err := Remember(dir, snapshot, []channel.BrokerInfo{{UID: "b1", Name: "shop/default"}, {UID: "b0", Name: "shop/default"}, {UID: "b9", Name: "shop/gone"}}); err != nil {
		t.Fatal(err)
	}
	first, err := ReadIdentities(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := ParseIdentities(first); err != nil || !ids.Brokers["b1"] || !ids.Brokers["b9"] || ids.Brokers["b0"] || !ids.Removed["b0"] {
		t.Fatalf("%+v, %v", ids, err)
	}

	// Nobody declares them there: they are in their grace, matched and known.
	loaded, err := New(Options{Dir: dir}).Load()
	if err != nil {
		t.Fatal(err)
	}
	held := loaded.HeldBrokers()
	if len(held) != 2 || held[0].UID != "b1" || held[1].UID != "b9" || len(loaded.TriggersOf("shop", "default")) != 1 || loaded.TriggersOf("shop", "default")[0].UID != "t1" {
		t.Errorf("brokers %v, triggers %v", held, loaded.Triggers())
	}
}
