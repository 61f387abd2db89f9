package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/penstock-events/penstock/test/kube/probe"
)

var ids atomic.Int64

// ID is an event id that no other test has.
func ID(name string) string {
	return fmt.Sprintf("%s-%d-%d", name, time.Now().UnixNano(), ids.Add(1))
}

// Small is an event with the required attributes, an id of its own and a little data.
func Small(typ string) event.Event {
	e := event.New()
	e.SetID(ID("small"))
	e.SetType(typ)
	e.SetSource("/e2e")
	_ = e.SetData(event.ApplicationJSON, []byte(`{"small":true}`))
	return e
}

// Full is an event with every attribute, and an extension of every type.
func Full() event.Event {
	e := event.New()
	e.SetID(ID("full"))
	e.SetType("com.example.FullEvent")
	e.SetSource("http://example.com/source")
	e.SetSubject("topic")
	e.SetDataSchema("http://example.com/schema")
	e.SetTime(time.Date(2020, 3, 21, 12, 34, 56, 780000000, time.UTC))
	e.SetExtension("exbool", true)
	e.SetExtension("exint", 42)
	e.SetExtension("exstring", "exstring")
	e.SetExtension("exbinary", []byte{0, 1, 2, 3})
	e.SetExtension("exurl", "http://example.com/a?b=c")
	e.SetExtension("extime", types.Timestamp{Time: e.Time()})
	_ = e.SetData("text/json", []byte(`"hello"`))
	return e
}

// Binary is the request that carries an event in binary mode. Values are
// written as the HTTP binding says, 3.1.3.2: percent-encoded where they must be.
func Binary(url string, e event.Event) probe.Send {
	m := probe.Send{URL: url, Method: http.MethodPost, Headers: map[string]string{}, Body: e.Data()}
	for name, value := range Attrs(e) {
		if name == "datacontenttype" {
			m.Headers["Content-Type"] = value
			continue
		}
		m.Headers["ce-"+name] = escape(value)
	}
	return m
}

func escape(value string) string {
	out := make([]byte, 0, len(value))
	for _, c := range []byte(value) {
		if c <= 0x20 || c >= 0x7f || c == '"' || c == '%' {
			out = fmt.Appendf(out, "%%%02X", c)
			continue
		}
		out = append(out, c)
	}
	return string(out)
}

// Structured is the request that carries an event in structured mode.
func Structured(url string, e event.Event) probe.Send {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return probe.Send{
		URL: url, Method: http.MethodPost, Body: body,
		Headers: map[string]string{"Content-Type": "application/cloudevents+json; charset=utf-8"},
	}
}

// Without is the request less one header.
func Without(m probe.Send, header string) probe.Send {
	m.Headers = maps.Clone(m.Headers)
	delete(m.Headers, header)
	return m
}

// Attrs is every attribute and extension of an event in its canonical form.
func Attrs(e event.Event) map[string]string {
	m := map[string]string{"specversion": e.SpecVersion(), "id": e.ID(), "type": e.Type(), "source": e.Source()}
	schema := "dataschema"
	if e.SpecVersion() == event.CloudEventsVersionV03 {
		schema = "schemaurl"
	}
	for name, value := range map[string]string{
		"subject": e.Subject(), "datacontenttype": e.DataContentType(), schema: e.DataSchema(),
	} {
		if value != "" {
			m[name] = value
		}
	}
	if !e.Time().IsZero() {
		m["time"] = types.FormatTime(e.Time())
	}
	for name, value := range e.Extensions() {
		if s, err := types.Format(value); err == nil {
			m[name] = s
		}
	}
	return m
}
