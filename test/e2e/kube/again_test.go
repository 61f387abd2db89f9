package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// duty is somebody with penstock-operator in one namespace, who asks the API of
// dispatchers from inside the cluster.
type duty struct {
	*kube.Space
	t     *testing.T
	token string
}

func onDuty(t *testing.T, s *kube.Space) *duty {
	t.Helper()
	ctx := s.Context()
	if _, err := s.Kube.CoreV1().ServiceAccounts(s.Name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "duty"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Kube.RbacV1().RoleBindings(s.Name).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "duty"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "penstock-operator"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.Name, Name: "duty"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := s.Kube.CoreV1().ServiceAccounts(s.Name).CreateToken(ctx, "duty", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &duty{s, t, token.Status.Token}
}

// ask asks one dispatcher; into is nil where the answer does not matter.
func (d *duty) ask(pod corev1.Pod, method, path string, body any, into any) probe.Answer {
	d.t.Helper()
	m := probe.Send{URL: "http://" + pod.Status.PodIP + ":8088" + path, Method: method, Headers: map[string]string{"Authorization": "Bearer " + d.token}}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		m.Body = text
		m.Headers["Content-Type"] = "application/json"
	}
	a := d.Send(m)[0]
	if into != nil && a.Status/100 == 2 {
		if err := json.Unmarshal(a.Body, into); err != nil {
			d.t.Fatalf("%s: %v: %s", path, err, a.Body)
		}
	}
	return a
}

// TestWhatDiedIsSentAgainWhicheverDispatcherIsAsked: dead letters of all
// dispatchers, counted, redriven, and the story of one, by somebody who has the
// right in this namespace and in no other.
func TestWhatDiedIsSentAgainWhicheverDispatcherIsAsked(t *testing.T) {
	t.Parallel()
	s := space(t)
	d := onDuty(t, s)
	url := kube.Address(s.ReadyBroker("default"))
	sub := s.Receiver("sub", probe.Step{Status: http.StatusUnprocessableEntity})
	s.ReadyTrigger("trigger", "default", sub.Ref(), kube.Delivers(kube.Delivery(nil, 0)))
	const events = 12
	var ids []string
	var link string
	for range events {
		e := kube.Small("order")
		a := s.Post(http.StatusAccepted, kube.Binary(url, e))
		if links := a.Headers["Penstock-Event"]; len(links) == 1 {
			link = links[0]
		}
		ids = append(ids, e.ID())
	}
	if !strings.HasPrefix(link, "/api/v1/events/") || !strings.Contains(link, "broker="+s.Name+"/default") {
		t.Errorf("the last 202 says Penstock-Event: %s", link)
	}

	pods := s.PodsOf(kube.Dispatcher)
	trigger := "/api/v1/triggers/" + s.Name + "/trigger"
	var tr v1.Trigger
	for _, pod := range pods {
		s.Eventually(pod.Name+" counts the dead letters of all", kube.Patience, func() (bool, string) {
			a := d.ask(pod, http.MethodGet, trigger, nil, &tr)
			return a.Status == http.StatusOK && tr.Dead == events, fmt.Sprintf("%d, %d dead, incomplete %v", a.Status, tr.Dead, a.Headers["Penstock-Incomplete"])
		})
	}
	if a := d.ask(pods[0], http.MethodGet, "/api/v1/deadletters", nil, nil); a.Status != http.StatusForbidden {
		t.Errorf("dead letters of all namespaces: %d %s", a.Status, a.Body)
	}
	if a := d.ask(pods[0], http.MethodPost, "/api/v1/deadletters/redrive", v1.JobRequest{Trigger: "penstock-system/none"}, nil); a.Status != http.StatusForbidden {
		t.Errorf("a redrive elsewhere: %d %s", a.Status, a.Body)
	}

	sub.Set(probe.Mood{})
	var job v1.Job
	if a := d.ask(pods[0], http.MethodPost, "/api/v1/deadletters/redrive", v1.JobRequest{Trigger: s.Name + "/trigger"}, &job); a.Status != http.StatusCreated {
		t.Fatalf("redrive: %d %s", a.Status, a.Body)
	}
	last := pods[len(pods)-1]
	s.Eventually("the redrive is done", kube.Patience, func() (bool, string) {
		a := d.ask(last, http.MethodGet, "/api/v1/jobs/"+job.ID, nil, &job)
		return a.Status == http.StatusOK && job.State == v1.JobDone, fmt.Sprintf("%d %s", a.Status, a.Body)
	})
	if job.Delivered != events || job.Failed != 0 || !strings.Contains(job.Who, ":duty") {
		t.Errorf("the job is %+v", job)
	}
	for _, id := range ids {
		sub.Exactly(id, 2) // the attempt that was refused, and the one of the redrive
	}

	var story v1.EventStory
	if a := d.ask(last, http.MethodGet, link, nil, &story); a.Status != http.StatusOK {
		t.Fatalf("story: %d %s", a.Status, a.Body)
	}
	if len(story.Triggers) != 1 || story.Triggers[0].State != v1.StateDelivered || len(story.Triggers[0].Attempts) != 2 || story.EventID != ids[events-1] {
		t.Errorf("the story is %+v", story)
	}

	if a := d.ask(pods[0], http.MethodPost, trigger+"/pause", v1.PauseRequest{For: "10m"}, nil); a.Status != http.StatusOK {
		t.Fatalf("pause: %d %s", a.Status, a.Body)
	}
	e := kube.Small("order")
	s.Post(http.StatusAccepted, kube.Binary(url, e))
	s.Quiet(2 * time.Second)
	if len(kube.With(sub.Got(), e.ID())) > 0 {
		t.Error("a paused Trigger was delivered to")
	}
	if a := d.ask(last, http.MethodPost, trigger+"/resume", nil, nil); a.Status != http.StatusOK {
		t.Fatalf("resume: %d %s", a.Status, a.Body)
	}
	sub.Exactly(e.ID(), 1)
}

// TestARepeatedEventIsKnownOnACluster: with a window, wherever it comes in.
func TestARepeatedEventIsKnownOnACluster(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default", func(b *eventingv1.Broker) {
		b.Annotations["penstock.dev/dedup-window"] = "10m"
	}))
	sub := s.Receiver("sub")
	s.ReadyTrigger("trigger", "default", sub.Ref())
	for range 5 {
		e := kube.Small("order")
		for n := range 3 {
			a := s.Post(http.StatusAccepted, kube.Binary(url, e))
			if again := len(a.Headers["Penstock-Duplicate"]) > 0; again != (n > 0) {
				t.Errorf("time %d: %v", n+1, a.Headers)
			}
		}
		sub.Exactly(e.ID(), 1)
	}
}
