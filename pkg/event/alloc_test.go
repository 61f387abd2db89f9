package event

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/race"
)

func typicalMessage() (http.Header, []byte) {
	return binaryMessage("Ce-Time", "2026-01-31T09:30:00Z", "Ce-Subject", "orders/17", "Ce-Source", "https://shop.example/orders",
		"Content-Type", "application/json", "Content-Length", "1024", "User-Agent", "x", "Accept-Encoding", "gzip", "Host", "broker",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), []byte(`{"text":"` + strings.Repeat("x", 1024-11) + `"}`)
}

// The stored form is read for every trigger: that must cost no garbage.
func TestReadingAStoredEventDoesNotAllocate(t *testing.T) {
	raw := full(t).Raw()
	allocates(t, "Parse and Attribute", 0, func() {
		e, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := e.Attribute("tenant"); !ok || e.Type() == "" || e.Text("absent") != "" || len(e.Data()) == 0 {
			t.Fatal("not the event")
		}
		for name, v := range e.Attributes() {
			if name == "" || v.Kind == header {
				t.Fatal("not an attribute")
			}
		}
		if n, ok := e.TTL(); n != 254 || !ok {
			t.Fatal("TTL")
		}
	})
}

// It is the stored event.
func TestDecodingABinaryMessageAllocatesOnce(t *testing.T) {
	h, body := typicalMessage()
	var fields []Field
	for key, values := range h {
		fields = append(fields, Field{strings.ToLower(key), values[0]})
	}
	now := time.Now()
	d := &Decoder{Stamp: func(b *Builder) error {
		b.SetValue(ExtTTL, Value{Text: "255", Kind: Integer})
		b.SetTime(ExtArrivalTime, now)
		return nil
	}}
	into := make([]Event, 0, 1)
	allocates(t, "DecodeFields", 1, func() {
		if events, _, err := d.DecodeFields(fields, body, into); err != nil || len(events) != 1 {
			t.Fatal(err)
		}
	})
}

// One for the values of all headers; the map is the caller's.
func TestWritingABinaryMessageAllocatesOnce(t *testing.T) {
	h, body := typicalMessage()
	e := decodeOne(t, h, string(body))
	out := http.Header{}
	allocates(t, "WriteHTTP", 1, func() {
		clear(out)
		if _, err := e.WriteHTTP(out, Binary, nil); err != nil {
			t.Fatal(err)
		}
	})
	allocates(t, "WriteHTTP structured", 3, func() {
		clear(out)
		if _, err := e.WriteHTTP(out, Structured, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// allocates holds f to a number of allocations. A garbage collection may empty
// the pool in between, so the mean of many runs counts.
func allocates(t *testing.T, what string, most float64, f func()) {
	t.Helper()
	if race.Enabled {
		t.Skip("the race detector empties pools on purpose")
	}
	if got := testing.AllocsPerRun(1000, f); got > most {
		t.Errorf("%s: %v allocations, at most %v", what, got, most)
	}
}

// A batch of the largest size must not make much more memory of its input.
func TestJSONBombsCostNoMoreThanTenTimesTheirSize(t *testing.T) {
	event := `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}},`
	for name, body := range map[string]string{
		"many events":     "[" + strings.TrimSuffix(strings.Repeat(event, DefaultMaxBatch), ",") + "]",
		"too many events": "[" + strings.TrimSuffix(strings.Repeat("{},", 300_000), ",") + "]",
		"deep":            strings.Repeat("[", 1<<19) + strings.Repeat("]", 1<<19),
		"deep, unclosed":  strings.Repeat(`{"a":`, 1<<17),
		"many members":    `[{` + strings.TrimSuffix(strings.Repeat(`"a":1,`, 1<<17), ",") + `}]`,
		"many names":      `[{"` + strings.Join(strings.Fields(strings.Repeat("a b c d e f g h ", 1<<14)), `":1,"`) + `":1}]`,
		"escapes":         `[{"specversion":"1.0","id":"1","source":"/s","type":"t","x":"` + strings.Repeat(`\u00e9`, 1<<17) + `"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			d, h, input := new(Decoder), batchMessage(), []byte(body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, _ = d.Decode(h, input)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > uint64(10*len(body)) {
				t.Errorf("%d bytes made of %d", got, len(body))
			}
		})
	}
}

func BenchmarkDecodeBinary(b *testing.B) {
	h, body := typicalMessage()
	d := new(Decoder)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := d.Decode(h, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeStructured(b *testing.B) {
	h, body := typicalMessage()
	body, err := decodeOne(b, h, string(body)).AppendJSON(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	d, h := new(Decoder), jsonMessage()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := d.Decode(h, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteHTTP(b *testing.B) {
	h, body := typicalMessage()
	e := decodeOne(b, h, string(body))
	for _, mode := range []Mode{Binary, Structured} {
		b.Run(mode.String(), func(b *testing.B) {
			out := http.Header{}
			b.ReportAllocs()
			for b.Loop() {
				clear(out)
				if _, err := e.WriteHTTP(out, mode, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAttribute(b *testing.B) {
	e := full(b)
	for b.Loop() {
		if _, ok := e.Attribute("time"); !ok {
			b.Fatal("no time")
		}
	}
}
