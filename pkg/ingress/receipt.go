package ingress

import (
	"net/http"
	"strconv"
	"unsafe"

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

// link is one line of HeaderEvent in one piece of memory: net/http wants a
// slice of strings.
type link struct {
	value [1]string
	text  [160]byte
}

// receipt adds to the headers of a 202 what became of each event. It returns
// how many of them were stored before.
func (h *Handler) receipt(header http.Header, broker string, stored []channel.Stored) (duplicates int) {
	for _, s := range stored {
		if s.Duplicate {
			duplicates++
		}
	}
	switch {
	case duplicates == 0:
	case duplicates == len(stored):
		header[HeaderDuplicate] = trueValue
	default:
		header[HeaderDuplicate] = []string{strconv.Itoa(duplicates) + "/" + strconv.Itoa(len(stored))}
	}
	switch n := min(len(stored), maxLinks); n {
	case 0: // an appender that tells nothing
	case 1:
		l := &link{}
		l.value[0] = asString(h.appendLink(l.text[:0], broker, stored[0].ID))
		header[HeaderEvent] = l.value[:]
	default:
		const digits = 10 + 1 + 20 // of an ID
		b := make([]byte, 0, n*(len(h.eventLink)+len(eventsPath)+digits+len("?broker=")+len(broker)))
		lines := make([]string, n)
		for i := range lines {
			from := len(b)
			b = h.appendLink(b, broker, stored[i].ID)
			lines[i] = asString(b[from:])
		}
		header[HeaderEvent] = lines
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

// asString views bytes that nobody changes any more.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
