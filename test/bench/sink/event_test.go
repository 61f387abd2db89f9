package sink

import (
	"bufio"
	"bytes"
	"net/http"
	"strconv"
	"testing"
)

func TestAnEventIsReadWhateverTheCaseAndOrderOfItsHeaders(t *testing.T) {
	for _, head := range []string{
		"POST /one HTTP/1.1\r\nHost: sink\r\nCe-Id: 0000000000000042\r\nCe-Sentns: 1790000000000000001\r\nContent-Length: 1024\r\n\r\n",
		"POST /one HTTP/1.1\r\ncontent-length:1024\r\nce-sentns:  1790000000000000001 \r\nCE-ID:42\r\nce-type: x\r\n\r\n",
	} {
		e, ok := parseEvent([]byte(head))
		if !ok || string(e.path) != "/one" || e.id != 42 || e.sent != 1_790_000_000_000_000_001 || e.length != 1024 {
			t.Errorf("%q: %+v, %v", head, e, ok)
		}
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	const rest = "Ce-Sentns: 1\r\nContent-Length: 0\r\n\r\n"
	for _, head := range []string{
		"", "\r\n\r\n", "POST\r\n\r\n",
		"PUT /one HTTP/1.1\r\nCe-Id: 1\r\n" + rest,
		"POST /one HTTP/1.1\r\n" + rest,
		"POST /one HTTP/1.1\r\nCe-Id: 0x1\r\n" + rest,
		"POST /one HTTP/1.1\r\nCe-Id: 12345678901234567890\r\n" + rest,
		"POST /one HTTP/1.1\r\nCe-Id: 1\r\nContent-Length: 0\r\n\r\n",
		"POST /one HTTP/1.1\r\nCe-Id: 1\r\nCe-Sentns: 1\r\n\r\n",
		"POST /one HTTP/1.1\r\nCe-Id: 1\r\nCe-Sentns: 1\r\nContent-Length: 9999999999\r\n\r\n",
	} {
		if e, ok := parseEvent([]byte(head)); ok {
			t.Errorf("%q: %+v, want it refused", head, e)
		}
	}
}

// What the sink takes for an event, net/http reads the same way.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte("POST /one HTTP/1.1\r\nHost: sink\r\nCe-Id: 42\r\nCe-Sentns: 17\r\nContent-Length: 3\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nce-id: 0\r\nce-sentns: 0\r\ncontent-length: 0\r\n\r\n"))
	f.Add([]byte("POST x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		e, ok := parseEvent(head)
		if !ok || bytes.Index(head, []byte("\r\n\r\n")) != len(head)-4 {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil || req.ContentLength < 0 || len(req.Header["Ce-Id"]) != 1 || len(req.Header["Content-Length"]) > 1 {
			return
		}
		if id, err := strconv.ParseUint(req.Header.Get("Ce-Id"), 10, 64); err != nil || id != e.id {
			t.Errorf("id %d, net/http has %q", e.id, req.Header.Get("Ce-Id"))
		}
		if req.ContentLength != int64(e.length) {
			t.Errorf("length %d, net/http has %d", e.length, req.ContentLength)
		}
	})
}
