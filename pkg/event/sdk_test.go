package event

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"
)

func TestEventGoesToTheSDKAndComesBack(t *testing.T) {
	for _, e := range []Event{
		full(t),
		decodeOne(t, binaryMessage(), ""),
		decodeOne(t, binaryMessage("Content-Type", "application/octet-stream"), "\x00\xff"),
		decodeOne(t, binaryMessage("Content-Type", "text/plain"), "text"),
		decodeOne(t, binaryMessage("Ce-Specversion", "0.3", "Ce-Schemaurl", "/s", "Ce-Subject", "x"), "{}"),
		decodeOne(t, jsonMessage(), `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"base64","data":"AP8="}`),
	} {
		sdk, err := e.SDK()
		if err != nil {
			t.Fatal(err)
		}
		if err := sdk.Validate(); err != nil {
			t.Errorf("the SDK does not like its own event: %v", err)
		}
		back, err := FromSDK(sdk)
		if err != nil {
			t.Fatal(err)
		}
		// The SDK knows no headers, and writes times its own way.
		expected := Edit(e)
		expected.entries = slices.DeleteFunc(expected.entries, func(x entry) bool { return x.kind == header })
		if e.Text(AttrTime) != "" {
			expected.Set(AttrTime, "2026-01-31T09:30:00.1Z")
		}
		want, err := expected.Build()
		if err != nil {
			t.Fatal(err)
		}
		sameEvent(t, e.ID(), back, want, true)

		// What it writes as JSON we read as the same event.
		b, err := json.Marshal(sdk)
		if err != nil {
			t.Fatal(err)
		}
		read, err := DecodeJSON(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !bytes.Equal(read.Data(), e.Data()) && !isJSON(e.Text(AttrDataContentType)) {
			t.Errorf("%s: data %q, want %q", b, read.Data(), e.Data())
		}
	}
}

func TestEventTheSDKCannotHoldIsAnError(t *testing.T) {
	for _, b := range []*Builder{
		new(Builder),
		new(Builder).Set("specversion", "2.0"),
		new(Builder).Set("specversion", "1.0").Set("id", ""),
		new(Builder).Set("specversion", "1.0").Set("source", ":"),
		new(Builder).Set("specversion", "1.0").Set("time", "now"),
		new(Builder).Set("specversion", "1.0").Set("dataschema", ":"),
		new(Builder).Set("specversion", "1.0").Set("a-b", "x"),
		new(Builder).Set("specversion", "1.0").SetValue("x", Value{Text: "x", Kind: Integer}),
	} {
		e, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		if sdk, err := e.SDK(); err == nil || !strings.HasPrefix(err.Error(), "event for the SDK: ") {
			t.Errorf("%v: %v, %v", attributesOf(e), sdk, err)
		}
	}
	if _, err := FromSDK(cloudevents.Event{}); err == nil {
		t.Error("an empty SDK event was taken")
	}
	if _, err := FromSDK(cloudevents.New()); err == nil || err.Error() != "id: missing; every CloudEvent needs one" && err.Error() != "id: empty; every CloudEvent needs one" {
		t.Errorf("%v", err)
	}
}

// sdkBinary reads a binary message as the SDK does. The SDK does not undo
// percent-encoding, so it is given the values already decoded.
func sdkBinary(h http.Header, body []byte) (*cloudevents.Event, error) {
	raw := http.Header{}
	for name, values := range h {
		if strings.HasPrefix(name, cePrefix) {
			values = []string{decodeHeader(values[0])}
		}
		raw[name] = values
	}
	return validated(binding.ToEvent(context.Background(), cehttp.NewMessage(raw, io.NopCloser(bytes.NewReader(body)))))
}

// sdkStructured reads a structured message as the SDK does.
func sdkStructured(body []byte) (*cloudevents.Event, error) {
	m := cehttp.NewMessage(jsonMessage(), io.NopCloser(bytes.NewReader(body)))
	return validated(binding.ToEvent(context.Background(), m))
}

func validated(e *cloudevents.Event, err error) (*cloudevents.Event, error) {
	if err == nil {
		err = e.Validate()
	}
	return e, err
}

// agree compares an event with what the SDK made of the same message.
//
// Where the two differ on purpose:
//   - the SDK trims white space from id, type, subject, dataschema and datacontenttype;
//     we keep what came.
//   - the SDK writes source, dataschema and time in its own spelling; we keep theirs.
//   - in 0.3 the SDK keeps datacontentencoding after undoing it.
//   - the SDK takes datacontentencoding of 0.3 in binary mode for an extension.
func agree(t *testing.T, got Event, want *cloudevents.Event) {
	t.Helper()
	trim := strings.TrimSpace
	for _, c := range []struct{ name, got, want string }{
		{"id", trim(got.ID()), trim(want.ID())},
		{"type", trim(got.Type()), trim(want.Type())},
		{"specversion", got.SpecVersion(), want.SpecVersion()},
		{"subject", trim(got.Subject()), trim(want.Subject())},
		{"datacontenttype", trim(got.Text(AttrDataContentType)), trim(want.DataContentType())},
		{"source", types.ParseURIRef(got.Source()).String(), want.Source()},
	} {
		if c.got != c.want {
			t.Errorf("%s %q, the SDK has %q", c.name, c.got, c.want)
		}
	}
	if when, err := types.ParseTime(got.Text(AttrTime)); err == nil && !when.Equal(want.Time()) {
		t.Errorf("time %v, the SDK has %v", when, want.Time())
	}
	extensions := want.Extensions()
	for name, v := range got.Attributes() {
		if core(name, got.SpecVersion()) {
			continue
		}
		s, err := types.Format(extensions[name])
		if err != nil || s != v.Text {
			t.Errorf("%s %q, the SDK has %v", name, v.Text, extensions[name])
		}
		delete(extensions, name)
	}
	delete(extensions, AttrDataEncoding)
	for name, v := range extensions {
		t.Errorf("the SDK has %s %v, we have not", name, v)
	}
}
