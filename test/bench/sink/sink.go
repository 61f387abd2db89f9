// Package sink is the subscriber of a benchmark: HTTP/1.1 on raw sockets that
// answers each event 202 with nothing, and remembers per path which ids came, how
// often one came again, and how long after it was sent. It reads
// the events of package load and nothing else: a request that it does not
// understand is counted and its connection closed. It can take its time to answer.
package sink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/test/bench/tally"
	"github.com/penstock-events/penstock/test/bench/wire"
)

// Sink is one subscriber with any number of paths. Its methods may be called
// at any time from any goroutine.
type Sink struct {
	paths sync.Map // string -> *path
	bad   atomic.Uint64
}

// path is what came in on one path since the last reset.
type path struct {
	ids     atomic.Pointer[tally.Bitset]
	fresh   atomic.Uint64 // events whose id is in ids
	again   atomic.Uint64
	latency tally.Histogram
	delay   atomic.Int64 // nanoseconds until the answer
}

var accepted = []byte("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

// headSize bounds the head of a request.
const headSize = 16 << 10

// Serve answers on l until ctx ends, closes it and every connection, and waits
// until they have ended.
func (s *Sink) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("sink: %w", err)
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			s.connection(conn)
		})
	}
}

func (s *Sink) connection(conn net.Conn) {
	reader := bufio.NewReaderSize(conn, headSize)
	for {
		head, err := wire.ReadHead(reader)
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				s.bad.Add(1)
			}
			return
		}
		e, ok := parseEvent(head)
		if !ok {
			s.bad.Add(1)
			return
		}
		p := s.path(e.path)
		if _, err := reader.Discard(len(head) + e.length); err != nil {
			return
		}
		p.take(e.id, time.Duration(time.Now().UnixNano()-e.sent))
		if delay := p.delay.Load(); delay > 0 {
			time.Sleep(time.Duration(delay))
		}
		if _, err := conn.Write(accepted); err != nil {
			return
		}
	}
}

// event is what the sink needs of a request.
type event struct {
	path   []byte
	id     uint64
	sent   int64
	length int
}

func parseEvent(head []byte) (e event, ok bool) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	method, line, _ := bytes.Cut(line, []byte(" "))
	e.path, _, ok = bytes.Cut(line, []byte(" "))
	if !ok || string(method) != "POST" {
		return e, false
	}
	var hasID, hasSent, hasLength bool
	for len(rest) > 2 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		var n uint64
		switch {
		case wire.Is(name, wire.HeaderID):
			e.id, hasID = wire.Number(bytes.TrimSpace(value))
		case wire.Is(name, wire.HeaderSent):
			n, hasSent = wire.Number(bytes.TrimSpace(value))
			e.sent = int64(n)
		case wire.Is(name, "Content-Length"):
			n, hasLength = wire.Number(bytes.TrimSpace(value))
			hasLength = hasLength && n < 1<<30
			e.length = int(n)
		}
	}
	return e, hasID && hasSent && hasLength
}

// Delay makes every answer on a path wait so long after its request, until the
// next Delay or Reset.
func (s *Sink) Delay(name string, d time.Duration) { s.path([]byte(name)).delay.Store(int64(d)) }

func (s *Sink) path(name []byte) *path {
	if p, ok := s.paths.Load(string(name)); ok {
		return p.(*path)
	}
	fresh := new(path)
	fresh.ids.Store(new(tally.Bitset))
	p, _ := s.paths.LoadOrStore(string(name), fresh)
	return p.(*path)
}

func (p *path) take(id uint64, age time.Duration) {
	p.latency.Add(age)
	if p.ids.Load().Add(id) {
		p.fresh.Add(1)
	} else {
		p.again.Add(1)
	}
}
