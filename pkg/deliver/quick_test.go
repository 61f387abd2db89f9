package deliver

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// scripted is a connection that reads what it was given, and then the end.
type scripted struct {
	net.Conn
	io.Reader
}

func (s scripted) Read(p []byte) (int, error)  { return s.Reader.Read(p) }
func (s scripted) SetDeadline(time.Time) error { return nil }

// received is an exchange whose request is on its way and whose answer is what sent holds.
func received(t testing.TB, c *Client, sent []byte, inPieces, reply bool) *exchange {
	x := &exchange{client: c, ctx: t.Context(), request: &Request{Target: &Target{reply: reply}}}
	r := io.Reader(bytes.NewReader(sent))
	if inPieces {
		r = iotest.OneByteReader(r)
	}
	conn := scripted{Reader: r}
	x.cn = newConn(conn, conn)
	x.begin()
	return x
}

// told is all that an answer comes to.
func (x *exchange) told(a Answer, failure *Error) string {
	s := fmt.Sprintf("status %d, body %q, %d replies, reuse %v", a.Status, a.Body, len(a.Replies), x.reuse)
	if failure != nil {
		reason := failure.Reason()
		if failure.Class == ClassReply {
			reason = "" // of several faults of a reply the Decoder names one that it meets
		}
		s += fmt.Sprintf(", failure %s, class %v, body %q, retry after %v", reason, failure.Class, failure.Body, failure.RetryAfter)
	}
	for _, e := range a.Replies {
		s += fmt.Sprintf(", reply %q", e.Raw())
	}
	return s
}

// answers are work for quick.
var answers = []string{
	"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nOK",
	"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK",
	"HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=0\r\n\r\n",
	"HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 202 OK\r\n\r\n",
	"HTTP/1.1 201 Made\r\nContent-Length: 20\r\n\r\n01234567890123456789",
	"HTTP/1.1 503 No\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\nbusy",
	"HTTP/1.1 200 OK\r\ncontent-type: Application/CloudEvents+json\r\nContent-Length: 70\r\n\r\n" + reply,
	"HTTP/1.1 200 OK\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\nce-specversion: 1.0\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nce-id: 1\r\nce-specversion: 1.0\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nno {}[\r\n5\r\nevent\r\n0\r\n\r\n",
	"HTTP/1.1 302 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
}

// otherAnswers are no work for quick.
var otherAnswers = []string{
	"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\ncontent-type: Application/CloudEvents+json\r\nContent-Length: 70\r\n\r\n" + reply,
	"HTTP/1.1 304 Same\r\nContent-Length: 4\r\n\r\n",
	"", "HTTP/1.1 202", "HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\n",
	"HTTP/1.1 202 Accepted\nContent-Length: 0\n\n",
	"HTTP/1.1 202 Accepted\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 202 Accepted\r\n\r\nuntil the end",
	"HTTP/1.0 202 Accepted\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nxx",
	"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000), // over MaxAnswer
	"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000),
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	"HTTP/1.1 202 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 0\r\n\r\n",
}

func TestUsualAnswersAreTakenTheQuickWay(t *testing.T) {
	c := New(Options{MaxAnswer: 1000, MaxKept: 10})
	for want, answers := range map[bool][]string{true: answers, false: otherAnswers} {
		for _, sent := range answers {
			for _, inPieces := range []bool{false, true} {
				var a Answer
				if _, got := received(t, c, []byte(sent), inPieces, true).quick(&a); got != want {
					t.Errorf("%.80q, in pieces %v: quick is %v", sent, inPieces, got)
				}
			}
		}
	}
}

// FuzzQuick searches for an answer that quick takes and http.ReadResponse
// understands differently, and for one that quick does not take and spoils.
func FuzzQuick(f *testing.F) {
	for _, sent := range append(answers, otherAnswers...) {
		f.Add([]byte(sent), false, true)
		f.Add([]byte(sent), true, false)
	}
	c := New(Options{MaxAnswer: 1000, MaxKept: 10})
	f.Fuzz(func(t *testing.T, sent []byte, inPieces, reply bool) {
		judge := received(t, c, sent, inPieces, reply)
		want := judge.told(judge.takeAny(nil))

		var a Answer
		x := received(t, c, sent, inPieces, reply)
		failure, quick := x.quick(&a)
		got := x.told(a, failure)
		if !quick {
			got = x.told(x.takeAny(nil))
		}
		if inPieces {
			// How much has been read beyond the answer differs, and so what is known of it.
			got, _, _ = strings.Cut(got, ", reuse")
			want, _, _ = strings.Cut(want, ", reuse")
		}
		if got != want {
			t.Fatalf("%q, quick %v:\n got %s\nwant %s", sent, quick, got, want)
		}
	})
}

func TestTheSameBodyIsKeptOnce(t *testing.T) {
	cn := &conn{}
	first, second := cn.remember([]byte("OK")), cn.remember([]byte("OK"))
	if &first[0] != &second[0] {
		t.Error("kept twice")
	}
	if other := cn.remember([]byte("KO")); string(other) != "KO" || string(first) != "OK" {
		t.Errorf("%s, and the one before is now %s", other, first)
	}
	if long := cn.remember(bytes.Repeat([]byte("x"), 5000)); len(long) != 5000 || len(cn.said) > 256 {
		t.Errorf("%d bytes kept with an idle connection", len(cn.said))
	}
	if cn.remember(nil) != nil {
		t.Error("an answer without a body has one")
	}
}
