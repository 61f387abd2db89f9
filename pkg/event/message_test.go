package event

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"testing"
)

// binaryMessage is the smallest message in binary mode, with headers changed
// as told: pairs of name and value, an empty value takes the header away.
func binaryMessage(pairs ...string) http.Header {
	h := http.Header{
		"Ce-Id":          {"1"},
		"Ce-Source":      {"/shop"},
		"Ce-Specversion": {"1.0"},
		"Ce-Type":        {"order.placed"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if h.Del(pairs[i]); pairs[i+1] != "" {
			h.Set(pairs[i], pairs[i+1])
		}
	}
	return h
}

func jsonMessage() http.Header  { return http.Header{"Content-Type": {ContentTypeJSON}} }
func batchMessage() http.Header { return http.Header{"Content-Type": {ContentTypeBatch}} }

// decodeOne decodes a message that holds one event.
func decodeOne(t testing.TB, h http.Header, body string) Event {
	t.Helper()
	events, _, err := new(Decoder).Decode(h, []byte(body))
	if err != nil {
		t.Fatalf("Decode(%v, %q): %v", h, body, err)
	}
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	return events[0]
}

// send writes the event into a real HTTP request, puts it through the bytes of
// the wire, and returns what a server is handed.
func send(t testing.TB, e Event, mode Mode, o *Overlay) (http.Header, []byte) {
	t.Helper()
	wire := wireBytes(t, e, mode, o)
	return receive(t, wire)
}

func receive(t testing.TB, wire []byte) (http.Header, []byte) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		t.Fatalf("%q: %v", wire, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header, body
}

// wireBytes is the request as net/http writes it.
func wireBytes(t testing.TB, e Event, mode Mode, o *Overlay) []byte {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://subscriber.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := e.WriteHTTP(r.Header, mode, o)
	if err != nil {
		t.Fatalf("WriteHTTP(%v): %v", mode, err)
	}
	r.Header["User-Agent"] = nil
	r.Body, r.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	return wire.Bytes()
}

// attributesOf collects an event's attributes.
func attributesOf(e Event) map[string]Value { return maps.Collect(e.Attributes()) }

// textsOf collects them without their kinds.
func textsOf(e Event) map[string]string {
	m := map[string]string{}
	for name, v := range e.Attributes() {
		m[name] = v.Text
	}
	return m
}

// sameEvent compares all that a receiver can see, kinds of attributes aside
// where kinds is false: binary mode does not carry them.
func sameEvent(t testing.TB, what string, got, want Event, kinds bool) {
	t.Helper()
	if kinds && !maps.Equal(attributesOf(got), attributesOf(want)) {
		t.Errorf("%s: attributes %v, want %v", what, attributesOf(got), attributesOf(want))
	}
	if !maps.Equal(textsOf(got), textsOf(want)) {
		t.Errorf("%s: attributes %q, want %q", what, textsOf(got), textsOf(want))
	}
	if g, w := maps.Collect(got.Headers()), maps.Collect(want.Headers()); !maps.Equal(g, w) {
		t.Errorf("%s: headers %q, want %q", what, g, w)
	}
	if !bytes.Equal(got.Data(), want.Data()) {
		t.Errorf("%s: data %q, want %q", what, got.Data(), want.Data())
	}
}
