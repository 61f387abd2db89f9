package deliver

import (
	"fmt"
	"strconv"

	"github.com/penstock-events/penstock/pkg/event"
)

// compose writes the request: x.head is all that comes first, and what is
// returned comes after it. A small body is part of x.head already.
func (x *exchange) compose() (rest []byte, err error) {
	r := x.request
	mode, body := event.Binary, []byte(nil)
	if r.Format == JSON || r.Format == AsReceived && r.Event.Structured() {
		mode = event.Structured
	}
	b, err := r.Event.AppendHTTP(append(x.head[:0], r.Target.head...), mode, r.Overlay)
	if err == nil && mode == event.Structured {
		x.json, err = r.Event.AppendJSON(x.json[:0], r.Overlay)
		body = x.json
	} else {
		body = r.Event.Data()
	}
	if err != nil {
		return nil, fmt.Errorf("write the event: %w", err)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	if len(body) <= copyBody {
		b, body = append(b, body...), nil
	}
	x.head = b
	return body, nil
}
