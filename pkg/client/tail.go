package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

// maxLine bounds one line of a tail: the largest event in base64 and quotes.
const maxLine = 16 << 20

// TailQuery says what to watch.
type TailQuery struct {
	Broker string // namespace/name; "" means default/default
	Filter string // a CESQL expression; "" for all events
	Type   string // exact type; "" for any
	Source string // exact source; "" for any
}

// Tail opens a live stream of accepted events. When it returns the stream
// stands: an event accepted from now on is in it, or counted as skipped. The
// stream ends with ctx, with Close, or when the server ends it.
func (c *Client) Tail(ctx context.Context, q TailQuery) (*Tail, error) {
	query := values("broker", q.Broker, "filter", q.Filter, "type", q.Type, "source", q.Source)
	req, err := c.request(ctx, http.MethodGet, query, nil, "tail")
	if err != nil {
		return nil, err
	}
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	t := &Tail{client: c, body: resp.Body, lines: bufio.NewReaderSize(resp.Body, 64<<10)}
	if t.first, err = t.next(); err != nil {
		resp.Body.Close()
		if errors.Is(err, io.EOF) {
			err = c.unreachable(io.ErrUnexpectedEOF)
		}
		return nil, err
	}
	return t, nil
}

// Tail is an open stream. Close it.
type Tail struct {
	client *Client
	body   io.ReadCloser
	lines  *bufio.Reader
	first  v1.TailLine
}

// Lines yields what the server sends, heartbeats included, until the stream
// ends: io.EOF, last, if the server ended it, else the error that did. Breaking
// off the loop is enough to stop. It may be ranged over once.
func (t *Tail) Lines() iter.Seq2[v1.TailLine, error] {
	return func(yield func(v1.TailLine, error) bool) {
		if !yield(t.first, nil) {
			return
		}
		for {
			line, err := t.next()
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the stream. It may be called at any time, also by another goroutine.
func (t *Tail) Close() error { return t.body.Close() }

func (t *Tail) next() (v1.TailLine, error) {
	var line v1.TailLine
	raw, err := readLine(t.lines, maxLine)
	if errors.Is(err, io.EOF) {
		return line, io.EOF
	}
	if err != nil {
		return line, t.client.unreachable(err)
	}
	if err := json.Unmarshal(raw, &line); err != nil {
		return line, fmt.Errorf("answer of %s is not Penstock's: %w", t.client.URL(), err)
	}
	return line, nil
}

// readLine reads up to a newline, at most limit bytes. The last line of a
// stream that was cut inside it is io.EOF as well: it is not whole.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case len(line) > limit:
			return nil, fmt.Errorf("a line of the stream is longer than %d bytes", limit)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
