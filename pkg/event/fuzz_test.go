package event

import (
	"bytes"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecode: one event in binary and in structured mode is the same event,
// its data the same bytes, through any number of changes of mode and through
// net/http; the CloudEvents SDK reads the same from it; and nothing it holds can
// smuggle a header.
func FuzzDecode(f *testing.F) {
	for _, payload := range payloads {
		f.Add("1.0", "1", "/s", "t", "", "", "application/json", "ext", "v", []byte(payload))
	}
	f.Add("0.3", "Euro € 😀", "https://a.example/b?c#d", "a.b", "sub ject", "2026-01-31T09:30:00.10Z", "text/plain", "x1", "100%", []byte("é"))
	f.Add("1.0", "a\r\nX-Evil: 1", "\x00", "t", "\xff", "now", "a/b", "A-B", "\"q\"", []byte{})
	f.Add("0.3", "1", "urn:x", "t", "", "", "a/b", "datacontentencoding", "base64", []byte("AA=="))
	f.Add("1.0", "1", "  ", "t", "", "", "", "ext", "v", []byte("{}"))
	f.Add("1.0", "1", "//", "t", "", "", "", "ext", "v", []byte("{}"))
	f.Add("1.0", "1", "//[::1]:80/%zz", "t", "", "", "", "dataschema", "urn:x", []byte("{}"))
	f.Fuzz(func(t *testing.T, version, id, source, typ, subject, when, contentType, name, value string, data []byte) {
		h := http.Header{}
		for attribute, v := range map[string]string{
			"specversion": version, "id": id, "source": source, "type": typ, "subject": subject, "time": when, name: value,
		} {
			if v != "" || !emptyIsAbsent(attribute) { // absent to us, an error or absent to the SDK
				h[http.CanonicalHeaderKey("ce-"+attribute)] = []string{encodeHeader(v)}
			}
		}
		if contentType != "" && !hasPrefixFold(contentType, contentTypePrefix) {
			h["Content-Type"] = []string{contentType}
		}
		events, mode, err := new(Decoder).Decode(h, data)
		if name == "" {
			if err == nil {
				t.Error("a header ce- without a name was taken")
			}
			return // the SDK panics on it
		}
		sdk, sdkErr := sdkBinary(h, data)
		if err != nil {
			if sdkErr == nil && !onPurpose(h) {
				t.Errorf("%q: %v; the SDK takes it", h, err)
			}
			return
		}
		e := events[0]
		if mode != Binary || !bytes.Equal(e.Data(), data) {
			t.Fatalf("%v, data %q, want %q", mode, e.Data(), data)
		}
		if sdkErr == nil {
			if !between(name) {
				agree(t, e, sdk)
			}
			if !bytes.Equal(sdk.Data(), data) {
				t.Errorf("data %q, the SDK has %q", data, sdk.Data())
			}
		} else if _, _, err := mime.ParseMediaType(contentType); (err == nil || h["Content-Type"] == nil) && !between(name) && !vanishes(e.Source()) {
			// Else what we take and the SDK does not is a Content-Type that is none, or
			// such a source.
			t.Errorf("%q: the SDK says %v", h, sdkErr)
		}
		for _, mode := range []Mode{Binary, Structured, Structured, Binary} {
			out, body := send(t, e, mode, nil)
			for key := range out {
				if !strings.HasPrefix(key, cePrefix) && key != "Content-Type" && key != "Content-Length" {
					t.Errorf("header %q on the wire", key)
				}
			}
			before := e
			e = decodeOne(t, out, string(body))
			if !bytes.Equal(e.Data(), data) {
				t.Fatalf("%v: data %q, want %q", mode, e.Data(), data)
			}
			got, want := textsOf(e), textsOf(before)
			for _, m := range []map[string]string{got, want} {
				trimLikeHTTP(m)
			}
			delete(want, AttrDataEncoding) // about the JSON: see form
			delete(got, AttrDataEncoding)
			if mode == Binary && want[AttrDataContentType] == "" && got[AttrDataContentType] == "application/json" {
				delete(got, AttrDataContentType) // implied: see writeBinary
				delete(want, AttrDataContentType)
			}
			if !maps.Equal(got, want) {
				t.Errorf("%v: %q, want %q", mode, got, want)
			}
		}
	})
}

// between reports whether an attribute belongs to one version of the spec only.
// What the SDK makes of those depends on whether it meets them before or after
// ce-specversion in the map of headers, so it is no oracle for them.
func between(name string) bool {
	return name == AttrDataEncoding || name == AttrSchemaURL || name == AttrDataSchema
}

// vanishes reports whether a URI reference is nothing in net/url's own words, as
// "//" is: a reference with an empty authority (RFC 3986, 4.2 and 3.2.2). The
// SDK keeps those words and misses the source.
func vanishes(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.String() == ""
}

// trimLikeHTTP does to a content type what the header it travels in does.
func trimLikeHTTP(attributes map[string]string) {
	if v, ok := attributes[AttrDataContentType]; ok {
		if v = strings.Trim(v, " \t"); v == "" {
			delete(attributes, AttrDataContentType)
		} else {
			attributes[AttrDataContentType] = v
		}
	}
}

// onPurpose reports whether we refuse what the SDK takes for one of the reasons
// we have, all of them rules of the spec the SDK does not check: characters
// that a String must not have, attribute names longer than we keep or not
// allowed, attributes of the other version, required ones of spaces alone.
func onPurpose(h http.Header) bool {
	for key, values := range h {
		name := strings.ToLower(strings.TrimPrefix(key, cePrefix))
		if key == "Content-Type" {
			name = AttrDataContentType
		}
		text := decodeHeader(values[0])
		if checkText(name, text) != nil || checkName(name) != nil || between(name) {
			return true
		}
		if slices.Contains(leading[:], name) && strings.TrimSpace(text) == "" {
			return true
		}
	}
	return false
}

// FuzzStructured: any body is refused, or is an event that goes out again as it
// came and that the SDK reads alike.
func FuzzStructured(f *testing.F) {
	for _, members := range []string{
		``, `,"data":{"a":1}`, `,"data":"x","datacontenttype":"text/plain"`, `,"data_base64":"AP8="`, `,"x":1,"y":true,"z":null`,
		`,"x":"\ud83d\ude00"`, `,"x":"\ud83d"`, `,"data":null`, `,"time":"2026-01-31T09:30:00Z","subject":"","dataschema":"urn:x"`,
		`,"\u0078":-0`, `,"x":1.0`, `,"data":{"a":[{"b":"]}\\\""}]}  `, `,"x":{}`, `,"x":"a","x":"b"`,
	} {
		f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t"` + members + `}`))
		f.Add([]byte(`[ {"type":"t","source":"/s","id":"1"` + members + `,"specversion":"0.3"} , 1]`))
	}
	f.Add([]byte(`{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"base64","data":"AP8="}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if events, _, err := new(Decoder).Decode(batchMessage(), body); err == nil {
			for _, e := range events {
				readable(t, e)
			}
		}
		e, err := DecodeJSON(body)
		if err != nil {
			if line := err.Error(); strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == utf8.RuneError }) || len(line) > 600 {
				t.Errorf("not a line to log: %q", line)
			}
			return
		}
		readable(t, e)
		for _, mode := range []Mode{Structured, Binary} {
			h, out := send(t, e, mode, nil)
			again := decodeOne(t, h, string(out))
			if !bytes.Equal(again.Data(), e.Data()) {
				t.Errorf("%v: data %q, want %q", mode, again.Data(), e.Data())
			}
			if mode == Structured && !maps.Equal(attributesOf(again), attributesOf(e)) {
				t.Errorf("%v, want %v", attributesOf(again), attributesOf(e))
			}
		}
		sdk, err := sdkStructured(body)
		if err != nil {
			return // the SDK refuses much; that we must not is FuzzDecode's part
		}
		agree(t, e, sdk)
	})
}

// FuzzParse: stored bytes, however damaged, are an error or an event that can
// be read to its end.
func FuzzParse(f *testing.F) {
	for _, payload := range payloads {
		f.Add(decodeOne(f, binaryMessage("Content-Type", "text/plain", "X-Request-Id", "r"), payload).Raw())
	}
	f.Add(full(f).Raw())
	f.Add([]byte{})
	f.Add([]byte("\x01\x00\x01\x00\x0e\x00\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(e.Raw(), raw) || e.Size() != len(raw) {
			t.Error("the stored form changed")
		}
		readable(t, e)
		again, err := Edit(e).Build()
		if err != nil {
			t.Fatalf("Edit: %v", err)
		}
		if !bytes.Equal(again.Data(), e.Data()) {
			t.Error("an edit of nothing changed the data")
		}
	})
}

// readable reads everything of an event.
func readable(t *testing.T, e Event) {
	t.Helper()
	for name, v := range e.Attributes() {
		if got, ok := e.Attribute(name); !ok {
			t.Errorf("%q: %v, but not found", name, v)
		} else if got != v && len(maps.Collect(e.Attributes())) == e.entries() {
			t.Errorf("%q: %v, want %v", name, got, v)
		}
	}
	for name, v := range e.Headers() {
		_ = name + v
	}
	e.TTL()
	_, _ = e.SDK()
	for _, mode := range []Mode{Binary, Structured} {
		if _, err := e.WriteHTTP(http.Header{}, mode, nil); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if len(e.Data()) > e.Size() {
		t.Error("more data than event")
	}
}

// FuzzCut: cutting JSON into members and elements finds what encoding/json
// finds, for everything that it takes.
func FuzzCut(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":"\"}","c":{"d":[]} , "e" : [ "]" ,{} ] }`))
	f.Add([]byte(` [ ] `))
	f.Add([]byte(`[1,"\\",[2],{"a":"\u0000\ud83d\ude00"},null,true,-1.5e9]`))
	f.Add([]byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, body []byte) {
		depth := jsonDepth(body)
		if !utf8.Valid(body) || !json.Valid(body) {
			return
		}
		body = bytes.TrimSpace(body)
		dec := json.NewDecoder(bytes.NewReader(body))
		var got, want []string
		switch body[0] {
		case '{':
			for name, value := range members(body) {
				raw, ok := unquote(name)
				s, valid := stdUnquote(name)
				if ok != valid || ok && string(raw) != s {
					t.Errorf("unquote(%s): %q, %v; want %q, %v", name, raw, ok, s, valid)
				}
				got = append(got, s, string(value))
			}
		case '[':
			for value := range elements(body) {
				got = append(got, string(value))
			}
		}
		_, _ = dec.Token()
		for (body[0] == '{' || body[0] == '[') && dec.More() {
			if body[0] == '{' {
				name, err := dec.Token()
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, name.(string))
			}
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				t.Fatal(err)
			}
			want = append(want, string(raw))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\n got %q\nwant %q", body, got, want)
		}
		if want := stdDepth(body); depth != want {
			t.Errorf("%s: depth %d, want %d", body, depth, want)
		}
	})
}

// stdDepth is jsonDepth by encoding/json.
func stdDepth(body []byte) (most int) {
	depth := 0
	for dec := json.NewDecoder(bytes.NewReader(body)); ; {
		token, err := dec.Token()
		if err != nil {
			return most
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			most = max(most, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// stdUnquote is unquote by encoding/json, which puts U+FFFD for half a
// surrogate pair: text that had it escaped and text that had it spelled out
// differ in the number of replacement characters.
func stdUnquote(quoted []byte) (s string, ok bool) {
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "", false
	}
	spelled := strings.ReplaceAll(strings.ReplaceAll(string(quoted), `\\`, ""), `\ufffd`, "\ufffd")
	spelled = strings.ReplaceAll(spelled, `\uFFFD`, "\ufffd")
	return s, strings.Count(strings.ToLower(spelled), "\ufffd") == strings.Count(s, "\ufffd")
}

// FuzzHeaderValue: every value an attribute may have survives a header, and no
// header makes decoding fail.
func FuzzHeaderValue(f *testing.F) {
	for _, s := range []string{"", "a b", "Euro € 😀", "%", "%4", "%41", `"`, `"a"`, `"\"`, "\x00\r\n", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := encodeHeader(s)
		if strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' }) {
			t.Errorf("%q in a header: %q", s, h)
		}
		if got := decodeHeader(h); got != s {
			t.Errorf("%q became %q", s, got)
		}
		decodeHeader(s)
		var back string
		quoted := appendString(nil, s)
		if err := json.Unmarshal(quoted, &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Errorf("%q in JSON: %s, back %q, %v", s, quoted, back, err)
		}
		if raw, ok := unquote(quoted); !ok || string(raw) != back {
			t.Errorf("%s: %q, want %q", quoted, raw, back)
		}
	})
}

// FuzzReference: what the short way takes, net/url takes.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"", "/", "a:b", ":", "http://a/b", "1:2", "a:b:c", "//a", "a+b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if plainReference(s) && !uriBySTD(s) {
			t.Errorf("%q is no URI reference to net/url", s)
		}
	})
}
