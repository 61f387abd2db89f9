package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/dedup"
	"github.com/penstock-events/penstock/pkg/event"
)

// sent is an event with this identity.
func sent(t testing.TB, source, id string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set(event.AttrID, id).Set(event.AttrSource, source).Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t")
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// shop is broker shop/orders, with a log and what knows its events.
type shop struct {
	*dedup.Appender
	t      testing.TB
	log    channel.Log
	broker channel.BrokerLog
	said   *lines
	stop   func() // ends both in order; may be called again
}

// world says how a shop is opened.
type world struct {
	dir      string // "": memory, log and all
	window   time.Duration
	options  dedup.Options
	between  func(channel.Appender) channel.Appender // what stands before the log; nil is nothing
	retained time.Duration
}

func open(t testing.TB, w world) *shop {
	t.Helper()
	s := &shop{t: t, said: &lines{}}
	var err error
	if w.dir == "" {
		s.log = memory.New(memory.Options{})
	} else {
		if s.log, err = disk.Open(filepath.Join(w.dir, "log"), disk.Options{ScrubRate: -1}); err != nil {
			t.Fatal(err)
		}
		w.options.Dir = filepath.Join(w.dir, "dedup")
	}
	logEnds := run(s.log.Run)
	info := channel.BrokerInfo{UID: "b", Name: "shop/orders", Retention: w.retained}
	if w.retained > 0 {
		info.RetentionBytes = 1 << 30
	}
	if s.broker, err = s.log.Broker(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	w.options.Logger = slog.New(slog.NewTextHandler(s.said, nil))
	inner := channel.Appender(s.log)
	if w.between != nil {
		inner = w.between(inner)
	}
	s.Appender = dedup.New(inner, w.options)
	s.set(w.window)
	ends := run(s.Run)
	s.stop = sync.OnceFunc(func() {
		for _, end := range []func() error{ends, logEnds} {
			if err := end(); err != nil {
				t.Errorf("stop: %v", err)
			}
		}
	})
	t.Cleanup(s.stop)
	return s
}

// run starts a component and returns what ends it.
func run(f func(context.Context) error) func() error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() error { cancel(); return <-done }
}

func (s *shop) set(window time.Duration) {
	s.t.Helper()
	if err := s.Set(s.t.Context(), dedup.Broker{UID: "b", Name: "shop/orders", Window: window, Log: s.broker}); err != nil {
		s.t.Fatal(err)
	}
}

// send appends one request of events from one source, and says of each its ID,
// with a star where it is a duplicate.
func (s *shop) send(ids ...string) []string {
	s.t.Helper()
	var events []event.Event
	for _, id := range ids {
		events = append(events, sent(s.t, "/till", id))
	}
	stored, err := s.Append(s.t.Context(), "b", events)
	if err != nil {
		s.t.Fatalf("append %v: %v", ids, err)
	}
	return told(stored)
}

func told(stored []channel.Stored) (all []string) {
	for _, s := range stored {
		text := s.String()
		if s.Duplicate {
			text += "*"
		}
		all = append(all, text)
	}
	return all
}

// held is how many events the log has been given.
func (s *shop) held() int {
	n := 0
	for _, shard := range s.broker.Shards() {
		_, next := s.broker.Range(shard)
		n += int(next) - 1
	}
	return n
}

func (s *shop) wantHeld(want int) {
	s.t.Helper()
	if got := s.held(); got != want {
		s.t.Errorf("the log was given %d events, want %d", got, want)
	}
}

func (s *shop) stats() (all dedup.Stats) {
	for st := range s.Stats {
		all = st
	}
	return all
}

func ids(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint("order-", i))
	}
	return all
}

// wantKnown sends events again, some at a time, and wants all of them to be known.
func (s *shop) wantKnown(first []string, ids []string) {
	s.t.Helper()
	missing := 0
	for i := 0; i < len(ids); i += 50 {
		end := min(i+50, len(ids))
		for j, got := range s.send(ids[i:end]...) {
			if got != first[i+j]+"*" {
				if missing++; missing <= 3 {
					s.t.Errorf("%s, stored as %s, is %s when it comes again", ids[i+j], first[i+j], got)
				}
			}
		}
	}
	if missing > 0 {
		s.t.Errorf("%d of %d are not known", missing, len(ids))
	}
}

// asItIs copies the files of a running process, as SIGKILL would leave them.
func asItIs(t testing.TB, from string) string {
	t.Helper()
	for {
		to := t.TempDir()
		switch err := copyTo(to, from); {
		case err == nil:
			return to
		case !errors.Is(err, fs.ErrNotExist): // a file went while we copied
			t.Fatal(err)
		}
	}
}

func copyTo(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
}

// files are those of the sets in a data folder, by suffix.
func files(t testing.TB, dir, suffix string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "dedup", "*", "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lines is what was logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}
