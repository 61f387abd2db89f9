package ingress_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/test/memhttp"
)

// inBubble runs an ingress in virtual time.
func inBubble(t *testing.T, o ingress.Options, so ingress.ServerOptions, story func(t *testing.T, dial func() net.Conn, stop func() error)) {
	synctest.Test(t, func(t *testing.T) {
		mem := memhttp.New()
		ln, err := mem.Listen("ingress:80")
		if err != nil {
			t.Fatal(err)
		}
		s := ingress.NewServer(ingress.New(o), so)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, ln) }()
		synctest.Wait()
		stopped := false
		stop := func() error {
			stopped = true
			cancel()
			return <-ended
		}
		story(t, func() net.Conn {
			conn, err := mem.DialContext(t.Context(), "tcp", "ingress:80")
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}, stop)
		if !stopped {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
	})
}

// until reads the answer and tells when it came, counted from start; status 0
// stands for a connection that ended without one.
func until(conn net.Conn, start time.Time) (status int, after time.Duration) {
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, time.Since(start)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, time.Since(start)
}

// drip writes text one byte each interval until it is all gone or nobody reads.
func drip(conn net.Conn, text string, interval time.Duration) {
	for i := range len(text) {
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return
		}
		time.Sleep(interval)
	}
}

const slowPost = "POST /default/default HTTP/1.1\r\nHost: x\r\n" + rawEvent

func TestSlowSendersAreCutOffAtExactTimes(t *testing.T) {
	tests := []struct {
		name   string
		at     string // sent at once
		drip   string // then, a byte a second
		status int
		after  time.Duration
	}{
		{"nothing at all", "", "", 0, 5 * time.Second},
		{"half a request line", "POST /def", "", 408, 5 * time.Second},
		{"headers a byte a second", "POST /default/default HTTP/1.1\r\n", strings.Repeat("X-A: b\r\n", 1000), 408, 5 * time.Second},
		{"no body", slowPost + "Content-Length: 100\r\n\r\n", "", 408, 10 * time.Second},
		{"no chunk", slowPost + "Transfer-Encoding: chunked\r\n\r\n", "", 408, 10 * time.Second},
		{"body a byte a second", slowPost + "Content-Length: 100\r\n\r\n", strings.Repeat("x", 100), 408, 10 * time.Second},
		{"body that just makes it", slowPost + "Content-Length: 10\r\n\r\n", strings.Repeat("x", 10), 202, 9 * time.Second},
		{"rest of a large body a byte a second", slowPost + "Content-Length: 200000\r\n\r\n" + strings.Repeat("x", 150_000), strings.Repeat("x", 50_000), 408, 10 * time.Second},
		{"chunks a byte a second", slowPost + "Transfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\nx\r\n", 100), 408, 10 * time.Second},
		{"chunked trailer a byte a second", slowPost + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", strings.Repeat("X-A: b\r\n", 100), 408, 10 * time.Second},
		// The broker is unknown: nobody waits for the body to say so.
		{"body for nobody", strings.Replace(slowPost, "/default/default", "/default/other", 1) + "Content-Length: 100\r\n\r\n", strings.Repeat("x", 100), 404, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s stored
			inBubble(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{}, func(t *testing.T, dial func() net.Conn, _ func() error) {
				conn, start := dial(), time.Now()
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					_, _ = io.WriteString(conn, tt.at)
					drip(conn, tt.drip, time.Second)
				})
				status, after := until(conn, start)
				if status != tt.status || after != tt.after {
					t.Errorf("status %d after %v, want %d after %v", status, after, tt.status, tt.after)
				}
				_ = conn.Close()
			})
			if want := map[int]int{202: 1}[tt.status]; len(s.all()) != want {
				t.Errorf("%d stored, want %d", len(s.all()), want)
			}
		})
	}
}

func TestLargeBodyMayTakeItsTimeAsLongAsItMoves(t *testing.T) {
	var s stored
	inBubble(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{}, func(t *testing.T, dial func() net.Conn, _ func() error) {
		conn, start := dial(), time.Now()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			_, _ = io.WriteString(conn, slowPost+"Content-Length: 1048576\r\n\r\n")
			for range 16 { // 64 KiB each 9 seconds
				_, _ = io.WriteString(conn, strings.Repeat("x", 64<<10))
				time.Sleep(9 * time.Second)
			}
		})
		status, after := until(conn, start)
		if status != 202 || after != 15*9*time.Second {
			t.Errorf("status %d after %v", status, after)
		}
		_ = conn.Close()
	})
	if got := len(s.one(t).Data()); got != 1<<20 {
		t.Errorf("%d bytes stored", got)
	}
}

func TestIdleConnectionIsClosedAndABusyOneIsNot(t *testing.T) {
	var s stored
	inBubble(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{}, func(t *testing.T, dial func() net.Conn, _ func() error) {
		conn := dial()
		in := bufio.NewReader(conn)
		for range 3 {
			_, _ = io.WriteString(conn, slowPost+"Content-Length: 5\r\n\r\nhello")
			if answer, err := http.ReadResponse(in, nil); err != nil || answer.StatusCode != 202 {
				t.Fatalf("%v, %v", answer, err)
			}
			time.Sleep(119 * time.Second)
		}
		start := time.Now()
		// Never sooner than after two minutes, and up to a 16th of that later.
		if _, err := in.ReadByte(); err != io.EOF || time.Since(start) < time.Second || time.Since(start) > 8500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		_ = conn.Close()
	})
}

// slowChannel stores only after a time, and does not care that the sender's
// request is over.
func slowChannel(d time.Duration) channel.Appender {
	return appenderFunc(func(ctx context.Context, _ channel.UID, events []event.Event) ([]channel.Stored, error) {
		time.Sleep(d)
		return make([]channel.Stored, len(events)), nil
	})
}

func TestSlowStorageIsWaitedForBeyondTheDeadlinesOfSenders(t *testing.T) {
	inBubble(t, ingress.Options{Routes: only(slowChannel(time.Minute))}, ingress.ServerOptions{}, func(t *testing.T, dial func() net.Conn, _ func() error) {
		conn := dial()
		in := bufio.NewReader(conn)
		for range 2 { // the connection is as good as before
			start := time.Now()
			_, _ = io.WriteString(conn, slowPost+"Content-Length: 5\r\n\r\nhello")
			answer, err := http.ReadResponse(in, nil)
			if err != nil || answer.StatusCode != 202 || time.Since(start) != time.Minute {
				t.Fatalf("%v, %v after %v", answer, err, time.Since(start))
			}
		}
		_ = conn.Close()
	})
}

func TestStopAnswersWhatIsInFlightAndTakesNothingNew(t *testing.T) {
	inBubble(t, ingress.Options{Routes: only(slowChannel(20 * time.Second))}, ingress.ServerOptions{}, func(t *testing.T, dial func() net.Conn, stop func() error) {
		busy, idle := dial(), dial()
		start := time.Now()
		_, _ = io.WriteString(busy, slowPost+"Content-Length: 5\r\n\r\nhello")
		time.Sleep(time.Second)
		ended := make(chan error, 1)
		go func() { ended <- stop() }()

		answer, err := http.ReadResponse(bufio.NewReader(busy), nil)
		if err != nil || answer.StatusCode != 202 || !answer.Close || time.Since(start) != 20*time.Second {
			t.Errorf("%+v, %v after %v", answer, err, time.Since(start))
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 21*time.Second {
			t.Errorf("stopping took until %v", took)
		}
		if status, _ := until(idle, start); status != 0 {
			t.Errorf("idle connection: status %d", status)
		}
		_, _ = busy.Close(), idle.Close()
	})
}

func TestStopHasABoundAndCutsOffWithoutA202(t *testing.T) {
	inBubble(t, ingress.Options{Routes: only(slowChannel(time.Hour)), AnswerTimeout: 2 * time.Hour}, ingress.ServerOptions{DrainTimeout: 30 * time.Second}, func(t *testing.T, dial func() net.Conn, stop func() error) {
		conn, start := dial(), time.Now()
		_, _ = io.WriteString(conn, slowPost+"Content-Length: 5\r\n\r\nhello")
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("stopped after %v", took)
		}
		if status, _ := until(conn, start); status != 0 {
			t.Errorf("status %d", status)
		}
		_ = conn.Close()
		time.Sleep(time.Hour) // the channel's
	})
}

func TestAThousandDrippersHoldLittleMemoryAndDelayNobody(t *testing.T) {
	var s stored
	inBubble(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{}, func(t *testing.T, dial func() net.Conn, _ func() error) {
		// Each announces the largest body there is. With what is announced set
		// aside, 64 of them would use up the budget.
		var wg sync.WaitGroup
		defer wg.Wait()
		for range 1000 {
			conn := dial()
			wg.Go(func() {
				_, _ = io.WriteString(conn, slowPost+"Content-Length: 1048576\r\n\r\n")
				drip(conn, strings.Repeat("x", 60), time.Second)
				_ = conn.Close()
			})
		}
		synctest.Wait()
		start := time.Now()
		for i := range 10 {
			conn := dial()
			_, _ = io.WriteString(conn, slowPost+"Content-Length: 5\r\n\r\nhello")
			if status, after := until(conn, start); status != 202 || after != 0 {
				t.Errorf("event %d: status %d after %v", i, status, after)
			}
			_ = conn.Close()
		}
	})
	if got := fmt.Sprint(len(s.all())); got != "10" {
		t.Errorf("%s stored", got)
	}
}
