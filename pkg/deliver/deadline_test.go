package deliver

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
)

// slowly serves answers that take the times told, one after the other.
func slowly(times ...time.Duration) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(times[n.Add(1)-1])
		w.WriteHeader(http.StatusAccepted)
	}
}

// TestAnOldDeadlineEndsNoExchangeEarlyOrLate: a connection keeps the deadline
// of an earlier exchange as long as it is of use.
func TestAnOldDeadlineEndsNoExchangeEarlyOrLate(t *testing.T) {
	const timeout = 30 * time.Second
	for _, pause := range []time.Duration{0, time.Second, 14 * time.Second, 16 * time.Second, 29 * time.Second, 30 * time.Second, 31 * time.Second} {
		for _, takes := range []time.Duration{time.Second, 20 * time.Second, 29 * time.Second, time.Hour} {
			inWorld(t, Options{}, func(t *testing.T, w world) {
				w.Serve(t, "orders.shop", slowly(0, takes))
				target := w.Target("http://orders.shop", TargetOptions{})
				if _, err := w.Send(t.Context(), &Request{Target: target, Event: order(t), Timeout: timeout}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(pause)
				a, err := w.Send(t.Context(), &Request{Target: target, Event: order(t), Timeout: timeout})
				if takes < timeout && (err != nil || a.Duration != takes) {
					t.Errorf("after %v: %v after %v, want an answer after %v", pause, err, a.Duration, takes)
				}
				if takes > timeout && (text(err) != "deliver to http://orders.shop: timeout after 30s" || a.Duration != timeout) {
					t.Errorf("after %v: %v after %v", pause, err, a.Duration)
				}
				if n := w.Dials("orders.shop"); n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		}
	}
}

func TestAShorterTimeoutOnAUsedConnectionHolds(t *testing.T) {
	for _, by := range []string{"request", "context"} {
		inWorld(t, Options{}, func(t *testing.T, w world) {
			w.Serve(t, "orders.shop", slowly(0, time.Hour))
			r := &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t)}
			if _, err := w.Send(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if by == "request" {
				r.Timeout = 3 * time.Second
			} else {
				limited, cancel := context.WithTimeout(ctx, 3*time.Second)
				defer cancel()
				ctx = limited
			}
			a, err := w.Send(ctx, r)
			if text(err) != "deliver to http://orders.shop: timeout after 3s" || a.Duration != 3*time.Second {
				t.Errorf("%s: %v after %v", by, err, a.Duration)
			}
		})
	}
}

func TestABodyThatIsLongOnItsWayOutlivesAnOldDeadline(t *testing.T) {
	for _, size := range []int{10 << 10, 1 << 20} {
		inWorld(t, Options{}, func(t *testing.T, w world) {
			first := true
			w.Serve(t, "orders.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !first {
					time.Sleep(25 * time.Second) // and reads only then
				}
				first = false
				if n, _ := io.Copy(io.Discard, r.Body); n != int64(size) {
					w.WriteHeader(http.StatusBadRequest)
				}
			}))
			var b event.Builder
			b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "t").SetData(make([]byte, size))
			r := &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: built(t, &b), Timeout: 30 * time.Second}
			for _, want := range []time.Duration{0, 25 * time.Second} {
				if a, err := w.Send(t.Context(), r); err != nil || a.Duration != want {
					t.Errorf("%d bytes: %v after %v, want %v", size, err, a.Duration, want)
				}
				time.Sleep(10 * time.Second)
			}
		})
	}
}

// TestACancelledContextWakesEveryExchangeUnderIt, not only the first one of a
// connection, and also one that an old deadline has woken before.
func TestACancelledContextWakesEveryExchangeUnderIt(t *testing.T) {
	for _, after := range []time.Duration{0, 5 * time.Second, 16 * time.Second, 28 * time.Second} {
		inWorld(t, Options{}, func(t *testing.T, w world) {
			w.Serve(t, "orders.shop", slowly(0, 0, 0, time.Hour))
			ctx, cancel := context.WithCancel(t.Context())
			r := &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t), Timeout: 30 * time.Second}
			for range 3 {
				if _, err := w.Send(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Second)
			time.AfterFunc(after, cancel)
			if a, err := w.Send(ctx, r); !Cancelled(err) || a.Duration != after {
				t.Errorf("%v after %v, want %v", err, a.Duration, after)
			}
			if n := w.Dials("orders.shop"); n != 1 {
				t.Errorf("%d connections", n)
			}
			if n := w.Client.idle.Load(); n != 0 {
				t.Errorf("%d connections kept that a cancellation has woken", n)
			}
		})
	}
}

// TestAContextEndsOnlyWhatIsSentUnderIt: connections go from hand to hand.
func TestAContextEndsOnlyWhatIsSentUnderIt(t *testing.T) {
	for name, next := range map[string]func(t *testing.T) context.Context{
		"none":    func(*testing.T) context.Context { return context.Background() },
		"another": func(t *testing.T) context.Context { return t.Context() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(t *testing.T, w world) {
				w.Serve(t, "orders.shop", slowly(0, 0, 10*time.Second, 0))
				mine, cancel := context.WithCancel(t.Context())
				r := &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t)}
				for range 2 {
					if _, err := w.Send(mine, r); err != nil {
						t.Fatal(err)
					}
				}
				time.AfterFunc(5*time.Second, cancel)
				if a, err := w.Send(next(t), r); err != nil || a.Duration != 10*time.Second {
					t.Errorf("%v after %v", err, a.Duration)
				}
				if _, err := w.Send(next(t), r); err != nil || w.Dials("orders.shop") != 1 {
					t.Errorf("%v, %d connections", err, w.Dials("orders.shop"))
				}
			})
		})
	}
}

func TestAnIdleConnectionOfACancelledContextIsNotUsed(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", answer(202, ""))
		mine, cancel := context.WithCancel(t.Context())
		r := &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t)}
		for range 2 {
			if _, err := w.Send(mine, r); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		synctest.Wait()
		if _, err := w.Send(t.Context(), r); err != nil || w.Dials("orders.shop") != 2 {
			t.Errorf("%v, %d connections", err, w.Dials("orders.shop"))
		}
	})
}

func TestAContextForOneAttemptDoesNotTakeTheConnectionAlong(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", answer(202, ""))
		r := &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t)}
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if _, err := w.Send(ctx, r); err != nil {
				t.Fatal(err)
			}
			cancel()
			synctest.Wait()
		}
		if n := w.Dials("orders.shop"); n != 1 {
			t.Errorf("%d connections for 5 events", n)
		}
	})
}

// counted is a context that counts who waits for its end.
type counted struct {
	context.Context
	asked, waiting atomic.Int64
}

func (c *counted) Value(any) any { return nil } // or the package context finds what is inside

func (c *counted) AfterFunc(f func()) func() bool {
	c.asked.Add(1)
	c.waiting.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool {
		stopped := stop()
		if stopped {
			c.waiting.Add(-1)
		}
		return stopped
	}
}

func TestAContextIsNotAskedForEveryExchange(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", answer(202, ""))
		inner, cancel := context.WithCancel(t.Context())
		defer cancel()
		ctx := &counted{Context: inner}
		r := &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t)}
		for range 10 {
			if _, err := w.Send(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		// The dial has asked, and the first exchange, which did not know that more would come.
		if ctx.asked.Load() != 3 || ctx.waiting.Load() != 1 {
			t.Errorf("asked %d times, %d wait", ctx.asked.Load(), ctx.waiting.Load())
		}
		time.Sleep(3 * time.Minute)
		if n := ctx.waiting.Load(); n != 0 {
			t.Errorf("%d wait for the sake of a connection that is closed", n)
		}
	})
}
