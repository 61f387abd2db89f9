package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Kinds of object that this package compiles.
const (
	KindBroker  = "Broker"
	KindTrigger = "Trigger"
)

// BuiltIn as an Object's File says that nobody declared it.
const BuiltIn = "built in"

// BrokerClass is the value of ClassAnnotation that makes a Broker ours.
const BrokerClass = "Penstock"

// ClassAnnotation names a Broker's class (Knative specification, control
// plane, Broker). Where it is absent, a source that has no other classes takes
// the Broker as ours.
const ClassAnnotation = "eventing.knative.dev/broker.class"

// Object is one Broker or Trigger as its source declared it, before anything
// in it has been judged but its shape. It encodes to JSON and back, so that a
// source can keep it.
type Object struct {
	Kind        string            `json:"kind"` // KindBroker or KindTrigger
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Broker      *BrokerSpec       `json:"broker,omitempty"`  // of a Broker
	Trigger     *TriggerSpec      `json:"trigger,omitempty"` // of a Trigger

	// UID is the identity that the source keeps for the object.
	UID channel.UID `json:"-"`

	// CreatedChannel is the kind of channel the Broker was created with; "" when
	// it is new. A Broker keeps its channel for life.
	CreatedChannel string `json:"-"`

	// Version is the source's own mark of this declaration, passed on: what is in
	// force is the declaration with the Version that the Snapshot shows.
	Version string `json:"-"`

	// Resolved are the URLs that the source has found for the object's
	// destinations, as a Kubernetes controller writes them into status. nil
	// leaves that to Compile.
	Resolved *Resolved `json:"-"`

	// BrokerNamespace is the namespace of a Trigger's Broker where the source
	// permits another than the Trigger's own; "" is its own.
	BrokerNamespace string `json:"-"`

	// HeldUntil is when the grace of an object ends that is gone from its
	// source; zero for one that is there.
	HeldUntil time.Time `json:"-"`

	// File, Line and Lines say where the object and its fields stand. A source
	// without files puts a name into File.
	File  string      `json:"file,omitempty"`
	Line  int         `json:"line,omitempty"`
	Lines []FieldLine `json:"-"`

	// Faults are what was wrong with the shape. An object with a fault is not ready.
	Faults []Fault `json:"faults,omitempty"`

	// Settings are the data of the ConfigMap that a Broker's spec.config names,
	// nil if it names none or the source has none of that name.
	Settings map[string]string `json:"settings,omitempty"`
}

// Resolved are URLs of destinations; "" is one that is not known, or not declared.
type Resolved struct {
	Subscriber     string
	DeadLetterSink string // the object's own; a Trigger without one falls back to its Broker's
}

// FieldLine is the line on which a field such as spec.delivery.retry stands,
// counted from the object's own: 0 is Object.Line. Objects of the same shape
// may share theirs.
type FieldLine struct {
	Field string
	Line  int
}

// Fault is one thing wrong with an object.
type Fault struct {
	Field  string `json:"field"`  // spec.delivery.backoffDelay; "" for the object itself
	Reason string `json:"reason"` // one of the Reason constants
	Text   string `json:"text"`   // what, and the cure
}

// BrokerSpec is spec of a Broker, eventing.knative.dev/v1.
type BrokerSpec struct {
	Config   *Reference    `json:"config,omitempty"`
	Delivery *DeliverySpec `json:"delivery,omitempty"`
}

// TriggerSpec is spec of a Trigger, eventing.knative.dev/v1.
type TriggerSpec struct {
	Broker     string        `json:"broker,omitempty"`
	BrokerRef  *Reference    `json:"brokerRef,omitempty"`
	Filter     filter.Spec   `json:"filter"` // both filter.attributes and filters
	Subscriber *Destination  `json:"subscriber,omitempty"`
	Delivery   *DeliverySpec `json:"delivery,omitempty"`
}

// Reference is a KReference of Knative's duck.knative.dev/v1.
type Reference struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Group      string `json:"group,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
	Address    string `json:"address,omitempty"`
}

// Destination is where events go: a URI, a reference, or a reference and a
// URI relative to it.
type Destination struct {
	Ref      *Reference `json:"ref,omitempty"`
	URI      string     `json:"uri,omitempty"`
	CACerts  string     `json:"CACerts,omitempty"`
	Audience string     `json:"audience,omitempty"`
}

// DeliverySpec is duck.knative.dev/v1 DeliverySpec as declared. A nil field is
// one not given.
type DeliverySpec struct {
	DeadLetterSink *Destination `json:"deadLetterSink,omitempty"`
	Retry          *int         `json:"retry,omitempty"`
	Timeout        *string      `json:"timeout,omitempty"`
	BackoffPolicy  *string      `json:"backoffPolicy,omitempty"`
	BackoffDelay   *string      `json:"backoffDelay,omitempty"`
	RetryAfterMax  *string      `json:"retryAfterMax,omitempty"`
	Format         *string      `json:"format,omitempty"`
}

// FullName is namespace/name.
func (o *Object) FullName() string { return o.Namespace + "/" + o.Name }

// BrokerName is the name of the Broker that a Trigger declares, "" if it
// declares none. It is part of a Trigger's identity: a Trigger that moves to
// another Broker is another Trigger (Knative makes spec.broker immutable, yet
// lets brokerRef change).
func (o *Object) BrokerName() string {
	switch {
	case o.Trigger == nil:
		return ""
	case o.Trigger.Broker == "" && o.Trigger.BrokerRef != nil:
		return o.Trigger.BrokerRef.Name
	}
	return o.Trigger.Broker
}

// brokerNamespace is where a Trigger's Broker is looked for.
func (o *Object) brokerNamespace() string {
	if o.BrokerNamespace != "" {
		return o.BrokerNamespace
	}
	return o.Namespace
}

// OtherClass reports whether the object is a Broker of another class, and
// which. Such a Broker must be left alone.
func (o *Object) OtherClass() (class string, other bool) {
	class, given := o.Annotations[ClassAnnotation]
	return class, o.Kind == KindBroker && given && class != BrokerClass
}

// Origin is where the object stands: file:line, or as much of it as is known.
func (o *Object) Origin() string { return origin(o.File, o.Line) }

// origin of a field is that of the nearest enclosing field whose line is known.
func (o *Object) origin(field string) string {
	for ; field != ""; field = parent(field) {
		for _, l := range o.Lines {
			if l.Field == field {
				return origin(o.File, o.Line+l.Line)
			}
		}
	}
	return o.Origin()
}

// parent is the field that holds a field: of a.b[0] it is a.b, then a.
// Annotation keys hold dots and are written in brackets: a[x.y/z].
func parent(field string) string {
	if strings.HasSuffix(field, "]") {
		if at := strings.LastIndexByte(field, '['); at > 0 {
			return field[:at]
		}
	}
	if at := strings.LastIndexByte(field, '.'); at > 0 {
		return field[:at]
	}
	return ""
}

func origin(file string, line int) string {
	if line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// CheckName says what is wrong with an object's namespace and name. They are
// segments of the ingress path and labels of metrics, hence names as
// Kubernetes has them (RFC 1123).
func CheckName(namespace, name string) error {
	if !isLabel(namespace) || len(namespace) > 63 {
		return fmt.Errorf("metadata.namespace: %s is not a name: use at most 63 lower-case letters, digits and hyphens", quote(namespace))
	}
	if name == "" {
		return fmt.Errorf("metadata.name: missing: every object needs a name")
	}
	for part := range strings.SplitSeq(name, ".") {
		if !isLabel(part) || len(name) > 63 {
			return fmt.Errorf("metadata.name: %s is not a name: use at most 63 lower-case letters, digits, hyphens and dots", quote(name))
		}
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// quote shows text from outside on one line and bounded.
func quote(s string) string {
	const longest = 100
	if len(s) > longest {
		return fmt.Sprintf("%q...", s[:longest])
	}
	return fmt.Sprintf("%q", s)
}
