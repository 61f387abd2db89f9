package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

var update = flag.Bool("update", false, "rewrite testdata")

// full is an event with one of everything.
func full(t testing.TB) Event {
	return decodeOne(t, http.Header{"Content-Type": {ContentTypeJSON}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
		`{"specversion":"1.0","id":"A 1","source":"https://shop.example/orders?x=1","type":"order.placed","subject":"Euro € 😀 \"100%\"",`+
			`"time":"2026-01-31T09:30:00.10Z","datacontenttype":"application/json; charset=utf-8","dataschema":"urn:x","knativebrokerttl":254,"tenant":"blue","test":false,`+
			`"data":{"b": 1.50,  "a":["<\u0041>"]}}`)
}

// The bytes on the wire, as net/http sends them, for people to look at and for
// no change to alter unseen.
func TestWireBytes(t *testing.T) {
	overlay := &Overlay{Hide: []string{ExtTTL, "absent"}, Set: []Attribute{
		{"knativeerrordest", Value{Text: "http://orders.example/a b"}},
		{"knativeerrorcode", Value{Text: "503", Kind: Integer}},
		{"tenant", Value{Text: "green"}},
	}}
	text := decodeOne(t, binaryMessage("Content-Type", "text/xml"), "<a b=\"é\">\n\t\x01</a>\\ ")
	bytes := decodeOne(t, binaryMessage("Content-Type", "application/octet-stream"), "\x00\xff")
	bytes03 := decodeOne(t, binaryMessage("Ce-Specversion", "0.3"), "\x00\xff")
	none := decodeOne(t, binaryMessage(), "")
	for _, c := range []struct {
		name    string
		e       Event
		mode    Mode
		overlay *Overlay
	}{
		{"full-binary", full(t), Binary, nil},
		{"full-structured", full(t), Structured, nil},
		{"overlay-binary", full(t), Binary, overlay},
		{"overlay-structured", full(t), Structured, overlay},
		{"text-structured", text, Structured, nil},
		{"bytes-structured", bytes, Structured, nil},
		{"bytes-03-structured", bytes03, Structured, nil},
		{"none-binary", none, Binary, nil},
		{"none-structured", none, Structured, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := wireBytes(t, c.e, c.mode, c.overlay)
			path := filepath.Join("testdata", "wire", c.name+".http")
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s differs (-update rewrites it):\n%s", path, got)
			}
		})
	}
}

// The stored form is on people's disks: a change of it needs a new version.
func TestStoredBytes(t *testing.T) {
	e := decodeOne(t, http.Header{"Content-Type": {ContentTypeJSON}, "X-Request-Id": {"r"}},
		`{"type":"t","source":"/s","id":"1","specversion":"1.0","n":7,"b":true,"a":"x","data":{}}`)
	// Version 1; flags structured, data, JSON data; 8 entries; data at 0x6c.
	want := "\x01\x0b\x08\x00\x6c\x00\x00\x00" +
		"\x00\x02\x01\x00\x00\x00id1" + "\x00\x06\x02\x00\x00\x00source/s" + "\x00\x0b\x03\x00\x00\x00specversion1.0" + "\x00\x04\x01\x00\x00\x00typet" +
		"\x00\x01\x01\x00\x00\x00ax" + "\x02\x01\x04\x00\x00\x00btrue" + "\x01\x01\x01\x00\x00\x00n7" + "\x03\x0c\x01\x00\x00\x00X-Request-Idr" + "{}"
	if got := string(e.Raw()); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// payloads are the bytes that tend to change on the way through JSON.
var payloads = []string{
	"", "null", "true", "1e400", "-0", "1.0", `"text"`, `{}`, `{"a": 1,  "b":[ ]}`, ` {"a":1}`, "{\"a\":1}\n", `{"a":1,"a":2}`, `{"a":1`,
	`"\ud800"`, `"\u0041"`, "\"\xff\"", "\"<>&\u2028\"", "text", "text\r\n", "\ufeff{}", "\x00", "\xff\xfe", "caf\xe9", "\ufffd", "\ufffe", "é", "AAH/", "=",
	strings.Repeat("[", 63) + strings.Repeat("]", 63), strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 2000),
}

// Hash in, hash out, whatever the payload, the content type, and the modes an
// event goes through.
func TestPayloadSurvivesEveryChangeOfMode(t *testing.T) {
	for _, version := range []string{"1.0", "0.3"} {
		for _, encoding := range []string{"", "base64"} {
			for _, contentType := range []string{"", "application/json", "application/vnd.x+json; v=1", "text/plain", "application/octet-stream", "banana;;;"} {
				for _, payload := range payloads {
					want := sha256.Sum256([]byte(payload))
					e := decodeOne(t, binaryMessage("Ce-Specversion", version, "Ce-Datacontentencoding", encoding, "Content-Type", contentType), payload)
					for i, mode := range []Mode{Structured, Structured, Binary, Structured, Binary, Binary} {
						h, body := send(t, e, mode, nil)
						e = decodeOne(t, h, string(body))
						if got := sha256.Sum256(e.Data()); got != want {
							t.Fatalf("%s %q, hop %d (%v): %q became %q", version, contentType, i, mode, payload, e.Data())
						}
					}
					if e.SpecVersion() != version {
						t.Errorf("version %s became %s", version, e.SpecVersion())
					}
				}
			}
		}
	}
}

// An event that came as JSON and leaves as JSON says the same, kinds included.
func TestStructuredDeliveryGivesBackWhatCame(t *testing.T) {
	e := full(t)
	h, body := send(t, e, Structured, nil)
	sameEvent(t, "structured", decodeOne(t, h, string(body)), e, true)
	h, body = send(t, e, Binary, nil)
	sameEvent(t, "binary", decodeOne(t, h, string(body)), e, false)
}

// What came as base64 leaves as base64, even where a string or a JSON value
// could hold it: receivers of one source see one form.
func TestBase64StaysBase64(t *testing.T) {
	for _, contentType := range []string{"application/json", "text/plain"} {
		member := `"data_base64":"e30="`
		e := decodeOne(t, jsonMessage(), `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"`+contentType+`",`+member+`}`)
		b, err := e.AppendJSON(nil, nil)
		if err != nil || string(e.Data()) != "{}" || !strings.Contains(string(b), member) {
			t.Errorf("%s, %v; want %s in it", b, err, member)
		}
	}
}

// JSON without a datacontenttype is application/json by the JSON format;
// binary mode has to say so, or the receiver cannot know.
func TestImpliedContentTypeIsSpelledOutInBinaryMode(t *testing.T) {
	e := decodeOne(t, jsonMessage(), `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":[1]}`)
	h := http.Header{}
	if _, err := e.WriteHTTP(h, Binary, nil); err != nil || h.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q, %v", h.Get("Content-Type"), err)
	}
	h = http.Header{"Content-Type": {"left/over"}}
	e = decodeOne(t, binaryMessage(), "[1]")
	if _, err := e.WriteHTTP(h, Binary, nil); err != nil || h["Content-Type"] != nil {
		t.Errorf("an event without datacontenttype left as %q, %v", h["Content-Type"], err)
	}
}

func TestBinaryBodyIsTheEventsOwnMemory(t *testing.T) {
	e := decodeOne(t, binaryMessage(), "payload")
	body, err := e.WriteHTTP(http.Header{}, Binary, nil)
	if err != nil || unsafe.SliceData(body) != unsafe.SliceData(e.Data()) {
		t.Errorf("the body was copied (%v)", err)
	}
}

func TestHeadersOfOneEventDoNotGrowIntoEachOther(t *testing.T) {
	h := http.Header{}
	if _, err := full(t).WriteHTTP(h, Binary, nil); err != nil {
		t.Fatal(err)
	}
	before := h.Clone()
	h.Add("Ce-Id", "more")
	delete(h, "Ce-Id")
	delete(before, "Ce-Id")
	for name := range before {
		if len(h[name]) != 1 || h[name][0] != before[name][0] {
			t.Errorf("%s: %q, want %q", name, h[name], before[name])
		}
	}
}

func TestOverlayThatWouldMakeABadMessageIsRefused(t *testing.T) {
	for _, c := range []struct {
		set  []Attribute
		want string
	}{
		{[]Attribute{{"id", Value{Text: "2"}}}, "overlay: id: only extensions can be set"},
		{[]Attribute{{"datacontentencoding", Value{Text: "base64"}}}, "overlay: datacontentencoding: only extensions can be set"},
		{[]Attribute{{"data", Value{Text: "2"}}}, "overlay: data: not a name for an attribute; data is the payload"},
		{[]Attribute{{"a\r\nb", Value{Text: "2"}}}, `overlay: "a\r\nb": not an attribute name; only a-z and 0-9 may stand in one`},
		{[]Attribute{{"a", Value{Text: "1\r\n2"}}}, `overlay: a: "1\r\n2" holds a control character`},
		{[]Attribute{{"a", Value{Text: "1,", Kind: Integer}}}, `overlay: a: "1," is not an integer from -2147483648 to 2147483647`},
		{[]Attribute{{"a", Value{Text: "yes", Kind: Boolean}}}, `overlay: a: "yes" is not true or false`},
		{[]Attribute{{"a", Value{Text: "1"}}, {"a", Value{Text: "2"}}}, "overlay: a: set twice"},
	} {
		for _, mode := range []Mode{Binary, Structured} {
			h := http.Header{}
			body, err := full(t).WriteHTTP(h, mode, &Overlay{Set: c.set})
			if err == nil || err.Error() != c.want || body != nil || len(h) != 0 {
				t.Errorf("%v: %v, want %s; headers %v", mode, err, c.want, h)
			}
		}
	}
	if _, err := full(t).WriteHTTP(http.Header{}, Batch, nil); err == nil {
		t.Error("one event was written as a batch")
	}
}

// Data replaced by Edit is judged anew: that the old data was a JSON value says
// nothing about the new.
func TestEditedDataIsNotTakenForJSON(t *testing.T) {
	e, err := Edit(full(t)).SetData([]byte(`}, "injected": {`)).Build()
	if err != nil {
		t.Fatal(err)
	}
	h, body := send(t, e, Structured, nil)
	sameEvent(t, "structured", decodeOne(t, h, string(body)), e, true)
}

func TestEventsMarshalAndUnmarshal(t *testing.T) {
	e := full(t)
	b, err := json.Marshal(map[string]any{"event": e, "none": Event{}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Event Event }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if got.Event.ID() != e.ID() || string(got.Event.Data()) != `{"b":1.50,"a":["\u003c\u0041\u003e"]}` || !bytes.Contains(b, []byte(`"none":null`)) {
		t.Errorf("%s", b)
	}
	if err := json.Unmarshal([]byte(`{"event":{"id":"1"}}`), &got); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("half an event: %v", err)
	}
	if got.Event.ID() != e.ID() {
		t.Error("a failed decoding changed the event")
	}
}

// Attributes in any order give the same stored bytes.
func TestEqualMessagesAreStoredAlike(t *testing.T) {
	h := binaryMessage("Traceparent", "x", "X-Request-Id", "y")
	for i := range 20 {
		h.Set("Ce-X"+strconv.Itoa(i), "v")
	}
	first := decodeOne(t, h, "data")
	for range 20 {
		if again := decodeOne(t, h, "data"); !bytes.Equal(again.Raw(), first.Raw()) {
			t.Fatalf("%q\n%q", first.Raw(), again.Raw())
		}
	}
	again, err := Edit(first).Build()
	if err != nil || !bytes.Equal(again.Raw(), first.Raw()) {
		t.Errorf("an edit of nothing changed the bytes (%v)", err)
	}
}
