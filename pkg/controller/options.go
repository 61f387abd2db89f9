package controller

import "k8s.io/client-go/discovery"

// Options are what the controllers of Brokers and Triggers are made with. All
// but Groups are needed.
type Options struct {
	Ingress, Dispatcher Plane
	News                *News // of both
	Flags               *Flags
	Judge               *Judge
	Groups              discovery.ServerGroupsInterface // see NewResolver

	IngressService    string // where events are posted, in SystemNamespace
	SystemNamespace   string
	EventingNamespace string // Knative's own
}
