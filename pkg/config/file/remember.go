package file

import (
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// Remember keeps in a data folder the identities of what a Snapshot of another
// source holds, so that a backup of the folder is whole, and that a `penstock
// serve` over it knows whose the events are: Triggers as they are in force,
// with the URLs that were found for them. stored are the Brokers in the
// folder's log: those that the Snapshot does not name are on their way out and
// are remembered too, by name, or as gone where another has their name. It
// returns when the file is durable. The folder must not be one that a Source
// keeps identities in.
func Remember(dir string, snapshot *config.Snapshot, stored []channel.BrokerInfo) error {
	s := &store{dir: dir}
	known, names := make(map[channel.UID]bool), make(map[string]bool)
	keep := func(id *identity) {
		known[id.UID], names[id.Object.FullName()] = true, true
		s.state.Identities = append(s.state.Identities, id)
	}
	for _, b := range snapshot.Brokers() {
		keep(broker(b.UID, b.Namespace, b.Name, b.Channel))
	}
	for _, b := range snapshot.HeldBrokers() {
		if !names[b.FullName()] {
			keep(broker(b.UID, b.Namespace, b.Name, b.Channel))
		}
	}
	for _, info := range stored {
		namespace, name, _ := strings.Cut(info.Name, "/")
		switch {
		case known[info.UID]:
		case names[info.Name]:
			s.state.Removed = append(s.state.Removed, config.Removed{Kind: config.KindBroker, UID: info.UID, Namespace: namespace, Name: name, At: time.Now().UTC()})
		default:
			keep(broker(info.UID, namespace, name, ""))
		}
	}
	for _, t := range snapshot.Triggers() {
		if t.BrokerNamespace != t.Namespace {
			continue // there is no such thing without a cluster
		}
		o := &config.Object{Kind: config.KindTrigger, Namespace: t.Namespace, Name: t.Name, Trigger: &config.TriggerSpec{Broker: t.Broker, Filter: t.FilterSpec}}
		if t.Subscriber != "" {
			o.Trigger.Subscriber = &config.Destination{URI: t.Subscriber}
		}
		s.state.Identities = append(s.state.Identities, &identity{UID: t.UID, Object: o})
	}
	return s.save()
}

func broker(uid channel.UID, namespace, name, kind string) *identity {
	return &identity{UID: uid, Channel: kind, Object: &config.Object{
		Kind: config.KindBroker, Namespace: namespace, Name: name, Broker: &config.BrokerSpec{},
	}}
}
