package kube

import (
	"context"
	"log/slog"

	"k8s.io/client-go/kubernetes"
)

// FleetOptions name the pods to follow. All but Logger are needed.
type FleetOptions struct {
	Client      kubernetes.Interface
	Namespace   string
	Service     string // headless, of the StatefulSet's pods
	Port        string // name of a port of the Service
	StatefulSet string
	Logger      *slog.Logger // nil is silent
}

// Members are the pods of a StatefulSet as its Service shows them.
type Members struct {
	Declared int   // replicas that the StatefulSet asks for
	Pods     []Pod // by ordinal, then name
}

// Pod is one of them.
type Pod struct {
	Name    string
	Ordinal int    // what its name ends with
	Address string // host:port

	Ready       bool // passes its readiness probe and does not stop
	Serving     bool // passes its readiness probe, also while it stops
	Terminating bool
}

// Fleet follows the pods of one StatefulSet: who there is to be, who serves and
// where. It needs to list and watch EndpointSlices with the label
// kubernetes.io/service-name, and the StatefulSet with its name, both in the
// one namespace.
type Fleet struct {
	o FleetOptions
}

// NewFleet makes a Fleet. It asks nobody yet.
func NewFleet(o FleetOptions) *Fleet { return &Fleet{o: o} }

// Run calls changed with the members whenever they are others than before, from
// its own goroutine and never twice at once, for the first time when both
// caches have come into step. While the API server is away the last ones stay.
// It returns nil when ctx ends, after all it started has ended.
func (f *Fleet) Run(ctx context.Context, changed func(Members)) error { panic("not yet") }
