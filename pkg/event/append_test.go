package event

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// lineBytes is the request of wireBytes, put together from AppendHTTP.
func lineBytes(t testing.TB, e Event, mode Mode, o *Overlay) []byte {
	t.Helper()
	b, err := e.AppendHTTP([]byte("POST / HTTP/1.1\r\nHost: subscriber.example\r\n"), mode, o)
	if err != nil {
		t.Fatalf("AppendHTTP(%v): %v", mode, err)
	}
	body := e.Data()
	if mode == Structured {
		if body, err = e.AppendJSON(nil, o); err != nil {
			t.Fatal(err)
		}
	}
	return append(fmt.Appendf(b, "Content-Length: %d\r\n\r\n", len(body)), body...)
}

// sameOnTheWire compares what a server reads of both ways to write an event.
func sameOnTheWire(t testing.TB, e Event, mode Mode, o *Overlay) {
	t.Helper()
	got, gotBody := receive(t, lineBytes(t, e, mode, o))
	want, wantBody := receive(t, wireBytes(t, e, mode, o))
	// net/http says nothing of an empty body where it may, and the length is the caller's to say.
	got.Del("Content-Length")
	want.Del("Content-Length")
	if !maps.EqualFunc(got, want, slices.Equal) || !bytes.Equal(gotBody, wantBody) {
		t.Errorf("%v: %q %q, WriteHTTP gives %q %q", mode, got, gotBody, want, wantBody)
	}
}

func TestBothWaysToWriteAnEventAgree(t *testing.T) {
	overlays := []*Overlay{nil, {Hide: []string{ExtTTL, "id2", AttrDataContentType}}, {
		Hide: []string{"tenant"},
		Set:  []Attribute{{"reason", Value{Text: "100 % of “it”"}}, {"attempts", Value{Text: "3", Kind: Integer}}, {"tenant", Value{Text: "other"}}},
	}}
	implied := decodeOne(t, jsonMessage(), `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":[1]}`)
	for _, e := range []Event{full(t), implied, decodeOne(t, binaryMessage("Content-Type", "a/b;\tc=\"d e\"", "B3", "1"), "")} {
		for _, o := range overlays {
			for _, mode := range []Mode{Binary, Structured} {
				sameOnTheWire(t, e, mode, o)
			}
		}
	}
}

func TestHeadersThatAreNotAnEventsToSetAreLeftOut(t *testing.T) {
	b := Edit(full(t))
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Authorization", "Prefer", "Content-Type", "Ce-Id", "Ce-Other"} {
		b.SetHeader(name, "chunked")
	}
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{Binary, Structured} {
		got, err := e.AppendHTTP(nil, mode, nil)
		want, wantErr := full(t).AppendHTTP(nil, mode, nil)
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%v, %v\n%s\nwant\n%s", err, wantErr, got, want)
		}
	}
}

// A record may come from elsewhere than a Decoder, with only its lengths checked.
func TestLinesThatWouldNotBeOneLineAreRefused(t *testing.T) {
	for name, change := range map[string]func(b *Builder){
		"a header's value":     func(b *Builder) { b.SetHeader("X-Request-Id", "1\r\nX-Evil: 1") },
		"a header's long name": func(b *Builder) { b.SetHeader("X-Evil: 1\r\nX-Request-Id", "1") },
		"a header's name":      func(b *Builder) { b.SetHeader("X Y", "1") },
		"no name":              func(b *Builder) { b.SetHeader("", "1") },
		"an attribute's name":  func(b *Builder) { b.Set("a:b", "1") },
		"a content type":       func(b *Builder) { b.Set(AttrDataContentType, "text/plain\n") },
	} {
		b := Edit(full(t))
		change(b)
		e, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		before := []byte("before")
		if got, err := e.AppendHTTP(before, Binary, nil); err == nil || string(got) != "before" || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := full(t).AppendHTTP(nil, Batch, nil); err == nil {
		t.Error("one event was written as a batch")
	}
	if _, err := full(t).AppendHTTP(nil, Binary, &Overlay{Set: []Attribute{{"id", Value{Text: "2"}}}}); err == nil {
		t.Error("the id was overlaid")
	}
}

func TestAppendingLinesDoesNotAllocate(t *testing.T) {
	h, body := typicalMessage()
	e, b := decodeOne(t, h, string(body)), make([]byte, 0, 4096)
	o := &Overlay{Hide: []string{ExtTTL}, Set: []Attribute{{"reason", Value{Text: "none at all"}}}}
	for _, mode := range []Mode{Binary, Structured} {
		allocates(t, "AppendHTTP", 0, func() {
			if _, err := e.AppendHTTP(b, mode, o); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func BenchmarkAppendHTTP(b *testing.B) {
	h, body := typicalMessage()
	e, to := decodeOne(b, h, string(body)), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.AppendHTTP(to, Binary, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzAppendHTTP: whatever a record holds, its lines are those that net/http
// writes of WriteHTTP's header, or it is refused and net/http would have refused or changed it too.
func FuzzAppendHTTP(f *testing.F) {
	f.Add("1", "/s", "text/plain", "ext", "v", "X-Request-Id", "r", "ext2", "x", []byte("data"), false)
	f.Add("Euro € 😀", "a\r\nb", "a/b; c=\"d\"", "a:b", "%", "Traceparent", "\x00", "", "", []byte{}, true)
	f.Add("\x7f1234567", "12345678\x80", "application/json", "e", `1234567"`, "B3", "a  b", "ext", "100%", []byte("{}"), true)
	f.Add("", "", "\t", "", "", "Host", "x", "tenant", "", []byte("1"), false)
	f.Fuzz(func(t *testing.T, id, source, contentType, name, value, key, kept, overlay, set string, data []byte, structured bool) {
		var b Builder
		b.Set("id", id).Set("source", source).Set("specversion", "1.0").Set("type", "t").Set(AttrDataContentType, contentType)
		e, err := b.Set(name, value).SetHeader(http.CanonicalHeaderKey(key), kept).SetData(data).Build()
		if err != nil {
			return
		}
		o := &Overlay{Hide: []string{overlay}, Set: []Attribute{{overlay, Value{Text: set}}}}
		if o.check() != nil {
			o.Set = nil
		}
		mode := Binary
		if structured {
			mode = Structured
		}
		lines, err := e.AppendHTTP(nil, mode, o)
		if err != nil {
			h := http.Header{}
			if _, err := e.WriteHTTP(h, mode, o); err != nil {
				return
			}
			for name, values := range h {
				if name == "" || !headerName(name) || !headerValue(values[0]) {
					return
				}
			}
			t.Fatalf("refused without a need: %v", err)
		}
		for line := range bytes.SplitAfterSeq(lines, []byte("\r\n")) {
			if name, value, ok := bytes.Cut(line, []byte(": ")); len(line) > 0 && (!ok || !headerName(string(name)) || !headerValue(string(bytes.TrimSuffix(value, []byte("\r\n"))))) {
				t.Fatalf("%q is not a header line", line)
			}
		}
		if canonical := http.CanonicalHeaderKey(key); framing(canonical) || canonical != key && strings.ContainsAny(key, " _") || name != strings.ToLower(name) {
			return // WriteHTTP leaves these to its caller
		}
		sameOnTheWire(t, e, mode, o)
	})
}
