package controller

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// eventually waits for what the other side of a stream does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A pod comes, shows what it has, tells of types while it is asked, and goes.
func TestAPlaneIsWhatItsPodsSay(t *testing.T) {
	board := loaded.NewBoard(loaded.BoardOptions{Authorize: func(r *http.Request) error {
		if r.Header.Get("Authorization") != "Bearer for-them" {
			return loaded.ErrForbidden
		}
		return nil
	}})
	mux := http.NewServeMux()
	mux.Handle(loaded.Path, board)
	pod := httptest.NewServer(mux)
	t.Cleanup(pod.Close)
	t.Cleanup(board.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("for-them"), 0o600); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	var types []loaded.Type
	heard := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(types)
	}
	woken := make(chan []channel.UID, 100)
	client := fake.NewClientset()
	p := newPlane(planeOptions{
		client: client, namespace: "penstock-system", service: "penstock-dispatcher", port: pod.Listener.Addr().(*net.TCPAddr).Port, token: token,
		changed: func(uids loadedUIDs) { woken <- uids },
		types: func(seen []loaded.Type) {
			mu.Lock()
			defer mu.Unlock()
			types = append(types, seen...)
		},
		log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(t.Context())
	ask, ended := make(chan bool, 1), make(chan struct{})
	go func() { defer close(ended); p.run(ctx, ask) }()

	if missing := p.InForce("b", "1"); len(missing) != 1 || missing[0] != "no pod of Service penstock-system/penstock-dispatcher is serving" {
		t.Errorf("without pods: %v", missing)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "penstock-dispatcher"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"127.0.0.1"}, TargetRef: &corev1.ObjectReference{Name: "penstock-dispatcher-0"}}},
	}
	if _, err := client.DiscoveryV1().EndpointSlices("penstock-system").Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod is missed by name", func() bool {
		missing := p.InForce("b", "1")
		return len(missing) == 1 && strings.HasPrefix(missing[0], "penstock-dispatcher-0: ")
	})
	board.Publish(map[channel.UID]string{"b": "1"})
	eventually(t, "it has loaded b", func() bool { return len(p.InForce("b", "1")) == 0 })
	eventually(t, "and who waits is told", func() bool { return len(woken) > 0 })

	seen := loaded.Type{Broker: "b", Type: "com.example.paid", Source: "/till", SpecVersion: "1.0"}
	board.Seen(seen)
	ask <- true
	ask <- true // again, which changes nothing
	eventually(t, "types are told while they are asked for", func() bool { board.Seen(seen); return heard() > 0 })
	if missing := p.InForce("b", "1"); len(missing) > 0 {
		t.Errorf("asking for types broke the other stream: %v", missing)
	}
	ask <- false
	ask <- false
	before := heard()
	other := seen
	other.Type = "com.example.late"
	eventually(t, "nobody asks any more", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.more == nil })
	board.Seen(other)

	if err := client.DiscoveryV1().EndpointSlices("penstock-system").Delete(ctx, "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod is gone", func() bool { return strings.HasPrefix(strings.Join(p.InForce("b", "1"), ""), "no pod") })
	ask <- true // and ends in the middle of it
	stop()
	<-ended
	mu.Lock()
	defer mu.Unlock()
	for _, x := range types[before:] {
		if x.Type == other.Type {
			t.Error("a type was told that nobody asked for")
		}
	}
}
