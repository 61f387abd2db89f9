package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := New(server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRequestsHaveThePathsAndQueriesOfTheAPI(t *testing.T) {
	var asked string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.RequestURI
		_, _ = io.WriteString(w, "{}\n")
	})
	ctx := t.Context()
	for want, ask := range map[string]func() error{
		"GET /api/v1/brokers":                 func() error { _, err := c.Brokers(ctx); return err },
		"GET /api/v1/brokers/a/b":             func() error { _, err := c.Broker(ctx, "a", "b"); return err },
		"GET /api/v1/brokers/a%2Fb/c%3Fd%20e": func() error { _, err := c.Broker(ctx, "a/b", "c?d e"); return err },
		"GET /api/v1/triggers":                func() error { _, err := c.Triggers(ctx, TriggerQuery{}); return err },
		"GET /api/v1/triggers?broker=a%2Fb&namespace=c": func() error {
			_, err := c.Triggers(ctx, TriggerQuery{Broker: "a/b", Namespace: "c"})
			return err
		},
		"GET /api/v1/triggers/a/t": func() error { _, err := c.Trigger(ctx, "a", "t"); return err },
		"GET /api/v1/deadletters?cursor=x&limit=7&trigger=a%2Ft": func() error {
			_, err := c.DeadLetters(ctx, DeadLetterQuery{Trigger: "a/t", Limit: 7, Cursor: "x"})
			return err
		},
		"GET /api/v1/deadletters/a/t/0-1":  func() error { _, err := c.DeadLetter(ctx, "a", "t", "0-1"); return err },
		"GET /api/v1/problems":             func() error { _, err := c.Problems(ctx); return err },
		"POST /api/v1/brokers/a/b/explain": func() error { _, err := c.Explain(ctx, "a", "b", nil, nil); return err },
		"GET /api/v1/tail?broker=a%2Fb&filter=x+%3D+1": func() error {
			tail, err := c.Tail(ctx, TailQuery{Broker: "a/b", Filter: "x = 1"})
			if err == nil {
				err = tail.Close()
			}
			return err
		},
	} {
		if err := ask(); err != nil || asked != want {
			t.Errorf("asked %q, want %q: %v", asked, want, err)
		}
	}
	for _, name := range []string{"", ".", ".."} {
		if _, err := c.Broker(ctx, "a", name); err == nil {
			t.Errorf("the name %q was asked for as %s", name, asked)
		}
	}
}

func TestAddressMustBeAURL(t *testing.T) {
	for _, bad := range []string{"", "localhost:8088", "127.0.0.1:8088", "ftp://h", "http://", "http://h?x=1", "http://h#x", "http://%zz"} {
		if _, err := New(bad, nil); err == nil || !strings.Contains(err.Error(), DefaultURL) {
			t.Errorf("New(%q): %v, want an error with an example", bad, err)
		}
	}
	c, err := New("https://host/penstock/", nil)
	if err != nil || c.URL() != "https://host/penstock" {
		t.Errorf("%v %v", c, err)
	}
}

func TestErrorsSayWhatTheServerSaid(t *testing.T) {
	answer := func(code int, body string) error {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
		_, err := c.Brokers(t.Context())
		return err
	}
	e, ok := errors.AsType[*Error](answer(404, `{"error":"no broker","code":404}`))
	if !ok || e.Code != 404 || e.Message != "no broker" {
		t.Errorf("%+v", e)
	}
	e, ok = errors.AsType[*Error](answer(502, "<html>nginx</html>"))
	if !ok || e.Code != 502 || !strings.Contains(e.Message, "is that Penstock's API?") {
		t.Errorf("%+v", e)
	}
	if err := answer(200, "<html>"); err == nil || !strings.Contains(err.Error(), "is not Penstock's") {
		t.Errorf("a 200 that is no JSON: %v", err)
	}
	if err := answer(200, `"`+strings.Repeat("x", maxAnswer)+`"`); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless answer: %v", err)
	}
}

func TestUnreachableServerAndEndOfContextAreToldApart(t *testing.T) {
	c, err := New("http://127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Brokers(t.Context())
	if u, ok := errors.AsType[*Unreachable](err); !ok || u.URL != "http://127.0.0.1:1" || strings.Contains(u.Err.Error(), "/api/v1") {
		t.Errorf("nobody there: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Brokers(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

func TestTailYieldsLinesToTheEnd(t *testing.T) {
	const heartbeat = `{"heartbeat":"2026-03-01T12:00:00Z"}` + "\n"
	read := func(body string) (lines []v1.TailLine, err error) {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		tail, err := c.Tail(t.Context(), TailQuery{})
		if err != nil {
			return nil, err
		}
		defer tail.Close()
		for line, err := range tail.Lines() {
			if err != nil {
				return lines, err
			}
			lines = append(lines, line)
		}
		return lines, nil
	}
	long := strings.Repeat("x", 200_000) // longer than the read buffer
	lines, err := read(heartbeat + `{"id":"0-1","event":{"id":"` + long + `"}}` + "\n" + `{"skipped":3}` + "\n")
	if err != io.EOF || len(lines) != 3 || lines[0].Heartbeat == nil || len(lines[1].Event) < len(long) || lines[2].Skipped != 3 {
		t.Errorf("%d lines, %v", len(lines), err)
	}
	if lines, err = read(heartbeat + `{"id":"0-1","ev`); err != io.EOF || len(lines) != 1 {
		t.Errorf("cut inside a line: %d lines, %v, want the end without that line", len(lines), err)
	}
	if lines, err = read(heartbeat + "nonsense\n"); err == nil || err == io.EOF || len(lines) != 1 {
		t.Errorf("no JSON: %d lines, %v", len(lines), err)
	}
	if _, err = read(""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream that never stands: %v", err)
	}
	if _, err = read(heartbeat + strings.Repeat("x", maxLine+100_000)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless line: %v", err)
	}
}
