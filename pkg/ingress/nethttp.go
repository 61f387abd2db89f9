package ingress

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
)

// ServeHTTP answers one request that net/http has read: whatever is not plain
// HTTP/1.1 comes this way. The answers are those that Server gives.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := h.fronts.Get().(*front)
	defer h.fronts.Put(f)
	defer f.reset()
	f.w, f.r = w, r
	f.request.method, f.request.path, f.request.length, f.request.body = r.Method, r.URL.EscapedPath(), r.ContentLength, f
	for key, values := range r.Header {
		name := strings.ToLower(key)
		for _, v := range values {
			f.request.fields = append(f.request.fields, event.Field{Name: name, Value: v})
		}
	}
	h.serve(r.Context(), &f.request, &f.reply)

	header := w.Header()
	for _, field := range f.reply.fields {
		// net/http writes headers after this returns: they must not share our memory.
		header[field.Name] = append(header[field.Name], strings.Clone(field.Value))
	}
	if f.reply.close {
		header.Set("Connection", "close")
	}
	if f.reply.reason == "" {
		header.Set("Content-Length", "0")
	}
	w.WriteHeader(f.reply.code)
	if f.reply.reason != "" {
		// A sender that is gone does not hear the reason; there is nobody to tell.
		_, _ = io.WriteString(w, f.reply.reason+"\n")
	}
}

// front is one request on its way from net/http, and its source.
type front struct {
	request request
	reply   reply
	w       http.ResponseWriter
	r       *http.Request
}

func (f *front) reset() {
	clear(f.request.fields)
	f.request = request{fields: f.request.fields[:0]}
	f.reply.reset()
	f.w, f.r = nil, nil
}

func (f *front) Whole() ([]byte, bool) { return nil, f.r.ContentLength == 0 }

func (f *front) Read(p []byte) (int, error) { return f.r.Body.Read(p) }

func (f *front) Extend(body, answer time.Duration) {
	// Not every ResponseWriter has deadlines; a server's has.
	control, now := http.NewResponseController(f.w), time.Now()
	_ = control.SetReadDeadline(now.Add(body))
	_ = control.SetWriteDeadline(now.Add(answer))
}
