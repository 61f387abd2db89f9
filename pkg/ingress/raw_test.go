package ingress_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/ingress"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// rawRequests is what the wire may bring and no client library sends. The
// golden file says what becomes of each: a new version of Go must not accept
// more without somebody reading the difference.
var rawRequests = []struct{ name, bytes string }{
	{"plain", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"two requests in one packet", strings.Repeat("POST /default/default HTTP/1.1\r\nHost: x\r\n"+rawEvent+"Content-Length: 5\r\n\r\nhello", 2)},
	{"HTTP/1.0", "POST /default/default HTTP/1.0\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"HTTP/1.0 without length", "POST /default/default HTTP/1.0\r\n" + rawEvent + "\r\nhello"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"HTTP/1.1 without Host", "POST /default/default HTTP/1.1\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"two Hosts", "POST /default/default HTTP/1.1\r\nHost: x\r\nHost: y\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"two Content-Lengths that differ", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"},
	{"two Content-Lengths alike", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
	{"negative Content-Length", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: -5\r\n\r\nhello"},
	{"signed Content-Length", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: +5\r\n\r\nhello"},
	{"Content-Length out of range", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 99999999999999999999\r\n\r\nhello"},
	{"Content-Length and chunked", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"unknown Transfer-Encoding", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"chunked, disguised", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: \x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"two Transfer-Encodings", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"chunk size that is none", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n"},
	{"chunk size out of range", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n0\r\n\r\n"},
	{"bare LF in a chunk header", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"},
	{"chunk longer than its size", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"},
	{"bare LF between headers", "POST /default/default HTTP/1.1\nHost: x\n" + strings.ReplaceAll(rawEvent, "\r\n", "\n") + "Content-Length: 5\n\nhello"},
	{"bare CR in a header", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "X-Evil: a\rb\r\nContent-Length: 5\r\n\r\nhello"},
	{"folded header", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "X-Folded: a\r\n b\r\nContent-Length: 5\r\n\r\nhello"},
	{"folded attribute", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Ce-Folded: a\r\n\tb\r\nContent-Length: 5\r\n\r\nhello"},
	{"NUL in a header", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "X-Evil: a\x00b\r\nContent-Length: 5\r\n\r\nhello"},
	{"space before the colon", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length : 5\r\n\r\nhello"},
	{"header without a name", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + ": nothing\r\nContent-Length: 5\r\n\r\nhello"},
	{"header without a colon", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "nothing\r\nContent-Length: 5\r\n\r\nhello"},
	{"absolute form", "POST http://elsewhere/default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"absolute form without path", "POST http://elsewhere HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"authority form", "POST default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"two leading slashes", "POST //evil/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"two leading slashes before a broker", "POST //default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"dots", "POST /default/../default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"encoded slash and dots", "POST /default/default%2f..%2f..%2fetc HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"bad escape", "POST /default/%zz HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"space in the path", "POST /default/def ault HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"fragment", "POST /default/default#x HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"},
	{"CONNECT", "CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere:80\r\n\r\n"},
	{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"},
	{"Expect that nobody knows", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Expect: miracles\r\nContent-Length: 5\r\n\r\nhello"},
	{"trailer with an attribute", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Transfer-Encoding: chunked\r\nTrailer: Ce-Late\r\n\r\n5\r\nhello\r\n0\r\nCe-Late: x\r\n\r\n"},
	{"header block of 40 KiB", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "X-Long: " + strings.Repeat("a", 40<<10) + "\r\nContent-Length: 5\r\n\r\nhello"},
	{"header block of 31 KiB", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "X-Long: " + strings.Repeat("a", 31<<10) + "\r\nContent-Length: 5\r\n\r\nhello"},
	{"smuggled second request", "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"},
}

const rawEvent = "Ce-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /test\r\nCe-Type: t\r\n"

func TestRawRequestsGetTheAnswersOnRecord(t *testing.T) {
	var got bytes.Buffer
	for _, request := range rawRequests {
		var s stored
		d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
		codes, end := exchange(t, d.addr, request.bytes)
		fmt.Fprintf(&got, "%s: %s, then %s", request.name, strings.Join(codes, " "), end)
		for _, e := range s.all() {
			fmt.Fprintf(&got, "; stored %q", e.Data())
			for name, v := range e.Attributes() {
				switch name {
				case "id", "source", "type", "specversion", "knativebrokerttl", "knativearrivaltime":
				default:
					fmt.Fprintf(&got, " %s=%q", name, v.Text)
				}
			}
		}
		got.WriteByte('\n')
		_ = d.stop()
	}
	path := filepath.Join("testdata", "raw.golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("differs from %s; -update rewrites it.\ngot:\n%s\nwant:\n%s", path, got.Bytes(), want)
	}
}

// exchange sends bytes, ends its side and reads all answers. end tells who
// ended the connection: "open" where the server was ready for another request
// when we left.
func exchange(t *testing.T, addr, request string) (codes []string, end string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	end = "open"
	in := bufio.NewReader(conn)
	for {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return codes, end
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		codes = append(codes, fmt.Sprint(answer.StatusCode))
		if answer.Close {
			end = "closed"
		}
	}
}
