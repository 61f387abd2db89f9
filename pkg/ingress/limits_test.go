package ingress_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
)

func TestBodyTooLargeIsRefusedBeforeItIsSent(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
	for _, length := range []string{"1048577", "1000000000", "9223372036854775807"} {
		// Not a byte of the body is sent, and the answer is there.
		answer := raw(t, d.addr, "POST /default/default HTTP/1.1\r\nHost: x\r\n"+rawEvent+"Content-Length: "+length+"\r\n\r\n")
		if answer == nil || answer.StatusCode != 413 || !answer.Close {
			t.Errorf("%s bytes: %+v", length, answer)
		}
	}
	d.wantMetric(t, `penstock_events_received_total{broker="default/default",code="413"} 3`)
}

func TestSenderThatExpects100IsRefusedWithoutIt(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
	const headers = " HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Expect: 100-continue\r\n"
	for request, want := range map[string]int{
		"POST /default/default" + headers + "Content-Length: 2000000\r\n\r\n": 413,
		"POST /default/other" + headers + "Content-Length: 5\r\n\r\n":         404,
		"POST /default/default" + headers + "Content-Length: 5\r\n\r\n":       100,
	} {
		if answer := raw(t, d.addr, request); answer == nil || answer.StatusCode != want {
			t.Errorf("want %d, got %+v", want, answer)
		}
	}
}

func TestEndlessChunkedBodyIsCutOff(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", d.addr)
			if err != nil {
				t.Error(err)
				return
			}
			answered := make(chan struct{})
			defer func() {
				<-answered
				_ = conn.Close()
			}()
			wg.Go(func() {
				defer close(answered)
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || answer.StatusCode != 413 || !answer.Close {
					t.Errorf("answer: %+v, %v", answer, err)
				}
			})
			_, _ = io.WriteString(conn, "POST /default/default HTTP/1.1\r\nHost: x\r\n"+rawEvent+"Transfer-Encoding: chunked\r\n\r\n")
			chunk := "10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n"
			sent := 0
			for err == nil && sent < 100<<20 {
				var n int
				n, err = io.WriteString(conn, chunk)
				sent += n
			}
			// What the sender could write beyond the bound is what sockets buffer
			// until the connection is cut.
			if sent >= 100<<20 {
				t.Errorf("%d bytes were taken", sent)
			}
		})
	}
	wg.Wait()
	if len(s.all()) != 0 {
		t.Error("an endless event was stored")
	}
	d.wantMetric(t, "penstock_ingress_body_bytes 0")
	d.wantMetric(t, `penstock_events_received_total{broker="default/default",code="413"} 20`)
}

func TestBodyOfExactlyTheBoundPassesAndOneByteMoreDoesNot(t *testing.T) {
	for _, bound := range []int64{1, 100, 4096, 5000, 16384} {
		var s stored
		d := open(t, ingress.Options{Routes: only(&s), MaxBody: bound}, ingress.ServerOptions{})
		for _, tt := range []struct {
			length int64
			code   int
		}{{bound, 202}, {bound + 1, 413}} {
			body := strings.Repeat("x", int(tt.length))
			for _, r := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} {
				if got := send(t, "POST", d.url, r, binary()...); got.StatusCode != tt.code {
					t.Errorf("bound %d, body %d, %T: status %d, want %d", bound, tt.length, r, got.StatusCode, tt.code)
				}
			}
		}
		if len(s.all()) != 2 {
			t.Errorf("%d stored, want 2", len(s.all()))
		}
	}
}

func TestBodiesInFlightShareOneBudget(t *testing.T) {
	large := strings.Repeat("x", 8000) // more than comes together with its head
	entered, release := make(chan struct{}), make(chan struct{})
	slow := appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
		entered <- struct{}{}
		<-release
		return nil, nil
	})
	d := open(t, ingress.Options{Routes: only(slow), MaxInFlight: 40_000}, ingress.ServerOptions{})
	var wg sync.WaitGroup
	for range 2 { // 16 KiB each
		wg.Go(func() {
			if got := send(t, "POST", d.url, strings.NewReader(large), binary()...); got.StatusCode != 202 {
				t.Errorf("status %d", got.StatusCode)
			}
		})
		<-entered
	}
	d.wantMetric(t, "penstock_ingress_body_bytes 32768")
	got := send(t, "POST", d.url, strings.NewReader(large), binary()...)
	if got.StatusCode != 429 || got.Header.Get("Retry-After") != "1" {
		t.Errorf("status %d, Retry-After %q", got.StatusCode, got.Header.Get("Retry-After"))
	}
	// An event without a body needs none of the budget, nor one that comes with its head.
	for _, body := range []string{"", "hello"} {
		wg.Go(func() {
			if got := send(t, "POST", d.url, strings.NewReader(body), binary()...); got.StatusCode != 202 {
				t.Errorf("status %d", got.StatusCode)
			}
		})
		<-entered
	}
	close(release)
	wg.Wait()
	go func() { <-entered }()
	if got := send(t, "POST", d.url, strings.NewReader(large), binary()...); got.StatusCode != 202 {
		t.Errorf("with the budget free again: status %d", got.StatusCode)
	}
	d.wantMetric(t, "penstock_ingress_body_bytes 0")
}

func TestBodyThatOutgrowsTheBudgetGivesItBack(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s), MaxInFlight: 30_000}, ingress.ServerOptions{})
	for range 3 {
		if got := send(t, "POST", d.url, strings.NewReader(strings.Repeat("x", 20_000)), binary()...); got.StatusCode != 429 {
			t.Errorf("status %d, want 429", got.StatusCode)
		}
	}
	if got := send(t, "POST", d.url, strings.NewReader(strings.Repeat("x", 10_000)), binary()...); got.StatusCode != 202 {
		t.Errorf("status %d, want 202", got.StatusCode)
	}
	d.wantMetric(t, "penstock_ingress_body_bytes 0")
}

func TestConnectionsOverABoundGetAnAnswer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		o     ingress.ServerOptions
		code  int
		bound string
	}{
		{"in all", ingress.ServerOptions{MaxConns: 2, MaxConnsPerClient: 10}, 503, "total"},
		{"of one client", ingress.ServerOptions{MaxConns: 10, MaxConnsPerClient: 2}, 429, "client"},
		{"half of all by default", ingress.ServerOptions{MaxConns: 4}, 429, "client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s stored
			d := open(t, ingress.Options{Routes: only(&s)}, tt.o)
			request := "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent + "Content-Length: 5\r\n\r\nhello"
			hold := func() net.Conn {
				conn, err := net.Dial("tcp", d.addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				return conn
			}
			post := func(conn net.Conn) *http.Response {
				_, _ = io.WriteString(conn, request)
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				return answer
			}
			first, second := hold(), hold()
			for _, conn := range []net.Conn{first, second} {
				if answer := post(conn); answer.StatusCode != 202 {
					t.Fatalf("status %d", answer.StatusCode)
				}
			}
			refused := post(hold())
			text, err := io.ReadAll(refused.Body)
			if refused.StatusCode != tt.code || refused.Header.Get("Retry-After") != "1" || !refused.Close || err != nil || !strings.HasSuffix(string(text), "\n") {
				t.Errorf("status %d, headers %v, body %q, %v", refused.StatusCode, refused.Header, text, err)
			}
			d.wantMetric(t, fmt.Sprintf(`penstock_ingress_connections_refused_total{bound="%s"} 1`, tt.bound))
			d.wantMetric(t, `penstock_ingress_connections 2`)

			// Those within the bound are not disturbed, and a place that is left is free.
			if answer := post(second); answer.StatusCode != 202 {
				t.Errorf("status %d", answer.StatusCode)
			}
			_ = first.Close()
			for { // the server sees the end of a connection in its own time
				if strings.Contains(d.metrics(), "\npenstock_ingress_connections 1\n") {
					break
				}
				runtime.Gosched()
			}
			if answer := post(hold()); answer.StatusCode != 202 {
				t.Errorf("status %d", answer.StatusCode)
			}
			if got := len(s.all()); got != 4 {
				t.Errorf("%d stored, want 4", got)
			}
		})
	}
}

func TestOneClientsConnectionsDoNotCountAgainstAnother(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{MaxConns: 10, MaxConnsPerClient: 1})
	from := func(ip string) (*http.Response, error) {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", d.addr)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "POST /default/default HTTP/1.1\r\nHost: x\r\n"+rawEvent+"Content-Length: 0\r\n\r\n")
		return http.ReadResponse(bufio.NewReader(conn), nil)
	}
	var codes []int
	for _, ip := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.2"} {
		answer, err := from(ip)
		if err != nil {
			t.Skipf("this system has no second loopback address: %v", err)
		}
		codes = append(codes, answer.StatusCode)
	}
	if got := fmt.Sprint(codes); got != "[202 429 202]" {
		t.Error(got)
	}
}

func TestInventedNamesMakeNoSeriesAndNoLogLines(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
	try := func(i int) {
		send(t, "POST", fmt.Sprintf("http://%s/ns%d/broker%d", d.addr, i, i), nil, binary()...)
		send(t, "POST", d.url, nil, "Ce-Specversion: 1.0", fmt.Sprintf("Ce-Id: %d", i), fmt.Sprintf("Ce-Source: /s/%d", i), fmt.Sprintf("Ce-Type: t%d", i))
		send(t, "POST", d.url, nil, binary(fmt.Sprintf("Ce-Ext%d: x", i), fmt.Sprintf("Ce-Specversion: %d", i))...)
		send(t, fmt.Sprintf("M%d", i), d.url+"?a;b", nil)
	}
	try(0)
	series := strings.Count(d.metrics(), "\n")
	for i := range 100 {
		try(i)
	}
	for i := range 10_000 { // without the network, for speed
		r := httptest.NewRequest("POST", fmt.Sprintf("/ns%d/broker%d", i, i), nil)
		d.handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	if now := strings.Count(d.metrics(), "\n"); now != series {
		t.Errorf("%d lines of metrics became %d", series, now)
	}
	d.wantMetric(t, `penstock_events_received_total{broker="unknown",code="404"} 10101`)
	if d.log.String() != "" {
		t.Errorf("log: %.500s", d.log)
	}
}

func TestReasonCannotForgeALine(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
	for _, hostile := range []string{"a\x1b[2J", "a%0d%0aHTTP/1.1 200 OK", strings.Repeat("x", 10_000), "\u202e", "\xff"} {
		for _, headers := range [][]string{
			binary("Ce-Knativebrokerttl: " + hostile),
			{"Ce-Specversion: " + hostile, "Ce-Id: 1", "Ce-Source: /s", "Ce-Type: t"},
			binary("Ce-Time: " + hostile),
		} {
			r, err := http.NewRequest("POST", d.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range headers {
				name, value, _ := strings.Cut(h, ": ")
				r.Header.Add(name, value)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				continue // the client does not send such a value
			}
			text, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != 400 || strings.Count(string(text), "\n") != 1 || strings.ContainsAny(string(text), "\x1b\r\u202e") || len(text) > 300 {
				t.Errorf("%q: %d %q", hostile, answer.StatusCode, text)
			}
		}
	}
}

func TestUnknownOutcomesAreLoggedWithoutAFlood(t *testing.T) {
	hostile := errors.New("append: \n{\"level\":\"INFO\"}" + strings.Repeat("x", 1000))
	d := open(t, ingress.Options{Routes: only(appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
		return nil, hostile
	}))}, ingress.ServerOptions{})
	for range 100 {
		send(t, "POST", d.url, nil, binary()...)
	}
	// One a second; the hundred may straddle a few on a slow machine.
	if n := strings.Count(d.log.String(), "\n"); n < 1 || n > 20 {
		t.Errorf("%d lines: %.300s", n, d.log)
	}
	if len(d.log.String()) > 20*600 {
		t.Error("the error's text is not cut")
	}
}
