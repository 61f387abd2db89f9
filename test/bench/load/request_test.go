package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestTheRequestIsAnEventThatAnyServerReads(t *testing.T) {
	for _, size := range []int{0, 2, 9, 1024, 5000} {
		r := newRequest("broker:80", "/default/default", size)
		r.set(1<<40, 99_999, 1_790_000_000_000_000_001)
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.bytes)))
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		for name, want := range map[string]string{
			"Ce-Specversion": "1.0", "Ce-Source": "/penstock/bench", "Ce-Type": "bench.event.99999",
			"Ce-Id": "0001099511627776", "Ce-Sentns": "1790000000000000001", "Content-Type": "application/json",
		} {
			if got := req.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || len(body) != max(size, 2) || !json.Valid(body) {
			t.Errorf("size %d: body of %d bytes, JSON %v, %v", size, len(body), json.Valid(body), err)
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		head string
		want answer
		bad  bool
	}{
		{head: "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", want: answer{status: 202}},
		{head: "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length:  12\r\n\r\n", want: answer{status: 429, length: 12, retryAfter: time.Second}},
		{head: "HTTP/1.1 429 Too Many Requests\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n", want: answer{status: 429}},
		{head: "HTTP/1.1 503 \r\nConnection: Close\r\n\r\n", want: answer{status: 503, last: true}},
		{head: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bad: true},
		{head: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", bad: true},
		{head: "HTTP/1.1 abc\r\n\r\n", bad: true},
		{head: "SSH-2.0-OpenSSH\r\n\r\n", bad: true},
	} {
		got, err := parseAnswer([]byte(c.head))
		if (err != nil) != c.bad || err == nil && got != c.want {
			t.Errorf("%q: %+v, %v, want %+v", c.head, got, err, c.want)
		}
	}
}
