package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// stream is an open tail over a real connection.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	close func()
}

func openTail(t *testing.T, server *httptest.Server, query string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1/tail"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("tail answers %s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	s := &stream{t: t, lines: bufio.NewScanner(resp.Body), close: cancel}
	s.lines.Buffer(nil, 1<<20)
	if first, ok := s.next(); !ok || first.Heartbeat == nil {
		t.Fatalf("first line %+v, want a heartbeat", first)
	}
	return s
}

func (s *stream) next() (line v1.TailLine, ok bool) {
	s.t.Helper()
	if !s.lines.Scan() {
		return line, false
	}
	if err := json.Unmarshal(s.lines.Bytes(), &line); err != nil {
		s.t.Fatalf("%v: %s", err, s.lines.Bytes())
	}
	return line, true
}

// id is the CloudEvents id of the next line's event.
func (s *stream) id() string {
	s.t.Helper()
	line, ok := s.next()
	if !ok || line.Event == nil || line.ID == "" || line.Time == nil {
		s.t.Fatalf("line %+v, want an event with its id and time", line)
	}
	e, err := event.DecodeJSON(line.Event)
	if err != nil {
		s.t.Fatal(err)
	}
	return e.ID()
}

func TestTailShowsWhatIsAcceptedAfterItStands(t *testing.T) {
	r := start(t, brokerObject("default"), brokerObject("shop"))
	server := serve(t, options(r))
	r.append("default", newEvent(t, "id=before"))
	s := openTail(t, server, "")
	r.append("shop", newEvent(t, "id=elsewhere"))
	want := map[string]bool{}
	for i := range 50 { // over all shards
		id := fmt.Sprint(i)
		r.append("default", newEvent(t, "id="+id))
		want[id] = true
	}
	for len(want) > 0 {
		id := s.id()
		if !want[id] {
			t.Fatalf("%q came, want one of %v", id, want)
		}
		delete(want, id)
	}
}

func TestTailFiltersByTypeSourceAndCESQLTogether(t *testing.T) {
	r := start(t, brokerObject("default"))
	s := openTail(t, serve(t, options(r)), "?type=order.created&source=/shop&filter=region+%3D+%27eu%27")
	for _, attributes := range [][]string{
		{"id=1", "source=/shop", "region=us"}, {"id=2", "source=/other", "region=eu"}, {"id=3", "source=/shop"},
		{"id=4", "source=/shop", "region=eu", "type=order.paid"}, {"id=5", "source=/shop", "region=eu"},
	} {
		// One key, one shard: what comes first is read first.
		r.append("default", newEvent(t, append(attributes, "partitionkey=k")...))
	}
	if id := s.id(); id != "5" {
		t.Errorf("%q came first, want 5", id)
	}
}

func TestTailKeepsOneLineAnEventWhateverItsData(t *testing.T) {
	r := start(t, brokerObject("default"))
	s := openTail(t, serve(t, options(r)), "")
	r.append("default", newEvent(t, "id=1", "data={\n  \"a\": \"<&>\u2028\"\n}"))
	if id := s.id(); id != "1" {
		t.Errorf("id %q", id)
	}
}

func TestTailEndsWithTheServerAndWithTheBroker(t *testing.T) {
	r := start(t, brokerObject("default"), brokerObject("shop"))
	api := New(options(r))
	server := httptest.NewServer(api)
	defer server.Close()

	s := openTail(t, server, "?broker=default/shop")
	if err := r.log.Remove(t.Context(), "uid-shop"); err != nil {
		t.Fatal(err)
	}
	if line, ok := s.next(); !ok || !strings.Contains(line.Error, channel.ErrNoBroker.Error()) {
		t.Errorf("line %+v, want the end with its reason", line)
	}
	if line, ok := s.next(); ok {
		t.Errorf("line %+v after the end", line)
	}

	s = openTail(t, server, "")
	api.Close()
	api.Close()
	if line, ok := s.next(); !ok || !strings.Contains(line.Error, "stopping") {
		t.Errorf("line %+v, want that the broker stops", line)
	}
	if line, ok := s.next(); ok {
		t.Errorf("line %+v after the end", line)
	}
}

func TestTailsAreBoundedAndEndWithTheirClients(t *testing.T) {
	o := options(start(t, brokerObject("default")))
	o.MaxTails = 2
	api := New(o)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	t.Cleanup(api.Close)
	first := openTail(t, server, "")
	openTail(t, server, "")
	if got := refused(t, server, "/api/v1/tail", 503); !strings.Contains(got, "too many") {
		t.Errorf("third stream: %q", got)
	}
	first.close()
	api.tails <- struct{}{} // waits until the stream has given its place back
	<-api.tails
	openTail(t, server, "")
}

func TestTailOfAClientThatStopsReadingEnds(t *testing.T) {
	r := start(t, brokerObject("default"))
	o := options(r)
	o.MaxTails, o.Timeout = 1, 50*time.Millisecond
	api := New(o)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	t.Cleanup(api.Close)
	openTail(t, server, "") // and never reads on
	big := newEvent(t, "data="+strings.Repeat("x", 1<<20))
	for range 100 { // more than the buffers of the connection hold
		select {
		case api.tails <- struct{}{}:
			return // the stream has given its place back
		default:
			r.append("default", big)
		}
	}
	api.tails <- struct{}{}
}

// slowClient is a ResponseWriter whose Write takes as long as the test says.
type slowClient struct {
	header  http.Header
	release chan struct{} // each Write waits for one, or for the channel to close

	mu      sync.Mutex
	written bytes.Buffer
}

func (c *slowClient) Header() http.Header { return c.header }
func (c *slowClient) WriteHeader(int)     {}
func (c *slowClient) Flush()              {}
func (c *slowClient) Write(p []byte) (int, error) {
	<-c.release
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written.Write(p)
}

func (c *slowClient) lines(t *testing.T) (events int, skipped uint64, heartbeats int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for text := range strings.Lines(c.written.String()) {
		var line v1.TailLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		switch {
		case line.Event != nil:
			events++
		case line.Heartbeat != nil:
			heartbeats++
		}
		skipped += line.Skipped
	}
	return events, skipped, heartbeats
}

// tailInBubble runs a tail for a slowClient inside a bubble, and what the test
// does beside it.
func tailInBubble(t *testing.T, released bool, during func(*running, *slowClient)) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, brokerObject("default"))
		api := New(options(r))
		client := &slowClient{header: make(http.Header), release: make(chan struct{})}
		if released {
			close(client.release)
		}
		ctx, leave := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/api/v1/tail", nil)
			api.ServeHTTP(client, req)
		})
		synctest.Wait()
		during(r, client)
		leave()
		group.Wait()
	})
}

func TestSlowTailIsToldHowManyItMissed(t *testing.T) {
	tailInBubble(t, false, func(r *running, client *slowClient) {
		client.release <- struct{}{} // the first heartbeat
		synctest.Wait()
		const events = 5000
		e := newEvent(r.t, "data="+strings.Repeat("x", 1000))
		for range events {
			r.append("default", e)
		}
		synctest.Wait() // the writer is stuck in its first write, the readers have read all
		close(client.release)
		synctest.Wait()
		shown, skipped, _ := client.lines(r.t)
		if shown == 0 || skipped == 0 || shown+int(skipped) != events {
			r.t.Errorf("%d shown and %d skipped of %d", shown, skipped, events)
		}
		if bound := 2*tailEvents + 200; shown > bound {
			r.t.Errorf("%d events waited for a slow client, want at most about %d", shown, bound)
		}
		r.append("default", newEvent(r.t, "id=after"))
		synctest.Wait()
		if again, _, _ := client.lines(r.t); again != shown+1 {
			r.t.Errorf("an event after the gap did not come: %d shown, before it %d", again, shown)
		}
	})
}

func TestSlowTailHoldsBytesWithinItsBound(t *testing.T) {
	tailInBubble(t, false, func(r *running, client *slowClient) {
		client.release <- struct{}{}
		synctest.Wait()
		e := newEvent(r.t, "data="+strings.Repeat("x", 1<<20))
		for range 20 {
			r.append("default", e)
			synctest.Wait()
		}
		close(client.release)
		synctest.Wait()
		shown, skipped, _ := client.lines(r.t)
		if shown+int(skipped) != 20 || shown > 2*tailBytes>>20+1 || shown < 2 {
			r.t.Errorf("%d MiB shown and %d skipped", shown, skipped)
		}
	})
}

func TestQuietTailSendsHeartbeats(t *testing.T) {
	tailInBubble(t, true, func(r *running, client *slowClient) {
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if _, _, heartbeats := client.lines(r.t); heartbeats != 4 {
			r.t.Errorf("%d heartbeats in 35 s, want one at once and one every 10 s", heartbeats)
		}
		r.append("default", newEvent(r.t))
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if _, _, heartbeats := client.lines(r.t); heartbeats != 4 {
			r.t.Errorf("%d heartbeats, want none within 10 s after an event", heartbeats)
		}
	})
}

// gapped is a log that cannot read one range of its first shard.
type gapped struct {
	channel.Reader
	once sync.Once
}

func (g *gapped) Read(ctx context.Context, shard channel.ShardID, from channel.Position, buf []channel.Record) (records []channel.Record, next channel.Position, err error) {
	g.once.Do(func() {
		err = &channel.GapError{Shard: shard, From: from, To: from + 3, Cause: errors.New("bad checksum")}
	})
	if err != nil {
		return buf, from + 3, err
	}
	<-ctx.Done()
	return buf, from, ctx.Err()
}

func TestTailTellsOfEventsThatCannotBeRead(t *testing.T) {
	wanted, err := tailFilter(nil)
	if err != nil {
		t.Fatal(err)
	}
	stream := &tailStream{wanted: wanted, wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { stream.read(ctx, &gapped{}, 0, 5) })
	<-stream.wake
	batch := stream.take()
	cancel()
	group.Wait()
	if len(batch.lines) != 1 || !strings.Contains(batch.lines[0].view().Error, "positions 5 to 7 cannot be read: bad checksum") || batch.ended {
		t.Errorf("batch %+v, want the gap, and the stream going on", batch)
	}
}
