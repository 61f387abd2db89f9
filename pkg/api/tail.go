package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
)

const (
	// tailEvents and tailBytes bound what waits for a slow reader of a stream.
	// What does not fit is counted, and the reader is told.
	tailEvents = 1000
	tailBytes  = 4 << 20

	// tailRead is how many records a stream takes from a shard at a time.
	tailRead = 256
)

// tail streams the events accepted from now on. It reads the channel as
// dispatch does and keeps no position in it: a tail holds nothing back and
// is forgotten when it ends.
func (s *Server) tail(w http.ResponseWriter, r *http.Request, q url.Values) error {
	broker := q.Get("broker")
	if broker == "" {
		broker = "default/default"
	}
	namespace, name, err := fullName("broker", broker)
	if err != nil {
		return err
	}
	b, err := findBroker(s.opts.Source.Snapshot(), namespace, name)
	if err != nil {
		return err
	}
	wanted, err := tailFilter(q)
	if err != nil {
		return err
	}
	log, ok := s.opts.Source.Log(b.UID)
	if !ok {
		return &problem{code: http.StatusServiceUnavailable, text: "the channel of broker " + broker + " is not open", retryAfter: 1}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if r.Method == http.MethodHead {
		return nil
	}
	select {
	case s.tails <- struct{}{}:
		defer func() { <-s.tails }()
	default:
		return &problem{code: http.StatusServiceUnavailable, text: "too many streams are open: end one", retryAfter: 5}
	}

	ctx, cancel := context.WithCancel(r.Context())
	stream := &tailStream{wanted: wanted, wake: make(chan struct{}, 1)}
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for _, shard := range log.Shards() {
		_, next := log.Range(shard)
		readers.Go(func() { stream.read(ctx, log, shard, next) })
	}
	s.writeTail(ctx, w, stream)
	return nil
}

// tailFilter joins the parameters into one filter: all of them must match.
func tailFilter(q url.Values) (*filter.Filter, error) {
	var spec filter.Spec
	for _, attribute := range []string{event.AttrType, event.AttrSource} {
		if want := q.Get(attribute); want != "" {
			spec.Filters = append(spec.Filters, filter.Dialect{Exact: map[string]string{attribute: want}})
		}
	}
	if expression := q.Get("filter"); expression != "" {
		spec.Filters = append(spec.Filters, filter.Dialect{CESQL: expression})
	}
	f, err := filter.Compile(spec)
	if problem, ok := errors.AsType[*filter.Error](err); ok {
		return nil, refuse(http.StatusBadRequest, "parameter filter: %s", problem.Reason)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "parameter filter: %v", err)
	}
	return f, nil
}

// writeTail writes what the stream's readers collect, until the client has
// gone or is so slow that one write takes longer than Options.Timeout.
func (s *Server) writeTail(ctx context.Context, w http.ResponseWriter, stream *tailStream) {
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // passing it would end the request
	out := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	write := func(line v1.TailLine) error {
		// Not every ResponseWriter has deadlines; those of connections do.
		_ = conn.SetWriteDeadline(time.Now().Add(s.opts.Timeout))
		return enc.Encode(line)
	}
	flush := func() error {
		if err := out.Flush(); err != nil {
			return err
		}
		return conn.Flush()
	}
	now := s.opts.Now()
	if write(v1.TailLine{Heartbeat: &now}) != nil || flush() != nil {
		return
	}
	quiet := time.NewTicker(s.opts.Heartbeat)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.closing:
			_ = write(v1.TailLine{Error: "the broker is stopping"})
			_ = flush()
			return
		case <-stream.wake:
		case <-quiet.C:
			now := s.opts.Now()
			if write(v1.TailLine{Heartbeat: &now}) != nil || flush() != nil {
				return
			}
			continue
		}
		batch := stream.take()
		for _, line := range batch.lines {
			if write(line.view()) != nil {
				return
			}
		}
		if batch.skipped > 0 && write(v1.TailLine{Skipped: batch.skipped}) != nil {
			return
		}
		if flush() != nil || batch.ended {
			return
		}
		quiet.Reset(s.opts.Heartbeat)
	}
}

// tailStream is what readers of the shards hand to the writer of a stream.
type tailStream struct {
	wanted *filter.Filter
	wake   chan struct{} // holds one token while there is something to take

	mu      sync.Mutex
	waiting tailBatch
	bytes   int
}

// tailBatch is what waits to be written. Everything skipped came after its lines.
type tailBatch struct {
	lines   []tailLine
	skipped uint64
	ended   bool // a line says why
}

type tailLine struct {
	id      channel.ID
	record  channel.Record
	problem string // instead of a record
}

func (l tailLine) view() v1.TailLine {
	if l.problem != "" {
		return v1.TailLine{Error: l.problem}
	}
	text, err := l.record.Event.MarshalJSON()
	if err != nil {
		return v1.TailLine{Error: "event " + l.id.String() + ": " + err.Error()}
	}
	return v1.TailLine{ID: l.id.String(), Time: &l.record.Time, Event: text}
}

// read follows one shard until ctx ends or the log closes.
func (t *tailStream) read(ctx context.Context, log channel.Reader, shard channel.ShardID, from channel.Position) {
	buf := make([]channel.Record, 0, tailRead)
	for {
		records, next, err := log.Read(ctx, shard, from, buf[:0])
		from = next
		for _, r := range records {
			if t.wanted.Match(r.Event) {
				t.put(tailLine{id: channel.ID{Shard: shard, Position: r.Position}, record: r}, r.Event.Size())
			}
		}
		clear(records) // an idle stream must not hold events
		if ctx.Err() != nil {
			return
		}
		if gap, ok := errors.AsType[*channel.GapError](err); ok {
			t.put(tailLine{problem: gap.Error()}, 0)
			continue
		}
		if err != nil {
			t.end(err)
			return
		}
	}
}

// put adds a line, or counts it where there is no room.
func (t *tailStream) put(line tailLine, size int) {
	t.mu.Lock()
	full := len(t.waiting.lines) >= tailEvents || (t.bytes+size > tailBytes && len(t.waiting.lines) > 0)
	if full || t.waiting.skipped > 0 {
		t.waiting.skipped++
	} else {
		t.waiting.lines = append(t.waiting.lines, line)
		t.bytes += size
	}
	t.mu.Unlock()
	t.notify()
}

// end makes the writer end the stream with a line that says why.
func (t *tailStream) end(err error) {
	t.mu.Lock()
	if !t.waiting.ended {
		t.waiting.ended = true
		t.waiting.lines = append(t.waiting.lines, tailLine{problem: "the stream ends: " + err.Error()})
	}
	t.mu.Unlock()
	t.notify()
}

func (t *tailStream) take() tailBatch {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := t.waiting
	t.waiting, t.bytes = tailBatch{}, 0
	return batch
}

func (t *tailStream) notify() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}
