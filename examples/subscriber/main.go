// Command subscriber prints the CloudEvents that it gets, one line each.
//
//	go run ./examples/subscriber --listen :9001
//
// It fails on request. With --status 503 it answers so always, with
// --fail-first 2 the first two attempts for each event, and a request for
// /status/422 is answered with 422, so that one subscriber can be a good one
// and a bad one.
//
// With --metrics-listen :8080 it shows Prometheus what it got, on /metrics.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("subscriber", flag.ContinueOnError)
	listen := flags.String("listen", ":9001", "address to listen on")
	status := flags.Int("status", http.StatusNoContent, "status of every answer")
	failFirst := flags.Int("fail-first", 0, "answer the first N attempts for each event with --fail-status")
	failStatus := flags.Int("fail-status", http.StatusServiceUnavailable, "status of --fail-first")
	metricsListen := flags.String("metrics-listen", "", "address of /metrics; empty serves none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for name, v := range map[string]int{"--status": *status, "--fail-status": *failStatus} {
		if v < 200 || v > 599 {
			return fmt.Errorf("%s %d: want a status from 200 to 599", name, v)
		}
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	s := &subscriber{out: out, status: *status, failFirst: *failFirst, failStatus: *failStatus, attempts: make(map[string]int)}
	s.received = promauto.With(registry).NewCounterVec(prometheus.CounterOpts{
		Name: "subscriber_events_total", Help: "Events received, by the status they were answered with."}, []string{"code"})
	s.duration = promauto.With(registry).NewHistogram(prometheus.HistogramOpts{
		Name: "subscriber_event_duration_seconds", Help: "From the beginning of a request to its answer."})
	if *metricsListen != "" {
		metrics, err := net.Listen("tcp", *metricsListen)
		if err != nil {
			return errors.Join(err, ln.Close())
		}
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
		defer server.Close()
		go func() { _ = server.Serve(metrics) }()
		fmt.Fprintf(out, "metrics on http://%s/metrics\n", metrics.Addr())
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Fprintf(out, "listening on %s\n", ln.Addr())
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// subscriber answers requests and prints them.
type subscriber struct {
	status     int
	failFirst  int
	failStatus int
	received   *prometheus.CounterVec
	duration   prometheus.Histogram

	mu       sync.Mutex
	out      io.Writer
	attempts map[string]int // by path and event, while --fail-first counts them
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	event, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		s.received.WithLabelValues("400").Inc()
		http.Error(w, "not a CloudEvent: "+err.Error(), http.StatusBadRequest)
		return
	}
	status := s.answer(r.URL.Path, event.Source(), event.ID())

	s.mu.Lock()
	// %q: what comes from outside must not steer the terminal.
	fmt.Fprintf(s.out, "%d %s id=%q source=%q type=%q data=%s\n",
		status, r.URL.Path, event.ID(), event.Source(), event.Type(), printable(event.Data()))
	s.mu.Unlock()
	s.received.WithLabelValues(strconv.Itoa(status)).Inc()
	w.WriteHeader(status)
	s.duration.Observe(time.Since(start).Seconds())
}

// answer is the status for one attempt.
func (s *subscriber) answer(path, source, id string) int {
	if asked, ok := strings.CutPrefix(path, "/status/"); ok {
		if status, err := strconv.Atoi(asked); err == nil && status >= 200 && status <= 599 {
			return status
		}
	}
	if s.failFirst > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		key := strings.Join([]string{path, source, id}, "\x00")
		if s.attempts[key]++; s.attempts[key] <= s.failFirst {
			return s.failStatus
		}
		delete(s.attempts, key)
	}
	return s.status
}

// printable is data on one line, the beginning of it if it is long.
func printable(data []byte) string {
	const longest = 200
	more := ""
	if len(data) > longest {
		data, more = data[:longest], "..."
	}
	quoted := strconv.Quote(string(data))
	if plain := quoted[1 : len(quoted)-1]; strings.ReplaceAll(plain, `\"`, `"`) == string(data) {
		return string(data) + more
	}
	return quoted + more
}
