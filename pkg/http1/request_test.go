package http1

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

const usual = "POST /default/orders HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\nContent-Length: 2\r\n" +
	"Ce-Id: 1\r\nce-type: \t order.created \r\n\r\n{}"

func parse(t *testing.T, message string) (r Request, body string, err error) {
	t.Helper()
	end, _, err := Head([]byte(message), 0)
	if err != nil {
		return r, "", err
	}
	if end == 0 {
		t.Fatalf("%q has no end", message)
	}
	return r, message[end:], r.Parse([]byte(message[:end]))
}

func TestARequestIsReadAsItWasSent(t *testing.T) {
	r, body, err := parse(t, usual)
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Method) != "POST" || string(r.Target) != "/default/orders" || r.Minor != 1 || r.ContentLength != 2 || r.Chunked || r.Close || r.Expects || body != "{}" {
		t.Errorf("%+v, body %q", r, body)
	}
	if got := string(r.Get("ce-type")); got != "order.created" {
		t.Errorf("ce-type is %q, want it without blanks", got)
	}
	if got := string(r.Fields[4].Name); got != "ce-type" {
		t.Errorf("name %q, want it as sent", got)
	}
}

func TestAHeadIsFoundHoweverItComes(t *testing.T) {
	end, next := 0, 0
	var err error
	for n := range len(usual) {
		if end, next, err = Head([]byte(usual[:n+1]), next); err != nil {
			t.Fatal(err)
		}
		if whole := n+1 == len(usual)-2; whole != (end > 0) {
			t.Fatalf("after %d bytes of %d: end at %d", n+1, len(usual), end)
		}
		if end > 0 {
			return
		}
	}
}

func TestWhatTwoReadersCouldReadInTwoWaysIsRefused(t *testing.T) {
	const post = "POST /a/b HTTP/1.1\r\n"
	for name, c := range map[string]struct {
		message string
		status  int
	}{
		"bare LF":                     {"POST /a/b HTTP/1.1\nHost: b\r\n\r\n", 400},
		"bare LF at the end":          {post + "Host: b\r\n\n", 400},
		"folded":                      {post + "Host: b\r\nCe-Id: 1\r\n 2\r\n\r\n", 400},
		"blank before the colon":      {post + "Host: b\r\nContent-Length : 2\r\n\r\n", 400},
		"no colon":                    {post + "Host: b\r\nCe-Id\r\n\r\n", 400},
		"no name":                     {post + "Host: b\r\n: 1\r\n\r\n", 400},
		"bare CR in a value":          {post + "Host: b\r\nCe-Id: 1\rContent-Length: 5\r\n\r\n", 400},
		"NUL in a value":              {post + "Host: b\r\nCe-Id: 1234567890\x00\r\n\r\n", 400},
		"DEL in a value":              {post + "Host: b\r\nCe-Id: 1234\x7f67890\r\n\r\n", 400},
		"both lengths":                {post + "Host: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"both lengths, turned":        {post + "Host: b\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400},
		"two lengths":                 {post + "Host: b\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
		"one length twice":            {post + "Host: b\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
		"list of lengths":             {post + "Host: b\r\nContent-Length: 5, 5\r\n\r\n", 400},
		"length with a sign":          {post + "Host: b\r\nContent-Length: +5\r\n\r\n", 400},
		"length in hex":               {post + "Host: b\r\nContent-Length: 0x5\r\n\r\n", 400},
		"length of nothing":           {post + "Host: b\r\nContent-Length:\r\n\r\n", 400},
		"length beyond all bounds":    {post + "Host: b\r\nContent-Length: 18446744073709551617\r\n\r\n", 400},
		"chunked twice":               {post + "Host: b\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
		"another coding":              {post + "Host: b\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
		"chunked with a tail":         {post + "Host: b\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", 501},
		"vertical tab before chunked": {post + "Host: b\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400},
		"chunked in HTTP/1.0":         {"POST /a/b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"no Host":                     {post + "\r\n", 400},
		"two Hosts":                   {post + "Host: a\r\nHost: b\r\n\r\n", 400},
		"a Host that is none":         {post + "Host: a/b\r\n\r\n", 400},
		"two blanks":                  {"POST  /a/b HTTP/1.1\r\nHost: b\r\n\r\n", 400},
		"a blank in the target":       {"POST /a /b HTTP/1.1\r\nHost: b\r\n\r\n", 400},
		"a tab in the target":         {"POST /a\t/b HTTP/1.1\r\nHost: b\r\n\r\n", 400},
		"no target":                   {"POST HTTP/1.1\r\nHost: b\r\n\r\n", 400},
		"HTTP/0.9":                    {"POST /a/b\r\n\r\n", 400},
		"HTTP/2.0":                    {"POST /a/b HTTP/2.0\r\nHost: b\r\n\r\n", 505},
		"HTTP/1.2":                    {"POST /a/b HTTP/1.2\r\nHost: b\r\n\r\n", 505},
		"an empty line first":         {"\r\n" + usual, 400},
		"another expectation":         {post + "Host: b\r\nExpect: 200-ok\r\n\r\n", 417},
		"headers without number":      {post + "Host: b\r\n" + strings.Repeat("a:\r\n", MaxFields) + "\r\n", 431},
	} {
		_, _, err := parse(t, c.message)
		if e := (*Error)(nil); !errors.As(err, &e) || e.Status != c.status || e.Reason == "" {
			t.Errorf("%s: %v, want status %d", name, err, c.status)
		}
	}
}

func TestWhoEndsTheConnection(t *testing.T) {
	for head, close := range map[string]bool{
		"POST /a/b HTTP/1.1\r\nHost: b\r\n\r\n":                                     false,
		"POST /a/b HTTP/1.1\r\nHost: b\r\nConnection: Close\r\n\r\n":                true,
		"POST /a/b HTTP/1.1\r\nHost: b\r\nConnection: x, close ,y\r\n\r\n":          true,
		"POST /a/b HTTP/1.1\r\nHost: b\r\nConnection: closed\r\n\r\n":               false,
		"POST /a/b HTTP/1.0\r\n\r\n":                                                true,
		"POST /a/b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n":                      false,
		"POST /a/b HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n": true,
	} {
		if r, _, err := parse(t, head); err != nil || r.Close != close {
			t.Errorf("%q: close %v, %v; want %v", head, r.Close, err, close)
		}
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	head, r := []byte(usual[:len(usual)-2]), Request{}
	if n := testing.AllocsPerRun(100, func() {
		end, _, err := Head(head, 0)
		if err == nil {
			err = r.Parse(head[:end])
		}
		if err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	head, r := []byte(usual[:len(usual)-2]), Request{}
	b.ReportAllocs()
	for b.Loop() {
		end, _, _ := Head(head, 0)
		if err := r.Parse(head[:end]); err != nil {
			b.Fatal(err)
		}
	}
}

func TestStatusIsOneOfHTTP(t *testing.T) {
	for _, e := range []*Error{errLine, errManyFields, errCoding, errVersion, errExpectation} {
		if http.StatusText(e.Status) == "" {
			t.Errorf("%v: status %d", e, e.Status)
		}
	}
}
