package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
)

// keyed is an event of a key; its id is key-n.
func (w *world) keyed(key string, n int) event.Event {
	w.t.Helper()
	e, err := event.Edit(newEvent(w.t, fmt.Sprintf("%s-%d", key, n), "order")).Set(event.ExtPartition, key).Build()
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

var ordered = annotate("penstock.dev/order", "key")

// sequence checks what a subscriber got against the order of each key: an event
// may come again, but none comes for the first time before all below it have
// been taken, or given up. It returns how many of each key were taken.
type sequence struct {
	mu    sync.Mutex
	taken map[string]int // by key: all below are taken or dead
	open  map[string]bool
	wrong []string
}

// begin is told of a request; it returns the key and number of its event.
func (s *sequence) begin(id string) (key string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken == nil {
		s.taken, s.open = map[string]int{}, map[string]bool{}
	}
	key, number, _ := strings.Cut(id, "-")
	n, _ = strconv.Atoi(number)
	if n > s.taken[key] {
		s.wrong = append(s.wrong, fmt.Sprintf("%s comes while %s-%d is not taken", id, key, s.taken[key]))
	}
	if s.open[key] {
		s.wrong = append(s.wrong, id+" comes while another of its key is under way")
	}
	s.open[key] = true
	return key, n
}

// end is told that the event was taken or is given up, or that the attempt failed.
func (s *sequence) end(key string, n int, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[key] = false
	if taken && n == s.taken[key] {
		s.taken[key]++
	}
}

func (s *sequence) check(t *testing.T, want map[string]int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, wrong := range s.wrong[:min(len(s.wrong), 5)] {
		t.Errorf("%d of %d: %s", i+1, len(s.wrong), wrong)
	}
	for key, n := range want {
		if s.taken[key] != n {
			t.Errorf("key %s: %d taken, want %d", key, s.taken[key], n)
		}
	}
}

func TestAFailingKeyStopsOnlyItself(t *testing.T) {
	inWorld(t, func(w *world) {
		var mended atomic.Bool
		var seq sequence
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			if strings.HasPrefix(r.id, "order") {
				return
			}
			key, n := seq.begin(r.id)
			time.Sleep(10 * time.Millisecond)
			fails := r.id == "a-3" && !mended.Load()
			if fails {
				rw.WriteHeader(500)
			}
			seq.end(key, n, !fails)
		})
		w.trigger("sub", "", "sub", delivery(100, "linear", "PT1M"), ordered)
		w.run()
		for n := range 50 {
			for _, key := range []string{"a", "b", "c", "d"} {
				w.append(w.keyed(key, n))
			}
		}
		w.send("order", 20) // without a key
		w.after(10 * time.Second)
		seq.check(t, map[string]int{"a": 3, "b": 50, "c": 50, "d": 50})
		s := w.lane("sub")
		if !s.Ordered || s.Backlog != 47 || s.BlockedKeys != 1 || s.Behind {
			t.Errorf("%+v", s)
		}
		b := s.Blocked[0]
		if b.Key != "a" || b.Behind != 46 || b.Attempts != 1 || b.Since.IsZero() || b.Next.Sub(b.Since) < time.Minute {
			t.Errorf("blocked %+v", b)
		}
		if want := fmt.Sprintf("key a blocked by %s: 1 attempts, next at 2000-01-01T00:01:", b.ID); !strings.HasPrefix(s.Waits, want) {
			t.Errorf("waits %q, want %q", s.Waits, want)
		}
		before := sub.count()
		mended.Store(true)
		w.after(2 * time.Minute)
		seq.check(t, map[string]int{"a": 50})
		if s := w.lane("sub"); s.Backlog != 0 || s.BlockedKeys != 0 || s.Waits != "" || sub.count()-before != 47 {
			t.Errorf("%d requests after the cure, %+v", sub.count()-before, s)
		}
	})
}

func TestKeysFlowBesideEachOtherAtFullConcurrency(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", hang(time.Second))
		w.trigger("sub", "", "sub", ordered, annotate("penstock.dev/concurrency", "40"))
		w.run()
		for n := range 5 {
			for key := range 40 {
				w.append(w.keyed(strconv.Itoa(key), n))
			}
		}
		w.after(5*time.Second + 500*time.Millisecond)
		if s := w.lane("sub"); s.Delivered != 200 || sub.most != 40 {
			t.Errorf("%d delivered after 5 s, %d at once; want 200 and 40", s.Delivered, sub.most)
		}
	})
}

// A dead event lets its key go on: when its dead letter is stored, not when the sink
// has taken it.
func TestADeadEventLetsItsKeyGoOn(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			if r.id == "a-0" {
				rw.WriteHeader(400)
			}
		})
		w.subscribe("graves", hang(time.Hour))
		w.trigger("sub", "", "sub", delivery(1, "", "", sink("graves"), timeout("PT2H")), ordered, annotate("penstock.dev/concurrency", "2"))
		w.run()
		for n := range 4 {
			w.append(w.keyed("a", n))
		}
		w.after(time.Second)
		if s := w.lane("sub"); s.Delivered != 3 || s.Dead != 1 || sub.count() != 4 {
			t.Errorf("%d requests, %+v", sub.count(), s)
		}
	})
}

// Stops and crashes, retries and deaths: the order of each key holds.
func TestTheOrderHoldsAcrossStopsAndCrashes(t *testing.T) {
	for seed := range uint64(8) {
		inWorld(t, func(w *world) {
			rng, theirs := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			var seq sequence
			var mu sync.Mutex
			log := w.trouble()
			w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
				key, n := seq.begin(r.id)
				mu.Lock()
				took, roll := time.Duration(theirs.IntN(300))*time.Millisecond, theirs.IntN(10)
				gone := n%17 == 5 && roll < 5
				mu.Unlock()
				time.Sleep(took)
				switch {
				case gone:
					rw.WriteHeader(400)
				case roll < 3:
					rw.WriteHeader(503)
				}
				seq.end(key, n, gone || roll >= 3)
			})
			w.options.DrainTimeout = 10 * time.Second
			w.trigger("sub", "", "sub", delivery(1000, "linear", "PT2S"), annotate("penstock.dev/backoff-max", "5s"), ordered)
			w.run()
			next := map[string]int{}
			for round := range 12 {
				for range 40 {
					key := "k" + strconv.Itoa(rng.IntN(12))
					w.append(w.keyed(key, next[key]))
					next[key]++
				}
				w.after(time.Duration(rng.IntN(3000)) * time.Millisecond)
				if round%3 == 2 {
					// Every second time the last moments' progress is lost, as in a crash.
					log.forgets.Store(round%2 == 1)
					w.after(time.Duration(rng.IntN(300)) * time.Millisecond)
					w.shutdown()
					log.forgets.Store(false)
					w.run()
				}
			}
			w.after(30 * time.Minute)
			seq.check(t, next)
			if s := w.lane("sub"); s.Backlog != 0 || s.BlockedKeys != 0 {
				t.Errorf("seed %d: %+v", seed, s)
			}
		})
	}
}

// An event that waited for its retry when the process ended still blocks its key
// after the restart, and keeps its count.
func TestARetryFromBeforeTheRestartBlocksItsKey(t *testing.T) {
	inWorld(t, func(w *world) {
		var seq sequence
		var up atomic.Bool
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			key, n := seq.begin(r.id)
			if fails := key == "a" && !up.Load(); fails {
				rw.WriteHeader(503)
				seq.end(key, n, false)
				return
			}
			seq.end(key, n, true)
		})
		w.trigger("sub", "", "sub", delivery(4, "linear", "PT10M"), ordered)
		w.run()
		for n := range 300 {
			w.append(w.keyed("a", n))
		}
		w.after(time.Minute)
		w.shutdown()
		w.run()
		w.append(w.keyed("a", 300), w.keyed("b", 0))
		w.after(time.Minute)
		s := w.lane("sub")
		if sub.count() != 2 || s.BlockedKeys != 1 || s.Blocked[0].Attempts != 1 || s.Blocked[0].Behind != 300 {
			t.Errorf("%d requests after the restart, %+v", sub.count(), s)
		}
		up.Store(true)
		w.after(time.Hour)
		seq.check(t, map[string]int{"a": 301, "b": 1})
	})
}

func TestTheOrderOfATriggerCanBeChangedWhileItRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		var seq sequence
		strict := atomic.Bool{}
		var mu sync.Mutex
		failed := map[string]int{}
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			var key string
			var n int
			if strict.Load() {
				key, n = seq.begin(r.id)
			}
			time.Sleep(50 * time.Millisecond)
			mu.Lock()
			failed[r.id]++
			fails := failed[r.id] < 3
			mu.Unlock()
			if fails {
				rw.WriteHeader(500)
			}
			if key != "" {
				seq.end(key, n, !fails)
			}
		})
		declare := func(order string) {
			w.trigger("sub", "", "sub", delivery(1000, "linear", "PT1S"), annotate("penstock.dev/order", order), annotate("penstock.dev/adaptive", "false"))
		}
		declare("none")
		w.run()
		// Two hundred are tried without order, some twice; none is taken yet.
		for n := range 200 {
			w.append(w.keyed("k"+strconv.Itoa(n%5), n/5))
		}
		w.after(120 * time.Millisecond)
		strict.Store(true)
		declare("key")
		w.apply()
		seq.mu.Lock()
		seq.open = map[string]bool{}
		seq.mu.Unlock()
		for n := range 200 {
			w.append(w.keyed("k"+strconv.Itoa(n%5), 40+n/5))
		}
		w.after(20 * time.Minute)
		seq.check(t, map[string]int{"k0": 80, "k1": 80, "k2": 80, "k3": 80, "k4": 80})
		if n := sub.count(); n != 1200 {
			t.Errorf("%d requests, want three for each: the count survives the change", n)
		}
		strict.Store(false)
		// And back, with one key blocked and others behind it.
		for n := range 100 {
			w.append(w.keyed("k"+strconv.Itoa(n%5), 80+n/5))
		}
		w.after(300 * time.Millisecond)
		declare("none")
		w.apply()
		w.after(time.Minute)
		if s := w.lane("sub"); s.Delivered != 500 || s.Backlog != 0 || sub.count() != 1500 || s.Ordered {
			t.Errorf("%d requests, %+v", sub.count(), s)
		}
	})
}

func TestAnOperatorSkipsTheHeadOfABlockedKey(t *testing.T) {
	inWorld(t, func(w *world) {
		ctx := context.Background()
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			switch r.id {
			case "a-0":
				rw.WriteHeader(503)
			case "b-0":
				time.Sleep(time.Hour)
			}
		})
		graves := w.subscribe("graves", nil)
		w.subscribe("plain", nil)
		w.trigger("sub", "", "sub", delivery(100, "linear", "PT10M", sink("graves"), timeout("PT2H")), ordered)
		w.trigger("plain", "", "plain")
		w.run()
		for n := range 3 {
			w.append(w.keyed("a", n), w.keyed("b", n))
		}
		w.after(time.Minute)
		d := w.dispatcher
		blocked, total, err := d.Blocked("t-sub", 10)
		if err != nil || total != 1 || len(blocked) != 1 || blocked[0].Key != "a" {
			t.Fatalf("blocked %+v of %d, %v", blocked, total, err)
		}
		if _, _, err := d.Blocked("t-plain", 10); !errors.Is(err, dispatch.ErrNotOrdered) {
			t.Errorf("blocked keys of what is not ordered: %v", err)
		}
		head := blocked[0].ID
		for _, c := range []struct {
			uid  channel.UID
			id   channel.ID
			want error
		}{
			{"t-nobody", head, dispatch.ErrNoLane}, {"t-plain", head, dispatch.ErrNotOrdered},
			{"t-sub", channel.ID{Shard: head.Shard, Position: 99}, dispatch.ErrNotBlocked}, {"t-sub", channel.ID{Shard: 99, Position: 1}, dispatch.ErrNotBlocked},
		} {
			if err := d.Skip(ctx, c.uid, c.id); !errors.Is(err, c.want) {
				t.Errorf("skip %v of %s: %v, want %v", c.id, c.uid, err, c.want)
			}
		}
		if err := d.Skip(ctx, "t-sub", head); err != nil {
			t.Fatal(err)
		}
		w.after(time.Second)
		letters := w.letters("sub")
		if len(letters) != 1 || letters[0].Reason != "skipped by an operator" || letters[0].Attempts != 1 || letters[0].Event.ID() != "a-0" {
			t.Errorf("letters %+v", letters)
		}
		if s := w.lane("sub"); s.Delivered != 2 || s.BlockedKeys != 0 || s.Backlog != 3 || graves.count() != 1 {
			t.Errorf("%d requests, %d in the sink, %+v", sub.count(), graves.count(), s)
		}
		if err := d.Skip(ctx, "t-sub", head); !errors.Is(err, dispatch.ErrNotBlocked) {
			t.Errorf("skipped twice: %v", err)
		}
	})
}

func TestASkipWhoseDeadLetterCannotBeStoredChangesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.trouble()
		sub := w.subscribe("sub", func(n int, _ receipt, rw http.ResponseWriter) {
			if n < 2 {
				rw.WriteHeader(503)
			}
		})
		w.trigger("sub", "", "sub", delivery(100, "linear", "PT10M"), ordered)
		w.run()
		w.append(w.keyed("a", 0), w.keyed("a", 1))
		w.after(time.Minute)
		full := error(&channel.Refused{Err: channel.ErrQuota, RetryAfter: time.Second})
		log.noDead.Store(&full)
		blocked, _, _ := w.dispatcher.Blocked("t-sub", 10)
		if err := w.dispatcher.Skip(context.Background(), "t-sub", blocked[0].ID); !errors.Is(err, channel.ErrQuota) {
			t.Errorf("skip: %v", err)
		}
		w.after(time.Hour)
		if s := w.lane("sub"); s.Delivered != 2 || s.Dead != 0 || sub.count() != 3 {
			t.Errorf("%d requests, %+v", sub.count(), s)
		}
	})
}

// Whose turn it is nobody knows before the event can be read.
func TestAnOrderedTriggerPassesOverNoEventThatCannotBeRead(t *testing.T) {
	inWorld(t, func(w *world) {
		var seq sequence
		w.subscribe("sub", func(_ int, r receipt, _ http.ResponseWriter) {
			key, n := seq.begin(r.id)
			seq.end(key, n, true)
		})
		w.trigger("sub", "", "sub", ordered, annotate("penstock.dev/paused", "true"))
		log := &holed{Log: w.log}
		w.log = log
		w.run()
		for n := range 20 {
			w.append(w.keyed("a", n))
		}
		w.after(time.Second)
		shard := channel.ShardID(0)
		broker, _ := w.dispatcher.Log(brokerUID)
		for _, id := range broker.Shards() {
			if _, next := broker.Range(id); next == 21 {
				shard = id
			}
		}
		log.at = channel.ID{Shard: shard, Position: 8}
		w.trigger("sub", "", "sub", ordered)
		w.apply()
		w.after(time.Minute)
		seq.check(t, map[string]int{"a": 7})
		if s := w.lane("sub"); !strings.HasPrefix(s.Waits, "order: the next event cannot be read") {
			t.Errorf("waits %q", s.Waits)
		}
		log.declared.Store(true)
		w.after(time.Minute)
		if s := w.lane("sub"); s.Delivered != 19 || s.Backlog != 0 {
			t.Errorf("once it is lost the others go: %+v", s)
		}
	})
}
