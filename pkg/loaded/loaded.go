// Package loaded tells a controller which declarations the processes of the
// data plane have in force. A Board stands in each process and shows it; a
// Watcher in the controller reads the Boards of all pods, each by one
// long-lived stream, and knows of every declaration which pods lack it.
//
// It promises that a Board never shows a version before it was published, that
// a Watcher never takes a pod for having what it was not shown on the stream
// that stands now, and that neither grows with a slow or hostile other side.
// It does not decide what is ready: a stream that breaks says nothing about
// what the pod has in force.
//
// Boards also carry which types of events pass, while somebody asks.
package loaded

import (
	"errors"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Path is where a Board is read, version 1. With ?types=true the stream tells
// of event types too.
const Path = "/internal/v1/loaded"

// ErrForbidden is what BoardOptions.Authorize wraps where it knows who asks and
// does not let them: 403.
var ErrForbidden = errors.New("not allowed to read what is loaded")

// Type is a type of event that passed a Broker. It is comparable.
type Type struct {
	Broker      channel.UID `json:"broker"`
	Trigger     channel.UID `json:"trigger,omitempty"` // whose subscriber replied with it; "" for one that came in
	Type        string      `json:"type"`
	Source      string      `json:"source"`
	Schema      string      `json:"schema,omitempty"` // dataschema
	SpecVersion string      `json:"specversion"`
}
