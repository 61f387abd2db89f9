package event

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestBinaryMessageBecomesItsAttributesAndItsBody(t *testing.T) {
	h := binaryMessage("Ce-Subject", "Euro%20%E2%82%AC%20%F0%9F%98%80", "ce-TENANT", "blue", "Content-Type", "text/xml; charset=UTF-8")
	events, mode, err := new(Decoder).Decode(h, []byte("<a/>"))
	if err != nil || mode != Binary || len(events) != 1 {
		t.Fatalf("%d events, %v, %v", len(events), mode, err)
	}
	e := events[0]
	want := map[string]Value{
		"id": {Text: "1"}, "source": {Text: "/shop"}, "specversion": {Text: "1.0"}, "type": {Text: "order.placed"},
		"subject": {Text: "Euro € 😀"}, "tenant": {Text: "blue"}, "datacontenttype": {Text: "text/xml; charset=UTF-8"},
	}
	if got := attributesOf(e); !maps.Equal(got, want) {
		t.Errorf("attributes %v, want %v", got, want)
	}
	if string(e.Data()) != "<a/>" || !e.HasData() || e.Structured() {
		t.Errorf("data %q, has %v, structured %v", e.Data(), e.HasData(), e.Structured())
	}
}

func TestStructuredMessageKeepsKindsAndTheBytesOfItsData(t *testing.T) {
	for _, contentType := range []string{"application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-8", "application/cloudevents+json ;x=y"} {
		events, mode, err := new(Decoder).Decode(http.Header{"Content-Type": {contentType}}, []byte(` {"specversion" : "1.0", "id":"1","source":"/shop","type":"t", "time":"2026-01-31T09:30:00.10+02:00",
			"number": -2147483648, "zero": -0, "flag" : true, "word":"\u00e9 \"q\""  , "gone":null,
			"data" : {"b": 1.50,  "a":[1,{"x":"\u0041"}]} } `))
		if err != nil || mode != Structured || len(events) != 1 {
			t.Fatalf("%s: %d events, %v, %v", contentType, len(events), mode, err)
		}
		e := events[0]
		want := map[string]Value{
			"id": {Text: "1"}, "source": {Text: "/shop"}, "specversion": {Text: "1.0"}, "type": {Text: "t"},
			"time":   {Text: "2026-01-31T09:30:00.10+02:00"},
			"number": {"-2147483648", Integer}, "zero": {"0", Integer}, "flag": {"true", Boolean}, "word": {Text: `é "q"`},
		}
		if got := attributesOf(e); !maps.Equal(got, want) {
			t.Errorf("attributes %v, want %v", got, want)
		}
		if got, want := string(e.Data()), `{"b": 1.50,  "a":[1,{"x":"\u0041"}]}`; got != want || !e.Structured() {
			t.Errorf("data %s, want %s; structured %v", got, want, e.Structured())
		}
	}
}

func TestDataOfAStructuredMessage(t *testing.T) {
	const none = "no data"
	for _, c := range []struct{ members, want string }{
		{`"specversion":"1.0"`, none},
		{`"specversion":"1.0","data":null`, `null`},
		{`"specversion":"1.0","data":"text"`, `"text"`}, // no datacontenttype is application/json
		{`"specversion":"1.0","data": [1, 2] `, `[1, 2]`},
		{`"specversion":"1.0","data":1e400`, `1e400`},
		{`"specversion":"1.0","datacontenttype":"application/vnd.x+json; v=1","data":"text"`, `"text"`},
		{`"specversion":"1.0","datacontenttype":"TEXT/JSON","data":{}`, `{}`},
		{`"data":"a\u00e9\"\ud83d\ude00\\","datacontenttype":"text/plain","specversion":"1.0"`, "aé\"😀\\"},
		{`"specversion":"1.0","datacontenttype":"text/plain","data":""`, ""},
		{`"specversion":"1.0","datacontenttype":"text/plain","data":null`, none},
		{`"specversion":"1.0","data_base64":"AAH/"`, "\x00\x01\xff"},
		{`"specversion":"1.0","data_base64":"AAH\/"`, "\x00\x01\xff"},
		{`"specversion":"1.0","data_base64":""`, ""},
		{`"specversion":"1.0","data_base64":null`, none},
		{`"specversion":"1.0","data":null,"data_base64":"AAH/"`, "\x00\x01\xff"},
		{`"specversion":"1.0","data":{},"data_base64":null`, `{}`},
		{`"specversion":"0.3","datacontentencoding":"base64","data":"AAH/"`, "\x00\x01\xff"},
		{`"data":"AAH/","datacontentencoding":"Base64","specversion":"0.3"`, "\x00\x01\xff"},
		{`"specversion":"0.3","datacontentencoding":"base64"`, none},
		{`"specversion":"0.3","datacontentencoding":"base64","data":null`, none},
		{`"specversion":"0.3","data":{"a":1}`, `{"a":1}`},
	} {
		e := decodeOne(t, jsonMessage(), `{"id":"1","source":"/s","type":"t",`+c.members+`}`)
		got := string(e.Data())
		if !e.HasData() {
			got = none
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.members, got, c.want)
		}
		if _, ok := e.Attribute(AttrDataEncoding); ok {
			t.Errorf("%s: datacontentencoding outlived the JSON it was about", c.members)
		}
	}
}

func TestBatchIsTakenWholeOrNotAtAll(t *testing.T) {
	one := func(id string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/s","type":"t","data":{"n":` + id + `}}`
	}
	d := &Decoder{MaxBatch: 3}
	events, mode, err := d.Decode(batchMessage(), []byte(" [ "+one("1")+" ,\n"+one("2")+","+one("3")+" ] "))
	if err != nil || mode != Batch || len(events) != 3 {
		t.Fatalf("%d events, %v, %v", len(events), mode, err)
	}
	for i, e := range events {
		n := strconv.Itoa(i + 1)
		if e.ID() != n || string(e.Data()) != `{"n":`+n+`}` || !e.Structured() {
			t.Errorf("event %d: %q %s", i+1, e.ID(), e.Data())
		}
	}
	if events, mode, err := d.Decode(batchMessage(), []byte(" [ ] ")); err != nil || mode != Batch || len(events) != 0 {
		t.Errorf("empty batch: %d events, %v, %v", len(events), mode, err)
	}
	events, _, err = d.Decode(batchMessage(), []byte("["+one("1")+","+one("2")+`,{"specversion":"1.0","id":"3","type":"t"}]`))
	if want := "event 3 of 3: source: missing; every CloudEvent needs one"; err == nil || err.Error() != want || events != nil {
		t.Errorf("bad third event: %d events, %v; want none and %s", len(events), err, want)
	}
	events, _, err = d.Decode(batchMessage(), []byte("["+strings.Repeat(one("1")+",", 3)+one("1")+"]"))
	if want := "body: batch of more than 3 events"; err == nil || err.Error() != want || events != nil {
		t.Errorf("one too many: %d events, %v; want none and %s", len(events), err, want)
	}
}

// A batch's own array does not count, so what is deep enough for one event is
// deep enough for it in a batch.
func TestDepthIsCountedFromTheEvent(t *testing.T) {
	d := &Decoder{MaxDepth: 3}
	for depth, want := range map[int]bool{2: true, 3: false} {
		body := `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
		if _, _, err := d.Decode(jsonMessage(), []byte(body)); (err == nil) != want {
			t.Errorf("structured, data %d deep: %v", depth, err)
		}
		if _, _, err := d.Decode(batchMessage(), []byte("["+body+"]")); (err == nil) != want {
			t.Errorf("batch, data %d deep: %v", depth, err)
		}
	}
}

// Each row breaks one rule, and want is what the sender is told.
func TestMalformedMessageIsRefusedWithAReasonToActOn(t *testing.T) {
	long := strings.Repeat("x", 300)
	event := func(members string) string {
		return `{"specversion":"1.0","id":"1","source":"/s","type":"t"` + members + `}`
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"x%d":1`, i)
		}
		return b.String()
	}
	duplicate := binaryMessage()
	duplicate["Ce-Tenant"] = []string{"blue", "green"}
	twoCases := binaryMessage()
	twoCases["ce-id"] = []string{"2"}
	twoTypes := binaryMessage()
	twoTypes["Content-Type"] = []string{"text/plain", "text/html"}

	for _, c := range []struct {
		name string
		h    http.Header
		body string
		want string
	}{
		{"nothing", http.Header{}, "", "ce-id: missing; every CloudEvent needs one"},
		{"no id", binaryMessage("Ce-Id", ""), "", "ce-id: missing; every CloudEvent needs one"},
		{"no source", binaryMessage("Ce-Source", ""), "", "ce-source: missing; every CloudEvent needs one"},
		{"no type", binaryMessage("Ce-Type", ""), "", "ce-type: missing; every CloudEvent needs one"},
		{"no specversion", binaryMessage("Ce-Specversion", ""), "", "ce-specversion: missing; every CloudEvent needs one"},
		{"blank id", binaryMessage("Ce-Id", "%20"), "", "ce-id: empty; every CloudEvent needs one"},
		{"unknown version", binaryMessage("Ce-Specversion", "9000.1"), "", `ce-specversion: "9000.1" is unknown; this broker reads 1.0 and 0.3`},
		{"version 1", binaryMessage("Ce-Specversion", "1"), "", `ce-specversion: "1" is unknown; this broker reads 1.0 and 0.3`},
		{"duplicate header", duplicate, "", "ce-tenant: sent more than once; which one holds would be a guess"},
		{"duplicate in two cases", twoCases, "", "ce-id: sent more than once; which one holds would be a guess"},
		{"two content types", twoTypes, "", "content-type: sent more than once; which one holds would be a guess"},
		{"datacontenttype as header", binaryMessage("Ce-Datacontenttype", "text/xml"), "", "ce-datacontenttype: not a header of binary mode; the media type of the data goes into Content-Type"},
		{"data as header", binaryMessage("Ce-Data", "x"), "", "ce-data: not a name for an attribute; data is the payload"},
		{"dash in name", binaryMessage("Ce-My-Ext", "x"), "", `ce-my-ext: not an attribute name; only a-z and 0-9 may stand in one`},
		{"no name", http.Header{"Ce-Id": {"1"}, "Ce-Source": {"s"}, "Ce-Type": {"t"}, "Ce-Specversion": {"1.0"}, "Ce-": {"x"}}, "", `ce-"": an attribute needs a name`},
		{"long name", binaryMessage("Ce-"+strings.Repeat("a", 65), "x"), "", `ce-"` + strings.Repeat("a", 60) + `"...: name of 65 bytes; at most 64`},
		{"overlong UTF-8", binaryMessage("Ce-Subject", "%C0%A0"), "", `ce-subject: "\xc0\xa0" is not valid UTF-8`},
		{"latin-1", binaryMessage("Ce-Subject", "caf\xe9"), "", `ce-subject: "caf\xe9" is not valid UTF-8`},
		{"line feed", binaryMessage("Ce-Subject", "a%0AX-Evil:%201"), "", `ce-subject: "a\nX-Evil: 1" holds a control character`},
		{"nul", binaryMessage("Ce-Tenant", "a%00"), "", `ce-tenant: "a\x00" holds a control character`},
		{"tab", binaryMessage("Ce-Tenant", "a%09"), "", `ce-tenant: "a\t" holds a control character`},
		{"C1 control", binaryMessage("Ce-Tenant", "a%C2%9B"), "", `ce-tenant: "a\u009b" holds a control character`},
		{"delete", binaryMessage("Ce-Tenant", "a%7F"), "", `ce-tenant: "a\x7f" holds a control character`},
		{"noncharacter", binaryMessage("Ce-Tenant", "%EF%BF%BE"), "", `ce-tenant: "\ufffe" holds U+FFFE, which is not a character`},
		{"noncharacter of the block", binaryMessage("Ce-Tenant", "%EF%B7%90"), "", `ce-tenant: "\ufdd0" holds U+FDD0, which is not a character`},
		{"control in content type", binaryMessage("Content-Type", "a\x01"), "", `content-type: "a\x01" holds a control character`},
		{"bad time", binaryMessage("Ce-Time", "yesterday"), "", `ce-time: "yesterday" is not an RFC 3339 time such as 2026-01-31T09:30:00Z`},
		{"bad source", binaryMessage("Ce-Source", "http://[::1"), "", `ce-source: "http://[::1" is not a URI reference`},
		{"source without scheme", binaryMessage("Ce-Source", ":shop"), "", `ce-source: ":shop" is not a URI reference`},
		{"relative schema", binaryMessage("Ce-Dataschema", "/schema"), "", `ce-dataschema: "/schema" is not an absolute URI`},
		{"0.3: bad schemaurl", binaryMessage("Ce-Specversion", "0.3", "Ce-Schemaurl", "http://a:b"), "", `ce-schemaurl: "http://a:b" is not a URI reference`},
		{"0.3: unknown encoding", binaryMessage("Ce-Specversion", "0.3", "Ce-Datacontentencoding", "gzip"), "", `ce-datacontentencoding: "gzip" is unknown; only base64 is`},
		{"long value is cut", binaryMessage("Ce-Time", long), "", `ce-time: "` + long[:60] + `"... is not an RFC 3339 time such as 2026-01-31T09:30:00Z`},
		{"control in a travelling header", binaryMessage("X-Request-Id", "a\x01"), "", `X-Request-Id: "a\x01" holds a control character`},
		{"travelling headers too large", binaryMessage("Knative-X", strings.Repeat("x", maxHeaderBytes)), "", `Knative-X: headers that travel with the event are more than 8192 bytes together`},
		{"name of a travelling header", http.Header{"Ce-Id": {"1"}, "Knative-\r\n": {"x"}}, "", `"knative-\r\n": not a header name`},

		{"unknown format", http.Header{"Content-Type": {"application/cloudevents+xml; a=b"}}, "<a/>", `content-type: "application/cloudevents+xml" is an event format this broker does not read; send application/cloudevents+json`},
		{"no format", http.Header{"Content-Type": {"application/cloudevents"}}, "{}", `content-type: "application/cloudevents" is an event format this broker does not read; send application/cloudevents+json`},
		{"empty", jsonMessage(), "", "body: empty; in this mode it carries the event"},
		{"cut off", jsonMessage(), event("")[:20], "body: not JSON: at byte 20: unexpected end of JSON input"},
		{"two values", jsonMessage(), "{} {}", "body: not JSON: at byte 4: invalid character '{' after top-level value"},
		{"not UTF-8", jsonMessage(), event(`,"x":"` + "\xff" + `"`), "body: not valid UTF-8, so not JSON"},
		{"byte order mark", jsonMessage(), "\ufeff" + event(""), "body: not JSON: at byte 1: invalid character 'ï' looking for beginning of value"},
		{"array", jsonMessage(), "[" + event("") + "]", "body: an event is a JSON object, not an array"},
		{"null", jsonMessage(), "null", "body: an event is a JSON object, not null"},
		{"deep data", jsonMessage(), event(`,"data":` + strings.Repeat("[", 64) + strings.Repeat("]", 64)), "body: JSON nested more than 64 deep"},
		{"no source in JSON", jsonMessage(), `{"specversion":"1.0","id":"1","type":"t"}`, "source: missing; every CloudEvent needs one"},
		{"null id", jsonMessage(), `{"specversion":"1.0","id":null,"type":"t","source":"s"}`, "id: missing; every CloudEvent needs one"},
		{"empty type", jsonMessage(), `{"specversion":"1.0","id":"1","type":"","source":"s"}`, "type: empty; every CloudEvent needs one"},
		{"id as number", jsonMessage(), `{"specversion":"1.0","id":1,"type":"t","source":"s"}`, "id: must be a string, not a number"},
		{"0.3: schemaurl as number", jsonMessage(), `{"specversion":"0.3","id":"1","type":"t","source":"s","schemaurl":1}`, "schemaurl: must be a string"},
		{"specversion as number", jsonMessage(), `{"specversion":1.0,"id":"1","type":"t","source":"s"}`, "specversion: must be a string, not a number"},
		{"member twice", jsonMessage(), event(`,"x":1,"x":1`), "x: there twice; which one holds would be a guess"},
		{"member twice, once null", jsonMessage(), event(`,"x":null,"x":1`), "x: there twice; which one holds would be a guess"},
		{"member twice, once escaped", jsonMessage(), event(`,"\u0069d":"2"`), "id: there twice; which one holds would be a guess"},
		{"data twice", jsonMessage(), event(`,"data":1,"data":2`), "data: there twice; which one holds would be a guess"},
		{"both kinds of data", jsonMessage(), event(`,"data":1,"data_base64":"AA=="`), "data_base64: there together with data; an event has one payload"},
		{"upper case name", jsonMessage(), event(`,"Tenant":"x"`), "Tenant: not an attribute name; only a-z and 0-9 may stand in one"},
		{"strange name", jsonMessage(), event(`,"a\u001b[2J":1`), `"a\x1b[2J": not an attribute name; only a-z and 0-9 may stand in one`},
		{"half a surrogate in a name", jsonMessage(), event(`,"\ud800":1`), `"\"\\ud800\"": half of a surrogate pair in a name`},
		{"no name in JSON", jsonMessage(), event(`,"":1`), `"": an attribute needs a name`},
		{"fraction", jsonMessage(), event(`,"x":1.5`), `x: "1.5" is not an integer from -2147483648 to 2147483647; send other numbers as strings`},
		{"exponent", jsonMessage(), event(`,"x":1e2`), `x: "1e2" is not an integer from -2147483648 to 2147483647; send other numbers as strings`},
		{"too large", jsonMessage(), event(`,"x":2147483648`), `x: "2147483648" is not an integer from -2147483648 to 2147483647; send other numbers as strings`},
		{"object as attribute", jsonMessage(), event(`,"x":{}`), "x: an attribute cannot be an object"},
		{"array as attribute", jsonMessage(), event(`,"x":[]`), "x: an attribute cannot be an array"},
		{"escaped control", jsonMessage(), event(`,"x":"a\u0000"`), `x: "a\x00" holds a control character`},
		{"half a surrogate", jsonMessage(), event(`,"x":"\ud83d "`), `x: "\"\\ud83d \"" holds half of a surrogate pair`},
		{"the wrong halves", jsonMessage(), event(`,"x":"\ud83d\ud83d"`), `x: "\"\\ud83d\\ud83d\"" holds half of a surrogate pair`},
		{"the second half only", jsonMessage(), event(`,"x":"\ude00"`), `x: "\"\\ude00\"" holds half of a surrogate pair`},
		{"half a surrogate in text", jsonMessage(), event(`,"datacontenttype":"text/plain","data":"\udc00"`), "data: half of a surrogate pair in a string"},
		{"object as text", jsonMessage(), event(`,"datacontenttype":"text/plain","data":{}`), `data: an object, but datacontenttype "text/plain" is not JSON; send a string, or data_base64, or a JSON datacontenttype`},
		{"base64 as number", jsonMessage(), event(`,"data_base64":1`), "data_base64: must be a string of base64, not a number"},
		{"bad base64", jsonMessage(), event(`,"data_base64":"A"`), "data_base64: not base64: illegal base64 data at input byte 0"},
		{"data_base64 in 0.3", jsonMessage(), `{"specversion":"0.3","id":"1","source":"/s","type":"t","data_base64":"AA=="}`, "data_base64: not known in 0.3; send datacontentencoding base64 and data"},
		{"object as base64 in 0.3", jsonMessage(), `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"base64","data":{}}`, "data: must be a string of base64, not an object"},
		{"too many attributes", jsonMessage(), event(many(130)), "attributes: more than 128"},
		{"object as batch", batchMessage(), event(""), "body: a batch is a JSON array of events"},
		{"empty batch body", batchMessage(), "", "body: empty; in this mode it carries the event"},
		{"string as event", jsonMessage(), `"x"`, "body: an event is a JSON object, not a string"},
		{"boolean as event", jsonMessage(), `true`, "body: an event is a JSON object, not a boolean"},
		{"half a surrogate as base64", jsonMessage(), event(`,"data_base64":"\ud800"`), "data_base64: not base64"},
		{"travelling headers of a structured message too large", http.Header{"Content-Type": {ContentTypeJSON}, "B3": {strings.Repeat("x", maxHeaderBytes)}}, event(""), "B3: headers that travel with the event are more than 8192 bytes together"},
		{"travelling headers of a batch too large", http.Header{"Content-Type": {ContentTypeBatch}, "B3": {strings.Repeat("x", maxHeaderBytes)}}, "[" + event("") + "]", "B3: headers that travel with the event are more than 8192 bytes together"},
		{"number in a batch", batchMessage(), "[" + event("") + ", 7]", "event 2 of 2: body: an event is a JSON object, not a number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			events, _, err := new(Decoder).Decode(c.h, []byte(c.body))
			var m *Malformed
			if !errors.As(err, &m) || events != nil {
				t.Fatalf("%d events, error %v; want none and a *Malformed", len(events), err)
			}
			if m.Error() != c.want {
				t.Errorf("\n got %s\nwant %s", m, c.want)
			}
			if got, want := errors.Is(err, ErrFormat), strings.HasSuffix(c.name, " format"); got != want {
				t.Errorf("errors.Is(err, ErrFormat) = %v, want %v", got, want)
			}
		})
	}
}

func TestTooManyCEHeadersAreRefused(t *testing.T) {
	h := binaryMessage("Ce-A", "x")
	if _, _, err := (&Decoder{MaxAttributes: 5}).Decode(h, nil); err != nil {
		t.Errorf("5 of 5: %v", err)
	}
	if _, _, err := (&Decoder{MaxAttributes: 4}).Decode(h, nil); err == nil || err.Error() != "attributes: more than 4" {
		t.Errorf("5 of 4: %v", err)
	}
}

// These are the leniencies: each is something real senders do.
func TestUnusualMessageIsTakenForWhatItMeans(t *testing.T) {
	for _, c := range []struct {
		name, header, value, attribute, want string
	}{
		{"percent sign sent raw", "Ce-Subject", "100% of 5%2", "subject", "100% of 5%2"},
		{"raw UTF-8", "Ce-Subject", "café", "subject", "café"},
		{"quoted string", "Ce-Subject", `"a \"b\" \\ c%20d"`, "subject", `a "b" \ c d`},
		{"stray quotes", "Ce-Subject", `"a" and "b"`, "subject", `"a" and "b"`},
		{"unfinished quotes", "Ce-Subject", `"a\"`, "subject", `"a\"`},
		{"one quote", "Ce-Subject", `"`, "subject", `"`},
		{"needless encoding", "Ce-Subject", "%61%2f%2F", "subject", "a//"},
		{"only one round of decoding", "Ce-Subject", "%2541", "subject", "%41"},
		{"time keeps its spelling", "Ce-Time", "2026-01-31T09:30:00.000+00:00", "time", "2026-01-31T09:30:00.000+00:00"},
		{"content type that is none", "Content-Type", "banana;;; =", "datacontenttype", "banana;;; ="},
		{"content type with tab", "Content-Type", "text/plain;\tcharset=utf-8", "datacontenttype", "text/plain;\tcharset=utf-8"},
		{"content type is not decoded", "Content-Type", `a/b; c="%20"`, "datacontenttype", `a/b; c="%20"`},
		{"long extension name", "Ce-" + strings.Repeat("a", 64), "x", strings.Repeat("a", 64), "x"},
		{"replacement character", "Ce-Subject", "%EF%BF%BD", "subject", "\ufffd"},
	} {
		e := decodeOne(t, binaryMessage(c.header, c.value), "")
		if got := e.Text(c.attribute); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEmptyOptionalAttributeIsAbsentAndEmptyExtensionIsNot(t *testing.T) {
	h := binaryMessage()
	for _, name := range []string{"Ce-Subject", "Ce-Time", "Ce-Dataschema", "Content-Type", "Ce-Tenant"} {
		h[name] = []string{""}
	}
	structured := `{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","subject":"","time":"","dataschema":"","datacontenttype":"","tenant":""}`
	for _, e := range []Event{decodeOne(t, h, ""), decodeOne(t, jsonMessage(), structured)} {
		for _, name := range []string{"subject", "time", "dataschema", "datacontenttype"} {
			if v, ok := e.Attribute(name); ok {
				t.Errorf("%s is there: %q", name, v.Text)
			}
		}
		if v, ok := e.Attribute("tenant"); !ok || v.Text != "" {
			t.Errorf("tenant: %q, %v; want it there and empty", v.Text, ok)
		}
	}
}

func TestVersion03StaysVersion03(t *testing.T) {
	h := binaryMessage("Ce-Specversion", "0.3", "Ce-Schemaurl", "/relative", "Ce-Dataschema", "free text here")
	e := decodeOne(t, h, "x")
	if e.SpecVersion() != "0.3" || e.Text("schemaurl") != "/relative" || e.Text("dataschema") != "free text here" {
		t.Fatalf("%v", attributesOf(e))
	}
	for _, mode := range []Mode{Binary, Structured} {
		h, body := send(t, e, mode, nil)
		sameEvent(t, mode.String(), decodeOne(t, h, string(body)), e, true)
	}
}

// Only what traces or correlates goes on to subscribers: a broker that passed
// the rest would hand one tenant's credentials to another.
func TestOnlyListedHeadersTravelWithTheEvent(t *testing.T) {
	travel := map[string]string{
		"X-Request-Id": "r", "Traceparent": "00-a-b-01", "Tracestate": "a=b", "B3": "0", "X-B3-Traceid": "1", "Knative-Error-Dest": "d",
	}
	stay := []string{
		"Authorization", "Cookie", "Host", "Kn-Namespace", "X-Forwarded-For", "Retry-After", "Connection", "Transfer-Encoding",
		"Prefer", "User-Agent", "Content-Length", "Content-Encoding", "Proxy-Authorization", "X-B3", "Knative",
	}
	for _, m := range []struct {
		h    http.Header
		body string
	}{
		{binaryMessage(), "x"},
		{jsonMessage(), `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`},
		{batchMessage(), `[{"specversion":"1.0","id":"1","source":"/s","type":"t"}]`},
	} {
		for name, v := range travel {
			m.h[name] = []string{v}
		}
		for _, name := range stay {
			m.h[name] = []string{"secret"}
		}
		e := decodeOne(t, m.h, m.body)
		if got := maps.Collect(e.Headers()); !maps.Equal(got, travel) {
			t.Errorf("headers %v, want %v", got, travel)
		}
		if _, ok := e.Attribute("Traceparent"); ok {
			t.Error("a header is visible as an attribute")
		}
		for _, mode := range []Mode{Binary, Structured} {
			out := http.Header{}
			if _, err := e.WriteHTTP(out, mode, nil); err != nil {
				t.Fatal(err)
			}
			for name, v := range travel {
				if out.Get(name) != v {
					t.Errorf("%v: %s is %q, want %q", mode, name, out.Get(name), v)
				}
			}
		}
	}
	h := binaryMessage()
	h["Tracestate"] = []string{"a=1", "b=2"}
	if got := maps.Collect(decodeOne(t, h, "").Headers())["Tracestate"]; got != "a=1,b=2" {
		t.Errorf("list over two lines: %q", got)
	}
}

func TestStampIsPartOfEveryEventAndItsErrorIsTheAnswer(t *testing.T) {
	d := &Decoder{Stamp: func(b *Builder) error {
		if b.Text("id") == "3" {
			return errLoop
		}
		b.SetValue(ExtTTL, Value{Text: "254", Kind: Integer})
		return nil
	}}
	batch := `[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"2","source":"/s","type":"t"}]`
	for _, m := range []struct {
		h    http.Header
		body string
	}{{binaryMessage(), ""}, {batchMessage(), batch}} {
		events, _, err := d.Decode(m.h, []byte(m.body))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if ttl, ok := e.TTL(); ttl != 254 || !ok {
				t.Errorf("event %s: TTL %d, %v", e.ID(), ttl, ok)
			}
		}
	}
	if _, _, err := d.Decode(binaryMessage("Ce-Id", "3"), nil); err != errLoop {
		t.Errorf("%v, want the error itself", err)
	}
	_, _, err := d.Decode(batchMessage(), []byte(`[{"specversion":"1.0","id":"3","source":"/s","type":"t"}]`))
	if !errors.Is(err, errLoop) || !strings.HasPrefix(err.Error(), "event 1 of 1: ") {
		t.Errorf("%v", err)
	}
}

var errLoop = errors.New("too many hops")

// A decoder lends its memory to one message after the other. What it returned
// must not change when that happens, nor when the caller reuses the body.
func TestEventsOfOneDecoderDoNotShareMemory(t *testing.T) {
	var d Decoder
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf("%d-%d", worker, i)
				h, body := binaryMessage("Ce-Id", id, "Ce-X"+strconv.Itoa(i), id), []byte(id)
				if i%2 == 1 {
					h, body = jsonMessage(), []byte(`{"specversion":"1.0","id":"`+id+`","source":"/s","type":"t","datacontenttype":"text/plain","data":"`+id+`"}`)
				}
				events, _, err := d.Decode(h, body)
				for j := range body {
					body[j] = '!'
				}
				if _, _, err := d.Decode(binaryMessage("Ce-Id", "other", "Ce-Other", "x"), []byte("other")); err != nil {
					t.Error(err)
				}
				if err != nil || events[0].ID() != id || string(events[0].Data()) != id || events[0].Text("other") != "" {
					t.Errorf("%s: %v %v", id, events, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestClaims(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       bool
	}{
		{"Ce-Specversion", "1.0", true},
		{"ce-type", "", true},
		{"CE-ID", "1", true},
		{"Ce-Source", "/s", true},
		{"Ce-Tenant", "x", false},
		{"Content-Type", "application/cloudevents+json", true},
		{"content-type", " Application/CloudEvents-Batch+JSON; charset=utf-8", true},
		{"Content-Type", "application/cloudevents+avro", true},
		{"Content-Type", "application/cloudevent", false},
		{"Content-Type", "application/json", false},
		{"X-Content-Type", "application/cloudevents+json", false},
	} {
		if got := Claims(http.Header{c.key: {c.value}}); got != c.want {
			t.Errorf("%s: %s: %v, want %v", c.key, c.value, got, c.want)
		}
	}
	if Claims(http.Header{"Ce-Id": nil}) || Claims(nil) {
		t.Error("a message without headers claims to be an event")
	}
}

func TestTTL(t *testing.T) {
	for text, want := range map[string]struct {
		n  int
		ok bool
	}{`"7"`: {7, true}, `7`: {7, true}, `-1`: {-1, true}, `"seven"`: {}, `"99999999999"`: {}, `true`: {}, `null`: {}} {
		e := decodeOne(t, jsonMessage(), `{"specversion":"1.0","id":"1","source":"/s","type":"t","knativebrokerttl":`+text+`}`)
		if n, ok := e.TTL(); ok != want.ok || ok && n != want.n {
			t.Errorf("%s: %d, %v; want %v", text, n, ok, want)
		}
	}
}
