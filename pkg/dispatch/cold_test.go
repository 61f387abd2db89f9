package dispatch_test

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

// knative makes the subscriber a Knative Service.
func knative(o *config.Object) {
	name := o.Trigger.Subscriber.URI[len("http://"):]
	o.Trigger.Subscriber = &config.Destination{Ref: &config.Reference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: name}}
}

// between counts the requests that came in [from, to).
func (s *subscriber) between(from, to time.Duration) (n int) {
	for _, r := range s.receipts() {
		if r.at >= from && r.at < to {
			n++
		}
	}
	return n
}

// service takes n requests at once, each for so long, and refuses the others.
func service(n int32, each time.Duration, refused *atomic.Int64) func(int, receipt, http.ResponseWriter) {
	var open atomic.Int32
	return func(_ int, _ receipt, rw http.ResponseWriter) {
		defer open.Add(-1)
		if open.Add(1) > n {
			refused.Add(1)
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		time.Sleep(each)
	}
}

// 500 events at a service at zero, whose activator answers 503 for 40 seconds
// and then holds what comes for 8, until a pod is there.
func TestABurstAtAServiceAtZeroIsDeliveredOnceItIsUp(t *testing.T) {
	for _, retry := range []int{0, 3} {
		inWorld(t, func(w *world) {
			sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
				switch up := 48 * time.Second; {
				case r.at < 40*time.Second:
					rw.WriteHeader(http.StatusServiceUnavailable)
				case r.at < up:
					time.Sleep(up - r.at)
				default:
					time.Sleep(100 * time.Millisecond)
				}
			})
			w.trigger("sub", "", "sub", delivery(retry, "linear", "PT1S"), knative)
			w.run()
			w.send("order", 500)
			w.after(10 * time.Second)
			s := w.lane("sub")
			if s.Window != 1 || s.ColdSince != w.start || s.SparedUntil != w.start.Add(dispatch.ColdStart) || s.Backlog != 500 {
				t.Errorf("while cold: %+v", s)
			}
			w.after(40 * time.Second)
			early := w.lane("sub").Delivered
			w.after(5 * time.Second)
			s = w.lane("sub")
			if s.Delivered != 500 || s.Dead != 0 || s.Failed != 0 || !s.ColdSince.IsZero() || s.Window < 32 {
				t.Errorf("retry %d: 7 s after it is up: %+v (2 s after: %d delivered)", retry, s, early)
			}
			wasted := sub.count() - 500
			if uint64(wasted) != s.Spared || wasted > 30 {
				t.Errorf("%d attempts in vain, %d counted as spared; want at most 30", wasted, s.Spared)
			}
			t.Logf("%d attempts in vain, %d in the first second, %d of 500 delivered 2 s after it was up", wasted, sub.between(0, time.Second), early)
		})
	}
}

func TestWhileNothingIsTakenOneProbeIsInFlightAndNeverAHotLoop(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", status(http.StatusServiceUnavailable))
		w.trigger("sub", "", "sub", delivery(1, "linear", "PT1S"), knative)
		w.run()
		w.send("order", 300)
		w.after(time.Minute)
		at := attempts(sub)
		first := slices.IndexFunc(at, func(d time.Duration) bool { return d > 0 })
		if first > 8 {
			t.Errorf("%d requests before the first pause, want at most 8", first)
		}
		at = at[first-1:]
		pauses := []time.Duration{100, 200, 400, 800, 1600, 3200, 4000, 4000, 4000}
		for i, least := range pauses {
			least *= time.Millisecond
			if gap := at[i+1] - at[i]; gap < least || gap > least*12/10 {
				t.Errorf("probe %d comes %v after the one before, want %v and up to a fifth more", i+1, gap, least)
			}
		}
		if n := sub.between(30*time.Second, time.Minute); n < 5 || n > 8 {
			t.Errorf("%d probes in 30 s, want one each 4 s or a little more", n)
		}
	})
}

// One that never comes: nothing counts for five minutes, and then everything
// does, in the times of an ordinary subscriber.
func TestAServiceThatNeverComesEndsInDeadLetters(t *testing.T) {
	for name, answer := range map[string]func(int, receipt, http.ResponseWriter){
		"503": status(503), "502": status(502), "504": status(504), "refused": nil,
		"reset": func(_ int, _ receipt, rw http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				if host := "sub"; name == "refused" {
					w.subscribe(host+":81", nil) // nobody listens on port 80
				} else {
					w.subscribe(host, answer)
				}
				w.trigger("sub", "", "sub", delivery(2, "linear", "PT1S"), knative)
				w.run()
				w.send("order", 30) // too few for a circuit
				w.after(dispatch.ColdStart - time.Second)
				if s := w.lane("sub"); s.Dead != 0 || s.Failed != 0 || s.Spared == 0 {
					t.Errorf("within the allowance: %+v", s)
				}
				w.after(20 * time.Second)
				letters := w.letters("sub")
				if s := w.lane("sub"); s.Dead != 30 || s.Backlog != 0 || s.Failed != 90 {
					t.Errorf("after it: %+v", s)
				}
				for _, l := range letters {
					if l.Attempts != 3 {
						t.Errorf("dead after %d attempts, want 3", l.Attempts)
					}
				}
			})
		})
	}
}

func TestAnotherFailureCountsAtOnce(t *testing.T) {
	for _, code := range []int{500, 404, 429} {
		inWorld(t, func(w *world) {
			sub := w.subscribe("sub", status(code))
			w.trigger("sub", "", "sub", delivery(2, "linear", "PT1S"), knative)
			w.run()
			w.send("order", 1)
			w.after(time.Minute)
			if s := w.lane("sub"); s.Dead != 1 || s.Failed != 3 || s.Spared != 0 || !s.ColdSince.IsZero() || sub.count() != 3 {
				t.Errorf("%d: %d attempts, %+v", code, sub.count(), s)
			}
		})
	}
}

func TestAnOrdinarySubscriberIsSparedNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", status(503))
		w.trigger("sub", "", "sub", delivery(2, "linear", "PT1S"))
		w.run()
		w.send("order", 30)
		w.after(time.Minute)
		if s := w.lane("sub"); s.Dead != 30 || s.Failed != 90 || s.Spared != 0 || sub.between(0, 1) != 30 || s.Window != 64 {
			t.Errorf("%d at once, %+v", sub.between(0, 1), s)
		}
	})
}

// One event that makes the service refuse is dead after allowance and retries,
// however well the others fare.
func TestAnEventIsSparedForFiveMinutesWhateverTheOthersDo(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			if r.id == "poison" {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.trigger("sub", "", "sub", delivery(2, "linear", "PT1S"), knative)
		w.run()
		w.append(newEvent(t, "poison", "order"))
		for range 100 {
			w.send("order", 1)
			w.after(4 * time.Second)
		}
		if s := w.lane("sub"); s.Delivered != 100 || s.Dead != 1 || s.Failed != 3 {
			t.Errorf("%+v", s)
		}
		var last time.Duration
		for _, r := range sub.receipts() {
			if r.id == "poison" {
				last = r.at
			}
		}
		if last < dispatch.ColdStart || last > dispatch.ColdStart+20*time.Second {
			t.Errorf("the last attempt of the one came at %v", last)
		}
	})
}

// A service that takes one request at a time and refuses the others.
func TestTheWindowSettlesAtWhatTheServiceTakes(t *testing.T) {
	for _, takes := range []int32{1, 3, 10, 40} {
		inWorld(t, func(w *world) {
			var refused atomic.Int64
			w.subscribe("sub", service(takes, 100*time.Millisecond, &refused))
			w.trigger("sub", "", "sub", delivery(0, "", ""), knative)
			w.run()
			w.send("order", 1000)
			ideal := 1000 / time.Duration(takes) * 100 * time.Millisecond
			w.after(ideal*13/10 + 5*time.Second)
			s := w.lane("sub")
			if s.Delivered != 1000 || s.Dead != 0 || refused.Load() > 60 || int32(s.Window) > takes+1 {
				t.Errorf("takes %d: %d refused in vain, %+v", takes, refused.Load(), s)
			}
			t.Logf("takes %d at once: %d of 1000 refused, window %d", takes, refused.Load(), s.Window)
		})
	}
}

func TestAServiceThatGrowsIsFollowed(t *testing.T) {
	inWorld(t, func(w *world) {
		var refused, open, takes atomic.Int64
		takes.Store(1)
		sub := w.subscribe("sub", func(_ int, _ receipt, rw http.ResponseWriter) {
			defer open.Add(-1)
			if open.Add(1) > takes.Load() {
				refused.Add(1)
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			time.Sleep(50 * time.Millisecond)
		})
		w.trigger("sub", "", "sub", delivery(0, "", ""), knative)
		w.run()
		w.send("order", 16000)
		w.after(10 * time.Second)
		takes.Store(50)
		w.after(20 * time.Second)
		before := sub.count()
		w.after(time.Second)
		if n := sub.count() - before; n < 600 || w.lane("sub").Dead != 0 {
			t.Errorf("%d requests a second 20 s after it takes 50 at once (1000 a second), %+v", n, w.lane("sub"))
		}
	})
}

func TestRetryAfterOfAColdServiceIsHonoured(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(n int, _ receipt, rw http.ResponseWriter) {
			if n == 1 {
				rw.Header().Set("Retry-After", "30")
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.trigger("sub", "", "sub", delivery(0, "", ""), annotate("penstock.dev/concurrency", "1"), knative)
		w.run()
		w.send("order", 3)
		w.after(time.Minute)
		if at := attempts(sub); len(at) != 4 || at[1] != 30*time.Second || w.lane("sub").Dead != 0 {
			t.Errorf("attempts at %v, want the second after 30 s", at)
		}
	})
}

// A slow first answer holds its slot and nothing else.
func TestASlowFirstAnswerIsJustASlowAnswer(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(n int, _ receipt, _ http.ResponseWriter) {
			if n == 1 {
				time.Sleep(4*time.Minute + 50*time.Second)
			}
		})
		w.trigger("sub", "", "sub", delivery(0, "", ""), knative)
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		w.send("order", 20)
		w.after(time.Second)
		if s := w.lane("sub"); s.Delivered != 20 || s.InFlight != 1 {
			t.Errorf("beside the slow one: %+v", s)
		}
		w.after(5 * time.Minute)
		if s := w.lane("sub"); s.Delivered != 21 || s.Dead != 0 || sub.count() != 21 {
			t.Errorf("%+v", s)
		}
	})
}

// The count survives the restart; what was spared is not in it. The
// allowance begins anew, since who kept it is gone.
func TestARestartWithinTheAllowanceKeepsTheCount(t *testing.T) {
	inWorld(t, func(w *world) {
		code := atomic.Int32{}
		code.Store(500)
		sub := w.subscribe("sub", func(_ int, _ receipt, rw http.ResponseWriter) { rw.WriteHeader(int(code.Load())) })
		w.trigger("sub", "", "sub", delivery(3, "linear", "PT1S"), knative)
		w.run()
		w.send("order", 1)
		w.after(2 * time.Second) // attempts at 0 and 1 s count
		code.Store(503)
		w.after(2 * time.Minute)
		if s := w.lane("sub"); s.Failed != 2 || s.Spared < 5 || s.Dead != 0 {
			t.Fatalf("before the restart: %+v", s)
		}
		w.shutdown()
		if _, retries := w.pendingInLog(); len(retries) != 1 || retries[0].Attempts != 2 {
			t.Errorf("retries in the log: %+v, want two attempts", retries)
		}
		w.run()
		w.after(4 * time.Minute)
		if n := len(w.letters("sub")); n != 0 {
			t.Errorf("%d dead letters in the allowance after the restart", n)
		}
		code.Store(500)
		w.after(time.Minute)
		if letters := w.letters("sub"); len(letters) != 1 || letters[0].Attempts != 4 {
			t.Errorf("letters %+v, want one after four attempts; %d requests came", letters, sub.count())
		}
	})
}

// After an outage that used the allowance up, and a time without events, the
// next cold start has one of its own.
func TestALaterColdStartHasAnAllowanceOfItsOwn(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			if r.at < 31*time.Minute {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.trigger("sub", "", "sub", delivery(1, "linear", "PT1S"), knative)
		w.run()
		w.send("early", 1)
		w.after(30 * time.Minute)
		w.send("late", 1)
		w.after(2 * time.Minute)
		if s := w.lane("sub"); s.Dead != 1 || s.Delivered != 1 {
			t.Errorf("%+v after %d requests: want the early one dead, the late one delivered", s, sub.count())
		}
	})
}

func TestAColdLaneDelaysNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("cold", status(http.StatusServiceUnavailable))
		warm := w.subscribe("warm", nil)
		w.trigger("cold", "", "cold", knative)
		w.trigger("warm", "", "warm", knative)
		w.run()
		for range 50 {
			at := time.Since(w.start)
			ids := w.send("order", 7)
			w.after(time.Second)
			if n := warm.between(at, at+1); n != len(ids) {
				t.Fatalf("%d of %d at the instant %v", n, len(ids), at)
			}
		}
	})
}

// The dead letter sink is no Knative Service: nobody paces it, and it does not
// wait until the subscriber takes something.
func TestTheSinkOfAColdLaneIsNotPaced(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("sub", func(n int, _ receipt, rw http.ResponseWriter) {
			if n <= 5 {
				rw.WriteHeader(http.StatusBadRequest)
				return
			}
			rw.Header().Set("Retry-After", "60")
			rw.WriteHeader(http.StatusServiceUnavailable)
		})
		graves := w.subscribe("graves", func(n int, _ receipt, rw http.ResponseWriter) {
			if n <= 5 {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.trigger("sub", "", "sub", delivery(1, "linear", "PT1S", sink("graves")), knative)
		w.run()
		w.send("order", 20)
		w.after(10 * time.Second)
		if s := w.lane("sub"); graves.count() != 10 || s.Dead != 5 || s.Spared == 0 {
			t.Errorf("the sink was asked %d times, want 10; %+v", graves.count(), s)
		}
		if at := attempts(graves); !slices.IsSorted(at) || at[9] > 2*time.Second {
			t.Errorf("the sink was asked at %v", at)
		}
	})
}

// What was learnt of one address says nothing of another, and a Trigger that
// gets an ordinary subscriber is an ordinary one.
func TestANewSubscriberBeginsWarm(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("cold", status(http.StatusServiceUnavailable))
		w.subscribe("warm", hang(time.Second))
		for i, change := range []func(*config.Object){knative, func(*config.Object) {}} {
			w.trigger("sub", "", "cold", knative)
			if i == 0 {
				w.run()
			} else {
				w.apply()
			}
			w.send("order", 100)
			w.after(10 * time.Second)
			if s := w.lane("sub"); s.ColdSince.IsZero() || s.Backlog != 100 {
				t.Errorf("cold: %+v", s)
			}
			w.trigger("sub", "", "warm", change)
			w.apply()
			w.after(30 * time.Second)
			if s := w.lane("sub"); !s.ColdSince.IsZero() || s.Backlog != 0 {
				t.Errorf("warm: %+v", s)
			}
		}
	})
}

// A probe that hangs does not hold up the end of the allowance.
func TestTheAllowanceEndsWhileAProbeHangs(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			if r.at > time.Second && r.at < time.Minute {
				time.Sleep(time.Hour)
			}
			rw.WriteHeader(http.StatusServiceUnavailable)
		})
		w.trigger("sub", "", "sub", delivery(0, "", "", timeout("PT2H")), knative)
		w.run()
		w.send("order", 50)
		w.after(time.Minute)
		if s := w.lane("sub"); s.InFlight != 1 || s.Dead != 0 {
			t.Fatalf("%+v", s)
		}
		w.after(5 * time.Minute)
		if s := w.lane("sub"); s.Dead != 49 || s.InFlight != 1 {
			t.Errorf("%+v after %d requests", s, sub.count())
		}
		w.after(time.Hour)
		if s := w.lane("sub"); s.Dead != 50 {
			t.Errorf("%+v", s)
		}
	})
}

// A service of every mood, settings that change and restarts: nothing stalls.
func TestAMoodyServiceGetsEverythingInTheEnd(t *testing.T) {
	for seed := range uint64(20) {
		inWorld(t, func(w *world) {
			rng := rand.New(rand.NewPCG(seed, 3))
			var mu sync.Mutex
			draw := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return rng.IntN(n)
			}
			bad := 4 * time.Minute
			sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
				if r.at > bad {
					return
				}
				time.Sleep(time.Duration(draw(2000)) * time.Millisecond)
				switch draw(8) {
				case 0, 1, 2:
					rw.WriteHeader(http.StatusServiceUnavailable)
				case 3:
					rw.Header().Set("Retry-After", "2")
					rw.WriteHeader(http.StatusTooManyRequests)
				case 4:
					rw.WriteHeader(http.StatusInternalServerError)
				case 5:
					panic(http.ErrAbortHandler)
				}
			})
			change := func() {
				concurrency := strconv.Itoa(1 + draw(40))
				o := []func(*config.Object){delivery(500, "linear", "PT1S"), annotate("penstock.dev/concurrency", concurrency), annotate("penstock.dev/backoff-max", "5s")}
				if draw(4) > 0 {
					o = append(o, knative)
				}
				w.trigger("sub", "", "sub", o...)
			}
			change()
			w.run()
			for time.Since(w.start) < bad {
				w.send("order", draw(40))
				w.after(time.Duration(draw(10000)) * time.Millisecond)
				switch draw(6) {
				case 0:
					w.shutdown()
					w.run()
				case 1:
					change()
					w.apply()
				}
			}
			w.after(20 * time.Second)
			if s := w.lane("sub"); s.Backlog != 0 || s.InFlight != 0 || len(w.letters("sub")) != 0 {
				t.Errorf("seed %d: 20 s after it is well, %d requests: %+v", seed, sub.count(), s)
			}
		})
	}
}
