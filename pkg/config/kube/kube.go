// Package kube reads Brokers and Triggers from the Kubernetes API, and hands
// out a new config.Snapshot whenever something in them changed. It also holds
// what the data plane and the controller must agree on to the letter: how an
// object of Knative's becomes a config.Object, which identity and version it
// has, and what the controller tells the data plane in an object's status.
//
// It promises that only Brokers of class Penstock and their Triggers are
// looked at; that the data plane resolves nothing and reads neither ConfigMaps
// nor Secrets; that an API server which is away changes nothing; and that
// nothing is removed from storage that was not seen to be gone in a cache that
// is in step with the API server. It does not judge objects (package config
// does) and writes nothing.
//
// The conversions are pure and may be called by any number of goroutines. A
// Source and a Fleet each belong to one goroutine, that of their Run.
package kube

import (
	"log/slog"
	"time"

	"knative.dev/eventing/pkg/client/clientset/versioned"
	"knative.dev/eventing/pkg/client/informers/externalversions"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

const (
	// DefaultGrace is how long the storage of a Broker is kept that is gone.
	DefaultGrace = 10 * time.Minute

	// A change is looked at once nothing has moved for settle, or after maxSettle
	// at the latest.
	settle    = 20 * time.Millisecond
	maxSettle = 100 * time.Millisecond

	// Looking at a change takes at most half of the time: after a look that was
	// long the next waits as long, but not longer than maxPause.
	maxPause = time.Second
)

// Options are what a Source needs. One of Factory and Client must be given.
type Options struct {
	// Factory is where informers come from. It must see all namespaces, since
	// what it does not see counts as gone. Run starts what it takes from it. nil
	// makes one from Client whose caches hold what Strip leaves.
	Factory externalversions.SharedInformerFactory
	Client  versioned.Interface

	// BrokersOnly leaves Triggers out, which may be thousands, but for those that
	// order by key: for a process that takes events and delivers none. It must
	// know where the events of a Broker with such a Trigger have their home.
	BrokersOnly bool

	// Compile is passed on to config.Compile. Generation, Previous and Removed are
	// filled in here.
	Compile config.Options

	// Stored tells what the log of this process holds. It is called once, when
	// the caches are in step for the first time; what it lists and they do not
	// hold is on its way out. nil is a process without storage.
	Stored func() []Stored

	Grace  time.Duration    // 0 is DefaultGrace
	Logger *slog.Logger     // nil is silent
	Now    func() time.Time // wall clock; nil is time.Now
}

// Stored is a Broker that the log of this process holds.
type Stored struct {
	Broker   channel.UID
	Name     string        // namespace/name
	Triggers []channel.UID // that have a lane or a route in it
}

func (o *Options) fill() {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}
