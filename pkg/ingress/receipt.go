package ingress

import (
	"strconv"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Headers of a 202.
const (
	// HeaderEvent is where to read what became of an event: one line for each
	// event of the request in its order, for the first maxLinks of a batch.
	HeaderEvent = "Penstock-Event"

	// HeaderDuplicate is "true" where every event of the request was stored
	// before, and "K/N" where K of N were. It is absent where none was.
	HeaderDuplicate = "Penstock-Duplicate"
)

// maxLinks bounds the links of a batch: a thousand of them would be more than
// many clients take as headers.
const maxLinks = 16

// eventsPath is where the API has events (docs/openapi.yaml).
const eventsPath = "/api/v1/events/"

// receipt adds to a 202 what became of each event. It returns how many of them
// were stored before.
func (h *Handler) receipt(a *reply, broker string, stored []channel.Stored) (duplicates int) {
	for _, s := range stored {
		if s.Duplicate {
			duplicates++
		}
	}
	switch {
	case duplicates == 0:
	case duplicates == len(stored):
		a.set(HeaderDuplicate, "true")
	default:
		a.set(HeaderDuplicate, strconv.Itoa(duplicates)+"/"+strconv.Itoa(len(stored)))
	}
	for _, s := range stored[:min(len(stored), maxLinks)] { // an appender that tells nothing returns none
		from := len(a.text)
		a.text = h.appendLink(a.text, broker, s.ID)
		a.set(HeaderEvent, asString(a.text[from:]))
	}
	return duplicates
}

// appendLink writes the URL of an event. A broker's name needs no escapes.
func (h *Handler) appendLink(b []byte, broker string, id channel.ID) []byte {
	b = append(b, h.eventLink...)
	b = append(b, eventsPath...)
	b = strconv.AppendUint(b, uint64(id.Shard), 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(id.Position), 10)
	b = append(b, "?broker="...)
	return append(b, broker...)
}
