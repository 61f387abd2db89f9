package deliver

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/penstock-events/penstock/pkg/event"
)

// scratch is the memory for one request's header block.
type scratch struct {
	header http.Header
	head   []byte
}

var scratches = sync.Pool{New: func() any { return &scratch{header: make(http.Header, 16)} }}

func (s *scratch) free() {
	const keep = 64 << 10
	if cap(s.head) <= keep && len(s.header) <= 256 {
		clear(s.header)
		scratches.Put(s)
	}
}

// write composes the request: s.head is all that comes first, and what is
// returned comes after it. A small body is part of s.head already.
func (s *scratch) write(r *Request) (rest []byte, err error) {
	mode := event.Binary
	if r.Format == JSON || r.Format == AsReceived && r.Event.Structured() {
		mode = event.Structured
	}
	body, err := r.Event.WriteHTTP(s.header, mode, r.Overlay)
	if err != nil {
		return nil, fmt.Errorf("write the event: %w", err)
	}
	b := append(s.head[:0], r.Target.head...)
	for name, values := range s.header {
		if framing(name) {
			continue
		}
		for _, value := range values {
			if !validHeaderName(name) || !validHeaderValue(value) {
				return nil, fmt.Errorf("write the event: header %q cannot be sent", clip(name))
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	if len(body) <= copyBody {
		b, body = append(b, body...), nil
	}
	s.head = b
	return body, nil
}

// framing names the headers that decide where a request begins, ends and goes,
// or who sent it: never an event's to set, whatever it carries.
func framing(name string) bool {
	switch name {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "Te", "Trailer",
		"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Authorization", "Cookie",
		"User-Agent", "Prefer", "Kn-Namespace":
		return true
	}
	return false
}

// validHeaderName accepts a token (RFC 9110, 5.6.2).
func validHeaderName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return name != ""
}
