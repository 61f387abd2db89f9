package deliver

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

func TestDeadLetterAttributes(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	long := strings.Repeat("0123456789", 100)
	for _, c := range []struct {
		name       string
		failure    Failure
		dest, code string
		data       string // "" for absent
	}{
		{"a refusal", Failure{"http://a.shop/x?y=1", 422, "status 422", []byte("bad total")}, "http://a.shop/x?y=1", "422", b64("bad total")},
		{"a refusal without a word", Failure{"http://a.shop", 422, "status 422", nil}, "http://a.shop", "422", ""},
		{"nobody answered: no slash appended", Failure{"http://fake.svc.cluster.local", 0, "no such host", nil}, "http://fake.svc.cluster.local", "500", b64("dispatch error: no such host")},
		{"an unusable destination", Failure{"bad://uri", 0, `scheme "bad"`, nil}, "bad://uri", "500", b64(`dispatch error: scheme "bad"`)},
		{"a bad reply", Failure{"http://a.shop", 200, "reply: ce-id: missing", []byte("{}")}, "http://a.shop", "502", b64("dispatch error: reply: ce-id: missing")},
		{"a long answer is cut so that it decodes", Failure{"http://a.shop", 500, "status 500", []byte(long)}, "http://a.shop", "500", b64(long[:768])},
		{"just the longest", Failure{"http://a.shop", 500, "status 500", []byte(long[:768])}, "http://a.shop", "500", b64(long[:768])},
		{"binary", Failure{"http://a.shop", 500, "status 500", []byte{0, 255, '\n'}}, "http://a.shop", "500", "AP8K"},
		{"what no attribute can hold", Failure{"http://a\n\xff", 0, "x", nil}, "http://a ?", "500", b64("dispatch error: x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if _, err := order(t).WriteHTTP(h, event.Binary, c.failure.Overlay()); err != nil {
				t.Fatal(err)
			}
			dest, code, data := strings.ReplaceAll(h["Ce-Knativeerrordest"][0], "%20", " "), h["Ce-Knativeerrorcode"][0], strings.Join(h["Ce-Knativeerrordata"], "|")
			if dest != c.dest || code != c.code || data != c.data {
				t.Errorf("got %q %q %q\nwant %q %q %q", dest, code, data, c.dest, c.code, c.data)
			}
			if len(data) > 1024 {
				t.Errorf("%d characters of data", len(data))
			}
			if h["Ce-Id"][0] != "42" || h["Ce-Knativebrokerttl"][0] != "255" {
				t.Errorf("the original event is gone: %v", h)
			}
			if got := c.failure.Overlay().Set[1]; got.Kind != event.Integer {
				t.Errorf("the code is no integer: %+v", got)
			}
		})
	}
}

func TestADeadLettersOldErrorDataDoesNotSurvive(t *testing.T) {
	e := built(t, event.Edit(order(t)).Set(ExtErrorDest, "http://other").Set(ExtErrorData, "b2xk"))
	h := http.Header{}
	if _, err := e.WriteHTTP(h, event.Binary, Failure{Destination: "http://a.shop", Status: 422}.Overlay()); err != nil {
		t.Fatal(err)
	}
	if h.Get("Ce-Knativeerrordata") != "" || h.Get("Ce-Knativeerrordest") != "http://a.shop" {
		t.Error(h)
	}
}

func TestFailureOfAnAttempt(t *testing.T) {
	c := New(Options{})
	target := c.Target("http://a.shop?k=secret", TargetOptions{})
	e := &Error{Class: ClassStatus, Status: 503, Body: []byte("later"), reason: "status 503"}
	for _, x := range []struct {
		err  error
		want Failure
	}{
		{e, Failure{Status: 503, Reason: "status 503", Body: []byte("later")}},
		{&Error{Class: ClassDial, Err: errors.New("refused")}, Failure{Reason: "refused"}},
		{errors.New("append the reply:\nchannel is full"), Failure{Reason: "append the reply: channel is full"}},
	} {
		got := FailureOf(target, x.err)
		if got.Destination != "http://a.shop?k=secret" || got.Status != x.want.Status || got.Reason != x.want.Reason || string(got.Body) != string(x.want.Body) {
			t.Errorf("got %+v, want %+v", got, x.want)
		}
	}
}

func TestTextFromOutsideIsOneShortLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                    "plain",
		"two\r\nlines\x00\x1b[31m": "two  lines  [31m",
		"\xff\xfe":                 "?",
		strings.Repeat("ä", 200):   strings.Repeat("ä", 128) + "...",
		"é" + "\u0085":             "é ",
	} {
		if got := clip(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
