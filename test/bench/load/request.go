package load

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/bench/wire"
)

// request is one POST whose id, type and send time are overwritten in place.
type request struct {
	bytes          []byte
	id, kind, sent []byte // parts of bytes
}

// newRequest is an event in binary mode with a JSON body of exactly size
// bytes, at least 2.
func newRequest(host, path string, size int) *request {
	size = max(size, 2)
	body := `"` + strings.Repeat("penstock.", size/9+1)[:size-2] + `"`
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\n", path, host)
	fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	b.WriteString("Ce-Specversion: 1.0\r\nCe-Source: /penstock/bench\r\n")
	field := func(name, prefix string, digits int) (at int) {
		b.WriteString(name + ": " + prefix)
		at = b.Len()
		b.WriteString(strings.Repeat("0", digits) + "\r\n")
		return at
	}
	kind := field("Ce-Type", wire.TypePrefix, wire.TypeDigits)
	id := field(wire.HeaderID, "", wire.IDDigits)
	sent := field(wire.HeaderSent, "", wire.SentDigits)
	b.WriteString("\r\n" + body)
	r := &request{bytes: b.Bytes()}
	r.kind = r.bytes[kind : kind+wire.TypeDigits]
	r.id = r.bytes[id : id+wire.IDDigits]
	r.sent = r.bytes[sent : sent+wire.SentDigits]
	return r
}

func (r *request) set(id uint64, kind int, sent int64) {
	wire.PutNumber(r.id, id)
	wire.PutNumber(r.kind, uint64(kind))
	wire.PutNumber(r.sent, uint64(sent))
}

// answer is the head of a response.
type answer struct {
	status int
	length int // of the body
	last   bool

	retryAfter time.Duration // 0 if it is not told in seconds
}

// parseAnswer reads a response head, from the status line to the empty line.
func parseAnswer(head []byte) (a answer, err error) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return a, fmt.Errorf("status line %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, fmt.Errorf("status line %q", line)
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case wire.Is(name, "Content-Length"):
			n, ok := wire.Number(value)
			if !ok || n > 1<<20 {
				return a, fmt.Errorf("header %q", line)
			}
			a.length = int(n)
		case wire.Is(name, "Retry-After"):
			// A date, which other systems may send, says no more here than nothing.
			if n, ok := wire.Number(value); ok && n < 1<<30 {
				a.retryAfter = time.Duration(n) * time.Second
			}
		case wire.Is(name, "Connection"):
			a.last = bytes.EqualFold(value, []byte("close"))
		case wire.Is(name, "Transfer-Encoding"):
			return a, fmt.Errorf("header %q: only bodies with a length are read", line)
		}
	}
	return a, nil
}
