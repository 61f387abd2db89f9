package deliver

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/test/memhttp"
)

// A Service of Kubernetes whose address leads nowhere at first: a connection
// that was begun then is never answered, one that is begun later is.
func TestAServiceThatHasJustAppearedIsReached(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second, 5 * time.Second, 13 * time.Second, 29 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			n := memhttp.New()
			start := time.Now()
			c := New(Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if time.Since(start) < after {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return n.DialContext(ctx, network, address)
			}})
			t.Cleanup(c.Close)
			w := world{n, c}
			w.Serve(t, "late.shop", answer(202, ""))
			a, err := w.send(t, "http://late.shop")
			if err == nil && a.Duration > max(2*time.Second, 2*after) {
				t.Errorf("there after %v, reached after %v", after, a.Duration)
			}
			if last := MaxConnect - 16*time.Second; after > last {
				if e, ok := errors.AsType[*Error](err); !ok || e.Class != ClassDial || a.Duration != MaxConnect ||
					text(err) != "deliver to http://late.shop: no answer to a connection within 30s" {
					t.Errorf("nobody there for %v: %v after %v", after, err, a.Duration)
				}
			} else if err != nil {
				t.Errorf("there after %v: %v", after, err)
			}
			if n := w.Dials("late.shop"); n > 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// A dial that fails says so at once: only silence is worth another.
func TestARefusedConnectionIsNotTriedAgain(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		if a, err := w.send(t, "http://nobody.shop"); err == nil || a.Duration > 0 {
			t.Errorf("%v after %v", err, a.Duration)
		}
	})
}
