package remote_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

// While ingress pods and dispatchers are rolled, one of two may not know of
// duplicates: then nobody speaks of them, and every append is stored as before.
func TestAnIngressAndADispatcherOfTwoVersionsUnderstandEachOther(t *testing.T) {
	log := appenderFunc(func(_ context.Context, _ channel.UID, events []event.Event) ([]channel.Stored, error) {
		all := make([]channel.Stored, len(events))
		for i := range all {
			all[i] = channel.Stored{ID: channel.ID{Shard: 17, Position: channel.Position(i + 1)}, Duplicate: i == 1}
		}
		return all, nil
	})
	for _, c := range []struct {
		name string
		old  func(r *http.Request) // what an older version at one end does not do
		want bool
	}{
		{"both know", func(*http.Request) {}, true},
		{"one does not", func(r *http.Request) { r.Header.Del("Penstock-Append-Duplicates") }, false},
	} {
		server := remote.NewServer(remote.ServerOptions{Appender: of(log), Authorize: everybody})
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.old(r)
			server.ServeHTTP(w, r)
		}))
		t.Cleanup(front.Close)
		hop := client(t, remote.Options{}, front.Listener.Addr().String())
		stored, err := hop.Append(t.Context(), "b", []event.Event{anEvent(t, "1", "", 1), anEvent(t, "2", "", 1), anEvent(t, "3", "", 1)})
		if err != nil || len(stored) != 3 {
			t.Fatalf("%s: %v, %v", c.name, stored, err)
		}
		for i, s := range stored {
			if want := (channel.ID{Shard: 17, Position: channel.Position(i + 1)}); s.ID != want || s.Duplicate != (c.want && i == 1) {
				t.Errorf("%s: event %d is %+v", c.name, i, s)
			}
		}
	}
}
