package dedup_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/dedup"
	"github.com/penstock-events/penstock/pkg/event"
)

// small makes tables of few events, so that a test has many.
var small = dedup.Options{GenerationEntries: 64}

// settleAll has the log let everything go that it holds.
func (s *shop) settleAll() {
	s.t.Helper()
	for _, shard := range s.broker.Shards() {
		_, next := s.broker.Range(shard)
		if err := s.broker.SaveProgress(s.t.Context(), []channel.ShardProgress{{Shard: shard, Scanned: next}}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// eventually waits for what Run does by itself.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestAStopForgetsNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour, options: small})
	all := ids(0, 1000)
	var first []string
	for i := 0; i < len(all); i += 50 {
		first = append(first, s.send(all[i:i+50]...)...)
	}
	s.settleAll()
	s.stop()
	again := open(t, world{dir: dir, window: time.Hour, options: small})
	again.wantKnown(first, all)
	again.wantHeld(len(all))
}

func TestSIGKILLForgetsNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour, options: small})
	var first, all []string
	for round := range 5 {
		more := ids(round*300, round*300+300)
		for i := 0; i < len(more); i += 50 {
			first = append(first, s.send(more[i:i+50]...)...)
		}
		all = append(all, more...)
		// Now, whatever has been written of it and whatever not.
		killed := open(t, world{dir: asItIs(t, dir), window: time.Hour, options: small})
		killed.wantKnown(first, all)
		killed.wantHeld(len(all))
		killed.stop()
		if round == 2 {
			eventually(t, "generations are tables", func() bool { return len(files(t, dir, ".set")) > 0 })
		}
	}
}

// With no retention the log lets settled events go; what was written by then
// is known all the same.
func TestSIGKILLForgetsNothingThatTheLogHasLetGo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour})
	all := ids(0, 100)
	first := s.send(all...)
	journaled := func() bool {
		return len(files(t, dir, ".log")) == 1 && size(t, files(t, dir, ".log")[0]) > 100*32
	}
	eventually(t, "what is known is written", journaled)
	s.settleAll()
	killed := open(t, world{dir: asItIs(t, dir), window: time.Hour})
	killed.wantKnown(first, all)
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A loss of power takes what was not synced: journals, in whole or from some
// byte on. The log has it still.
func TestALossOfPowerIsMadeUpFromTheLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour, options: small, retained: time.Hour})
	all := ids(0, 700)
	var first []string
	for i := 0; i < len(all); i += 50 {
		first = append(first, s.send(all[i:i+50]...)...)
	}
	eventually(t, "generations are tables", func() bool { return len(files(t, dir, ".set")) > 0 })
	s.settleAll()
	for name, lose := range map[string]func(path string) error{
		"gone":  os.Remove,
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"torn":  func(path string) error { return os.Truncate(path, size(t, path)/2) },
		"zeros": func(path string) error { return os.WriteFile(path, make([]byte, size(t, path)), 0o600) },
	} {
		dark := asItIs(t, dir)
		for _, path := range files(t, dark, ".log") {
			if err := lose(path); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(name, func(t *testing.T) {
			again := open(t, world{dir: dark, window: time.Hour, options: small, retained: time.Hour})
			again.wantKnown(first, all)
		})
	}
}

// A file that is damaged is left out. What the log has is known all the same,
// and what it has not is stored again: never is something new taken for known.
func TestDamagedFilesNeverSwallowAnEvent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour, options: small})
	all := ids(0, 500)
	var first []string
	for i := 0; i < len(all); i += 50 {
		first = append(first, s.send(all[i:i+50]...)...)
	}
	eventually(t, "generations are tables", func() bool { return len(files(t, dir, ".set")) > 0 })
	s.stop()
	for at := range 6 {
		hurt := asItIs(t, dir)
		for i, path := range append(files(t, hurt, ".set"), files(t, hurt, ".log")...) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > 0 {
				b[(at*3907+i*131)%len(b)] ^= 1 << (at % 8)
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		again := open(t, world{dir: hurt, window: time.Hour, options: small})
		for i, got := range again.send(ids(10_000, 10_100)...) {
			if strings.HasSuffix(got, "*") {
				t.Errorf("byte %d: event %d is new and taken for %s", at, i, got)
			}
		}
		for i := 0; i < len(all); i += 50 {
			for j, got := range again.send(all[i : i+50]...) {
				if was := first[i+j]; strings.HasSuffix(got, "*") && got != was+"*" {
					t.Errorf("byte %d: %s is %s and taken for %s", at, all[i+j], was, got)
				}
			}
		}
		again.stop()
	}
}

func TestAnotherKeyMakesTheFilesMeanNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour, retained: time.Hour})
	first := s.send("order-1")
	s.stop()
	if err := os.Remove(filepath.Join(dir, "dedup", "key")); err != nil {
		t.Fatal(err)
	}
	again := open(t, world{dir: dir, window: time.Hour, retained: time.Hour})
	again.wantKnown(first, []string{"order-1"}) // from the log
}

// Files that know more than the log has belong to another log: what they take
// for stored may be nowhere.
func TestFilesOfAnotherLogAreForgotten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour})
	s.send(ids(0, 50)...)
	s.stop()
	if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	again := open(t, world{dir: dir, window: time.Hour})
	if got := again.send("order-1"); strings.HasSuffix(got[0], "*") {
		t.Errorf("taken for known, and in no log: %v", got)
	}
	again.wantHeld(1)
}

func TestAtTheBoundTheOldestGoFirstAndItIsSaid(t *testing.T) {
	o := small
	o.MaxBytes = 64 << 10
	for _, dir := range []string{"", t.TempDir()} {
		s := open(t, world{dir: dir, window: time.Hour, options: o})
		all := ids(0, 6000)
		var first []string
		for i := 0; i < len(all); i += 50 {
			first = append(first, s.send(all[i:i+50]...)...)
		}
		eventually(t, "the bound holds", func() bool { return s.stats().Entries < 3000 && s.stats().Bytes <= o.MaxBytes })
		s.wantKnown(first[5990:], all[5990:])
		if got := s.send(all[0]); strings.HasSuffix(got[0], "*") {
			t.Errorf("the first of %d events is known within %d bytes", len(all), o.MaxBytes)
		}
		if st := s.stats(); st.Window >= time.Hour || s.said.count("a bound is reached") != 1 {
			t.Errorf("the window in force is %v, which was said %d times", st.Window, s.said.count("a bound is reached"))
		}
		s.stop()
	}
}

// A disk that takes no files costs nobody an event.
func TestFilesThatCannotBeWrittenRefuseNothing(t *testing.T) {
	dir := t.TempDir()
	o := small
	o.MaxUnwritten = 2000
	s := open(t, world{dir: dir, window: time.Hour, options: o})
	first := s.send("order-0")
	if err := os.RemoveAll(filepath.Join(dir, "dedup")); err != nil {
		t.Fatal(err)
	}
	all := ids(1, 1000)
	for i := 0; i < len(all); i += 9 {
		first = append(first, s.send(all[i:i+9]...)...)
	}
	s.wantKnown(first[1:], all)
	s.wantHeld(1000)
	eventually(t, "it is said", func() bool { return s.said.count("cannot be written") > 0 })
	if got := s.stats().Window; got != time.Hour {
		t.Errorf("nothing is forgotten, and the window is %v", got)
	}
	more := ids(1000, 3000)
	first = nil
	for i := 0; i < len(more); i += 50 {
		first = append(first, s.send(more[i:i+50]...)...)
	}
	s.wantKnown(first[1900:], more[1900:])
	s.wantHeld(3000)
	if got := s.stats(); got.Window >= time.Hour || got.Entries > 2000+64 {
		t.Errorf("%d events are kept in memory, and the window is %v", got.Entries, got.Window)
	}
}

// late is a log that stores at once and answers when it is let.
type late struct {
	channel.Appender
	id  string // of the event whose answer is late
	let chan struct{}
}

func (l *late) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	stored, err := l.Appender.Append(ctx, uid, events)
	if events[0].ID() == l.id {
		<-l.let
	}
	return stored, err
}

// What is written says up to where the log is covered by it. An append that
// has not ended is not, however much comes after it.
func TestAnAppendOnItsWayAtTheSIGKILLIsFoundInTheLog(t *testing.T) {
	dir := t.TempDir()
	let := make(chan struct{})
	s := open(t, world{dir: dir, window: time.Hour, between: func(a channel.Appender) channel.Appender { return &late{a, "slow", let} }})
	answered := make(chan []string)
	go func() { answered <- s.send("slow") }()
	eventually(t, "the slow one is stored", func() bool { return s.held() == 1 })
	for i := range 4 {
		before := size(t, files(t, dir, ".log")[0])
		s.send(fmt.Sprint("order-", i))
		eventually(t, "it is written down", func() bool { return size(t, files(t, dir, ".log")[0]) > before })
	}
	killed := open(t, world{dir: asItIs(t, dir), window: time.Hour})
	got := killed.send("slow")
	killed.wantHeld(5)
	close(let)
	if first := <-answered; got[0] != first[0]+"*" {
		t.Errorf("stored as %v before the end, and as %v after it", first, got)
	}
}
