package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube/probe"
)

// Receiver is a Service that leads to the probe.
type Receiver struct {
	Name  string
	space *Space
}

// Receiver makes a Service and waits until its name leads to the probe from
// inside the cluster, so that the first delivery is not lost to a slow proxy.
func (s *Space) Receiver(name string, steps ...probe.Step) *Receiver {
	s.t.Helper()
	_, err := s.Kube.CoreV1().Services(s.Name).Create(s.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "probe"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(probe.DataPort)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatalf("make the receiver %s: %v", name, err)
	}
	r := &Receiver{Name: name, space: s}
	a := s.Send(probe.Send{URL: r.URL() + "/.probe", Method: http.MethodGet, Until: http.StatusOK})[0]
	if a.Status != http.StatusOK {
		s.t.Fatalf("the receiver %s cannot be reached: %+v", name, a)
	}
	if len(steps) > 0 {
		r.Set(probe.Mood{Steps: steps})
	}
	s.seen.mu.Lock()
	s.seen.known = append(s.seen.known, name)
	s.seen.mu.Unlock()
	return r
}

// Receivers makes several.
func (s *Space) Receivers(names ...string) map[string]*Receiver {
	s.t.Helper()
	all := make(map[string]*Receiver, len(names))
	for _, name := range names {
		all[name] = s.Receiver(name)
	}
	return all
}

// URL is the address of the Service, without a slash at the end.
func (r *Receiver) URL() string {
	return "http://" + r.Name + "." + r.space.Name + ".svc.cluster.local"
}

// Ref names the Service as a Destination.
func (r *Receiver) Ref() duckv1.Destination {
	return duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: r.Name, Namespace: r.space.Name}}
}

// URI is a Destination by address.
func URI(address string) duckv1.Destination {
	u, err := apis.ParseURL(address)
	if err != nil {
		panic(err)
	}
	return duckv1.Destination{URI: u}
}

// Set gives it a mood.
func (r *Receiver) Set(m probe.Mood) {
	r.space.t.Helper()
	r.space.must(http.MethodPut, "mood/"+r.Name, nil, m, nil)
}

// Got is what came so far.
func (r *Receiver) Got() []probe.Request {
	r.space.t.Helper()
	var got probe.Received
	r.space.must(http.MethodGet, "received/"+r.Name, nil, nil, &got)
	return got.Requests
}

// Total is how many requests came.
func (r *Receiver) Total() int {
	r.space.t.Helper()
	var got probe.Received
	r.space.must(http.MethodGet, "received/"+r.Name, nil, nil, &got)
	return got.Total
}

// With keeps the requests with an event of this id.
func With(all []probe.Request, id string) []probe.Request {
	var some []probe.Request
	for _, req := range all {
		if req.ID == id {
			some = append(some, req)
		}
	}
	return some
}

// Await waits until n requests with this event id came, and returns them all.
// An empty id is any event.
func (r *Receiver) Await(id string, n int) []probe.Request {
	r.space.t.Helper()
	var some []probe.Request
	r.space.Eventually(fmt.Sprintf("%s receives %q %d times", r.Name, id, n), Patience, func() (bool, string) {
		all := r.Got()
		some = all
		if id != "" {
			some = With(all, id)
		}
		return len(some) >= n, fmt.Sprintf("%d requests, of which %d are wanted", len(all), len(some))
	})
	return some
}

// Exactly waits for n requests and then a while for one too many.
func (r *Receiver) Exactly(id string, n int) []probe.Request {
	r.space.t.Helper()
	r.Await(id, n)
	r.space.Quiet(time.Second)
	some := r.Await(id, n)
	if len(some) != n {
		r.space.t.Errorf("%s received %q %d times, want %d", r.Name, id, len(some), n)
	}
	return some
}

// Event reads a request with the CloudEvents SDK. The SDK leaves the values of
// headers as they are, so the percent-encoding is undone first (HTTP binding, 3.1.3.2).
func Event(req probe.Request) (*event.Event, error) {
	headers := http.Header(req.Headers).Clone()
	for name, values := range headers {
		if strings.HasPrefix(strings.ToLower(name), "ce-") {
			for i, v := range values {
				if plain, err := url.PathUnescape(v); err == nil {
					values[i] = plain
				}
			}
		}
	}
	m := cehttp.NewMessage(headers, io.NopCloser(strings.NewReader(string(req.Body))))
	return binding.ToEvent(context.Background(), m)
}

// Read is Event for a test that expects nothing else.
func (s *Space) Read(req probe.Request) event.Event {
	s.t.Helper()
	e, err := Event(req)
	if err != nil {
		s.t.Fatalf("what came is no event: %v\n%v\n%s", err, req.Headers, req.Body)
	}
	return *e
}

// Header is one header of a request.
func Header(req probe.Request, name string) string { return http.Header(req.Headers).Get(name) }
