package file

import "github.com/penstock-events/penstock/pkg/config"

// Remember keeps in a data folder the identities of what a Snapshot of another
// source holds, so that a backup of the folder is whole, and that a `penstock
// serve` over it knows whose the events are: Triggers as they are in force,
// with the URLs that were found for them. It returns when the file is durable.
// The folder must not be one that a Source keeps identities in.
func Remember(dir string, snapshot *config.Snapshot) error {
	s := &store{dir: dir}
	for _, b := range snapshot.Brokers() {
		s.state.Identities = append(s.state.Identities, broker(b))
	}
	for _, b := range snapshot.HeldBrokers() {
		s.state.Identities = append(s.state.Identities, broker(b))
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

func broker(b *config.Broker) *identity {
	return &identity{UID: b.UID, Channel: b.Channel, Object: &config.Object{
		Kind: config.KindBroker, Namespace: b.Namespace, Name: b.Name, Broker: &config.BrokerSpec{},
	}}
}
