// Package config turns Broker and Trigger objects into what the broker runs
// on: an immutable Snapshot of compiled routes, or for each object that cannot
// run the reason why not. It is shared by every source of objects (files,
// the Kubernetes API) and reads none itself.
//
// It promises that one bad object never harms another, that a filter which
// does not compile never matches, and that the same objects and options give
// the same Snapshot. It does not watch, resolve names over a network, or keep
// identities: the caller passes what it needs in Options.
//
// All functions are pure and may be called from any number of goroutines. A
// Snapshot and all that hangs on it is never changed after Compile returns;
// readers share it without a lock and must not change it either.
package config

import (
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Kinds of channel a Broker can ask for (annotation penstock.dev/channel).
const (
	ChannelDisk      = "disk"
	ChannelMemory    = "memory"
	ChannelJetStream = "jetstream"
)

// Delivery formats (DeliverySpec.format of Knative's duck.knative.dev/v1).
const (
	FormatKeep   = ""       // as the event came in
	FormatBinary = "binary" // attributes as ce- headers
	FormatJSON   = "json"   // structured mode
)

// Reasons why an object is not ready, in the form of Kubernetes conditions.
const (
	ReasonBrokerDoesNotExist    = "BrokerDoesNotExist"        // the Trigger names a Broker nobody declared
	ReasonBrokerNotReady        = "BrokerNotReady"            // the Trigger's Broker exists but is not ready
	ReasonFilterInvalid         = "FilterInvalid"             // the filter does not compile: it matches nothing
	ReasonSubscriberNotResolved = "SubscriberNotResolved"     // no URL is known for subscriber.ref
	ReasonSubscriberInvalid     = "SubscriberInvalid"         // subscriber.uri is missing, relative or malformed
	ReasonDeadLetterNotResolved = "DeadLetterSinkNotResolved" // no URL is known for deadLetterSink, or it is malformed
	ReasonDeliveryInvalid       = "DeliveryInvalid"           // a field of spec.delivery is wrong
	ReasonUnsupportedAnnotation = "UnsupportedAnnotation"     // unknown, not yet supported, or on the wrong kind
	ReasonAnnotationInvalid     = "AnnotationInvalid"         // a supported annotation with a value that does not parse
	ReasonSpecInvalid           = "SpecInvalid"               // a field is unknown, missing or of the wrong type
	ReasonChannelUnavailable    = "ChannelUnavailable"        // this process has no channel of that kind
	ReasonChannelImmutable      = "ChannelImmutable"          // penstock.dev/channel differs from what the Broker was created with
	ReasonRemoved               = "Removed"                   // gone from its source, in its grace
)

// Broker is one Broker as the rest of the program sees it.
type Broker struct {
	UID             channel.UID // for life; a Broker removed past its grace and made again has another
	Namespace, Name string      // DNS-1123 labels, the two segments of the ingress path

	Channel        string        // ChannelDisk, ChannelMemory or ChannelJetStream
	Retention      time.Duration // how long settled events are kept; 0: not at all
	RetentionBytes int64         // how many bytes of settled events are kept; 0: none
	MaxBytes       int64         // bound of all the Broker keeps, in bytes; 0: the channel's own bound
	Delivery       Delivery      // what its Triggers fall back to
	Concurrency    int           // what its Triggers fall back to; 0: the dispatcher's default
	Rate           float64       // events a second that ingress accepts; 0: no limit
	Paused         bool          // what its Triggers fall back to
	Ordered        bool          // what its Triggers fall back to
	Steady         bool          // what its Triggers fall back to

	OrderBySubject bool          // a Trigger wants order by key: events without partitionkey have their subject's home
	DedupWindow    time.Duration // for how long an event that comes again is known; 0: not at all

	Held      bool      // removed from its source: not served, storage kept until HeldUntil
	HeldUntil time.Time // wall clock; zero unless Held

	Ready   bool   // ingress accepts for it
	Reason  string // one of the Reason constants, "" when Ready
	Message string // one line naming place, field and cure, "" when Ready
	Origin  string // where it was declared: file:line, or BuiltIn
	Version string // Object.Version
}

// FullName is namespace/name, the form people and labels use.
func (b *Broker) FullName() string { return b.Namespace + "/" + b.Name }

// Info is what the channel needs to open the Broker's log.
func (b *Broker) Info() channel.BrokerInfo {
	return channel.BrokerInfo{
		UID:            b.UID,
		Name:           b.FullName(),
		Retention:      b.Retention,
		RetentionBytes: b.RetentionBytes,
		MaxBytes:       b.MaxBytes,
		Keying:         b.Keying(),
	}
}

// Trigger is one Trigger as the rest of the program sees it. Two questions
// are answered apart:
//
//   - Are events matched for it? If Filter is not nil, ready or not: what it
//     matches while its subscriber is not known waits for the cure.
//   - Are they delivered? If Ready.
type Trigger struct {
	UID             channel.UID // for life, see Broker.UID; a Trigger that moves to another Broker gets another
	Namespace, Name string
	Broker          string // name of its Broker
	BrokerNamespace string // the Trigger's own, unless its source permits another

	FilterSpec filter.Spec    // as declared
	Filter     *filter.Filter // compiled; nil: never matches

	Subscriber     string         // URL exactly as it is to be used; "" when it is not known
	ScalesFromZero bool           // the subscriber is a Knative Service: its first answers may be 503, or late
	Policy         deliver.Policy // of attempts to Subscriber and to DeadLetterSink
	Format         string         // FormatKeep, FormatBinary or FormatJSON
	DeadLetterSink string         // URL; "" when there is none
	Concurrency    int            // attempts in flight at most; 0: the dispatcher's default
	Rate           float64        // attempts a second at most; 0: no limit
	Paused         bool           // nothing is delivered, everything kept
	Steady         bool           // Concurrency is not adapted to what the subscriber takes

	// Ordered: of the events of one key, none is sent before the one accepted
	// before it is delivered or dead. The key is partitionkey, else subject; events
	// without either have no order.
	Ordered bool
	Start   Start // of a new Trigger; without meaning for one that has been routed before

	Held      bool      // removed from its source: still matched, not delivered, until HeldUntil
	HeldUntil time.Time // wall clock; zero unless Held

	Ready   bool   // events are delivered to it
	Reason  string // one of the Reason constants, "" when Ready
	Message string // one line naming place, field and cure, "" when Ready
	Origin  string // where it was declared: file:line
	Version string // Object.Version
}

// FullName is namespace/name, the form people and labels use.
func (t *Trigger) FullName() string { return t.Namespace + "/" + t.Name }

// BrokerName is namespace/name of the Trigger's Broker, whether it exists or not.
func (t *Trigger) BrokerName() string { return t.BrokerNamespace + "/" + t.Broker }

// Delivery is a Broker's spec.delivery after validation: what a Trigger uses
// that gives no delivery of its own.
type Delivery struct {
	Policy         deliver.Policy
	Format         string // FormatKeep, FormatBinary or FormatJSON
	DeadLetterSink string // URL; "" when there is none

	fault string // why DeadLetterSink has no URL though one was declared
}

// Problem is something a person should look at. It stops nobody else.
type Problem struct {
	Origin  string // file:line, file, or "built in"
	Message string // one line: what, and the cure
}

// String is the form for logs and terminals: origin: message.
func (p Problem) String() string {
	if p.Origin == "" {
		return p.Message
	}
	return p.Origin + ": " + p.Message
}

// Removed is an object whose grace has ended. Its pending events are to be
// cancelled and, for a Broker, its storage removed. Acting on one twice must
// be harmless: it is listed again after a restart.
type Removed struct {
	Kind            string // KindBroker or KindTrigger
	UID             channel.UID
	Namespace, Name string
	Broker          string    // of a Trigger: the name of the Broker it had
	At              time.Time // when the grace ended, wall clock
}
