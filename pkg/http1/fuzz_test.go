package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzRequest searches for a request that we accept and net/http does not, or
// that the two of us understand differently: its method, target, headers, body,
// and where the next request begins.
func FuzzRequest(f *testing.F) {
	const post = "POST /a/b HTTP/1.1\r\nHost: b\r\n"
	for _, seed := range []string{
		usual, usual + usual,
		post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + usual,
		post + "Transfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nTrailing: 1\r\n\r\nGET / HTTP/1.1\r\n",
		post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
		post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		post + "Content-Length: 0\r\nConnection: close, keep-alive\r\n\r\n",
		"POST http://x/a/b?c HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST /a/b HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
		"OPTIONS * HTTP/1.1\r\nHost: b:80\r\nExpect: 100-continue\r\n\r\n",
		post + "Ce-Id: \xff\xfe\r\nX:\t\r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\n00000005\r\nhello\r\n00\r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\n5 ; x\r\nhello\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		end, _, err := Head(message, 0)
		if end == 0 || err != nil {
			return
		}
		var ours Request
		if ours.Parse(message[:end]) != nil {
			return
		}
		if _, err := url.ParseRequestURI(string(ours.Target)); err != nil || string(ours.Method) == "CONNECT" {
			return // whoever looks at the target refuses it
		}
		if ours.Get("trailer") != nil {
			return // net/http looks at what it announces, and we at nothing of a trailer
		}
		in := bufio.NewReaderSize(bytes.NewReader(message), len(message)+16)
		theirs, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses what we accept: %v", err)
		}
		if theirs.Method != string(ours.Method) || theirs.RequestURI != string(ours.Target) || theirs.ProtoMinor != ours.Minor || theirs.Close && !ours.Close {
			t.Fatalf("net/http reads %s %s close %v, we %s %s close %v", theirs.Method, theirs.RequestURI, theirs.Close, ours.Method, ours.Target, ours.Close)
		}
		sameFields(t, ours.Fields, theirs.Header, "Host", "Transfer-Encoding", "Cache-Control")
		sameBody(t, ours.Chunked, ours.ContentLength, message[end:], theirs.Body, in)
	})
}

// FuzzResponse does the same for answers.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.0 503 Not now\r\nRetry-After: 1\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 ",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		var ours Response
		n, err := ParseResponse(message, &ours)
		if n == 0 || err != nil {
			return
		}
		if ours.Status < 200 || ours.Status == 204 || ours.Status == 304 || ours.Get("trailer") != nil {
			return // without a body, whatever its head says: the reader's business
		}
		in := bufio.NewReaderSize(bytes.NewReader(message), len(message)+16)
		theirs, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("net/http refuses what we accept: %v", err)
		}
		if theirs.StatusCode != ours.Status || theirs.ProtoMinor != ours.Minor {
			t.Fatalf("net/http reads %d, we %d", theirs.StatusCode, ours.Status)
		}
		sameFields(t, ours.Fields, theirs.Header, "Transfer-Encoding", "Cache-Control", "Connection")
		if ours.Chunked || ours.ContentLength >= 0 {
			if theirs.Close && !ours.Close {
				t.Fatalf("net/http closes, we do not")
			}
			sameBody(t, ours.Chunked, ours.ContentLength, message[n:], theirs.Body, in)
		}
	})
}

func sameFields(t *testing.T, ours []Field, theirs http.Header, but ...string) {
	t.Helper()
	count := 0
	for key, values := range theirs {
		if slices.Contains(but, key) {
			continue
		}
		i := 0
		for _, f := range ours {
			if http.CanonicalHeaderKey(string(f.Name)) != key {
				continue
			}
			if i == len(values) || values[i] != string(f.Value) {
				t.Fatalf("%s: net/http has %q, we %q", key, values, f.Value)
			}
			i++
		}
		if i != len(values) {
			t.Fatalf("%s: net/http has %q, we %d of them", key, values, i)
		}
		count += i
	}
	for _, f := range ours {
		if slices.Contains(but, http.CanonicalHeaderKey(string(f.Name))) {
			count++
		}
	}
	if count != len(ours) {
		t.Fatalf("net/http has %d headers, we %d: %q", count, len(ours), ours)
	}
}

// sameBody takes the body out of rest and compares; a body that breaks off
// must do so for both.
func sameBody(t *testing.T, chunked bool, length int64, rest []byte, theirs io.Reader, in *bufio.Reader) {
	t.Helper()
	want, theirErr := io.ReadAll(theirs)
	var got strings.Builder
	var err error
	if !chunked {
		n := min(max(length, 0), int64(len(rest)))
		got.Write(rest[:n])
		if rest = rest[n:]; n < length {
			err = io.ErrUnexpectedEOF
		}
	}
	for c, done := (Chunked{}), !chunked; !done && err == nil; {
		var data []byte
		var used int
		data, used, done, err = c.Next(rest)
		got.Write(data)
		rest = rest[used:]
		if used == 0 && !done && err == nil {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		return // refused, or more is to come; net/http may be more patient
	}
	if theirErr != nil {
		t.Fatalf("we read a body to its end, net/http does not: %v", theirErr)
	}
	if got.String() != string(want) {
		t.Fatalf("body: net/http has %q, we %q", want, got.String())
	}
	left, _ := io.ReadAll(in)
	if !bytes.Equal(left, rest) {
		t.Fatalf("the next message begins for net/http with %.20q, for us with %.20q", left, rest)
	}
}
