package history

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// This file reads and writes events as HTTP with nothing of the product's, so
// that a mistake of its decoder cannot hide one of its encoder.

// Write sets the headers of binary mode and returns the body.
func (e Event) Write(h http.Header) (body []byte) {
	for name, value := range e.Attrs {
		if name == "datacontenttype" {
			h.Set("Content-Type", value)
		} else {
			h.Set("Ce-"+name, escape(value))
		}
	}
	return e.Data
}

// JSON is the event in structured mode, application/cloudevents+json.
func (e Event) JSON() []byte {
	object := maps.Clone(e.Attrs)
	object["data_base64"] = base64.StdEncoding.EncodeToString(e.Data)
	text, err := json.Marshal(object)
	if err != nil {
		panic("history: strings have no JSON form: " + err.Error())
	}
	return text
}

// JSONBatch is the events in batched mode, application/cloudevents-batch+json.
func JSONBatch(events ...Event) []byte {
	text := []byte("[")
	for i, e := range events {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, e.JSON()...)
	}
	return append(text, ']')
}

// Read takes the event out of a request or an answer. An error of reading the body is
// returned as it is: half a request of a broker that was killed is no event.
func Read(h http.Header, body io.Reader) (Event, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return Event{}, err
	}
	contentType := h.Get("Content-Type")
	if kind, _, _ := mime.ParseMediaType(contentType); kind == "application/cloudevents+json" {
		return readJSON(data)
	}
	e := Event{Attrs: make(map[string]string), Data: data}
	if contentType != "" {
		e.Attrs["datacontenttype"] = contentType
	}
	for name, values := range h {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok {
			continue
		}
		value, err := url.PathUnescape(values[0])
		if err != nil || len(values) != 1 {
			return Event{}, fmt.Errorf("header %s: %q: %w", name, values, err)
		}
		e.Attrs[attribute] = value
	}
	return e, e.check()
}

func readJSON(text []byte) (Event, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return Event{}, fmt.Errorf("structured mode: %w", err)
	}
	e := Event{Attrs: make(map[string]string)}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		raw := object[name]
		var value string
		quoted := json.Unmarshal(raw, &value) == nil
		switch {
		case name == "data_base64":
			data, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return Event{}, fmt.Errorf("data_base64: %w", err)
			}
			e.Data = data
		case name == "data" && quoted && !strings.Contains(string(object["datacontenttype"]), "json"):
			e.Data = []byte(value)
		case name == "data":
			e.Data = raw
		case quoted:
			e.Attrs[name] = value
		default:
			e.Attrs[name] = string(raw) // a number or a boolean
		}
	}
	return e, e.check()
}

func (e Event) check() error {
	for _, name := range []string{"id", "source", "specversion", "type"} {
		if e.Attrs[name] == "" {
			return errors.New("no event: attribute " + name + " is missing")
		}
	}
	return nil
}

// escape is the percent-encoding of header values (CloudEvents HTTP binding, 3.1.3.2).
func escape(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
