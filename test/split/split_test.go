// Package split_test is the data plane of a cluster as one story each: ingress
// and dispatchers as they run in pods, real HTTP, real logs on real folders.
// Kubernetes itself is tested on a real cluster, in test/e2e/kube.
package split_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/auth"
	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/client"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/loaded"
	"github.com/penstock-events/penstock/test/standin"
)

func TestAnEventGoesThroughIngressAndDispatcher(t *testing.T) {
	p := start(t, 1, cluster.IngressAccount)
	if code, _ := p.post("1", ""); code != http.StatusAccepted {
		t.Fatalf("answered with %d", code)
	}
	eventually(t, "the event is delivered", func() bool { return p.sub.has("1") })
}

// A roll of the dispatchers under load: one after the other stops in order and
// comes back on its volume. Senders see 202 and nothing else, and every 202 is
// delivered.
func TestDispatchersRestartUnderLoadAndNobodyNotices(t *testing.T) {
	p := start(t, 2, cluster.IngressAccount)
	var sent, accepted atomic.Int64
	codes := make(map[int]int)
	var mu sync.Mutex
	var senders sync.WaitGroup
	stop := make(chan struct{})
	var ids []string
	for s := range 4 {
		senders.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%d-%d", s, i)
				sent.Add(1)
				code, _ := p.post(id, "")
				mu.Lock()
				codes[code]++
				if code == http.StatusAccepted {
					accepted.Add(1)
					ids = append(ids, id)
				}
				mu.Unlock()
			}
		})
	}
	for i := range p.dispatchers {
		before := accepted.Load()
		eventually(t, "events flow", func() bool { return accepted.Load() > before+50 })
		p.serving(i, false) // as Kubernetes does when a pod is to go
		p.dispatchers[i].end(t)
		during := accepted.Load()
		eventually(t, "events flow past the one that is away", func() bool { return accepted.Load() > during+50 })
		p.dispatch(i)
		p.serving(i, true)
	}
	close(stop)
	senders.Wait()
	if len(codes) != 1 || codes[http.StatusAccepted] == 0 {
		t.Errorf("answers were %v, want 202 alone", codes)
	}
	eventually(t, "every accepted event is delivered", func() bool {
		for _, id := range ids {
			if !p.sub.has(id) {
				return false
			}
		}
		return true
	})
	t.Logf("%d events over two restarts, all accepted and delivered", len(ids))
}

// Events of a key stay with their dispatcher: while it is away they are refused
// for now, and all others go elsewhere.
func TestAKeyWaitsForItsHomeAndNobodyElseDoes(t *testing.T) {
	p := start(t, 2, cluster.IngressAccount)
	var away, here string
	for i := 0; away == "" || here == ""; i++ {
		if key := fmt.Sprint("k", i); remote.Home(key, 2) == 1 {
			away = key
		} else {
			here = key
		}
	}
	p.serving(1, false)
	p.dispatchers[1].end(t)
	eventually(t, "the ingress knows that one is away", func() bool {
		code, answer := p.post("away", away)
		return code == http.StatusServiceUnavailable && answer.Get("Retry-After") != ""
	})
	for id, key := range map[string]string{"here": here, "any": ""} {
		if code, _ := p.post(id, key); code != http.StatusAccepted {
			t.Errorf("event %s: %d", id, code)
		}
	}
	p.dispatch(1)
	p.serving(1, true)
	eventually(t, "the key is taken again", func() bool {
		code, _ := p.post("back", away)
		return code == http.StatusAccepted
	})
	eventually(t, "all are delivered", func() bool { return p.sub.has("here") && p.sub.has("any") && p.sub.has("back") })
	if p.sub.has("away") {
		t.Error("a refused event was delivered")
	}
}

func TestWithoutAnyDispatcherSendersAreToldToComeBack(t *testing.T) {
	p := start(t, 1, cluster.IngressAccount)
	p.serving(0, false)
	p.dispatchers[0].end(t)
	eventually(t, "503", func() bool {
		code, answer := p.post("1", "")
		return code == http.StatusServiceUnavailable && answer.Get("Retry-After") != ""
	})
}

// Only ingress may append: another account of the cluster, or none, stores nothing.
func TestNobodyButIngressAppends(t *testing.T) {
	p := start(t, 1, "somebody-else")
	if code, _ := p.post("1", ""); code != http.StatusServiceUnavailable {
		t.Errorf("answered with %d", code)
	}
	answer, err := http.Post("http://127.0.0.1:"+p.port+remote.Path, "application/octet-stream", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d", answer.StatusCode)
	}
	if p.sub.has("1") {
		t.Error("it was stored")
	}
}

// The API and the board are not for everybody on the network.
func TestTheAPIAsksWhoMay(t *testing.T) {
	p := start(t, 1, cluster.IngressAccount)
	for path, want := range map[string]int{"/api/v1/triggers": http.StatusUnauthorized, loaded.Path: http.StatusUnauthorized, "/healthz": http.StatusOK} {
		answer, err := http.Get("http://" + p.apis[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, answer.StatusCode, want)
		}
	}
}

// admin is the API at a dispatcher, asked by somebody who may do everything.
func (p *plane) admin(i int) *client.Client {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(standin.Admin), 0o600); err != nil {
		p.t.Fatal(err)
	}
	api, err := client.New("http://"+p.apis[i], &http.Client{Transport: &auth.Transport{Tokens: auth.NewTokenFile(file), Next: http.DefaultTransport}})
	if err != nil {
		p.t.Fatal(err)
	}
	return api
}

// Whichever dispatcher is asked, it answers for all.
func TestTheAPIOfAnyDispatcherAnswersForAll(t *testing.T) {
	p := start(t, 3, cluster.IngressAccount)
	p.sub.refuse.Store(true)
	const events = 30 // ten at each
	for i := range events {
		if code, _ := p.post(fmt.Sprint(i), ""); code != http.StatusAccepted {
			t.Fatalf("answered with %d", code)
		}
	}
	for i := range p.apis {
		api := p.admin(i)
		eventually(t, fmt.Sprintf("dispatcher %d counts all dead letters", i), func() bool {
			tr, err := api.Trigger(t.Context(), "default", "all")
			return err == nil && tr.Dead == events
		})
		seen := make(map[string]bool)
		q := client.DeadLetterQuery{Trigger: "default/all", Limit: 7}
		for {
			list, err := api.DeadLetters(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list.Items {
				seen[d.ID] = true
			}
			if q.Cursor = list.Next; q.Cursor == "" {
				break
			}
		}
		if len(seen) != events {
			t.Errorf("dispatcher %d lists %d dead letters", i, len(seen))
		}
		for id := range seen {
			if d, err := api.DeadLetter(t.Context(), "default", "all", id); err != nil || d.ID != id {
				t.Errorf("dispatcher %d shows %s as %q, %v", i, id, d.ID, err)
			}
		}
	}
}

// A redrive, a pause and a story reach the dispatchers that have a part of it,
// whichever is asked.
func TestWhatIsToldOneDispatcherIsToldAll(t *testing.T) {
	p := start(t, 3, cluster.IngressAccount)
	p.sub.refuse.Store(true)
	const events = 30
	for i := range events {
		if code, _ := p.post(fmt.Sprint(i), ""); code != http.StatusAccepted {
			t.Fatalf("answered with %d", code)
		}
	}
	api := p.admin(1)
	eventually(t, "all are dead", func() bool {
		tr, err := api.Trigger(t.Context(), "default", "all")
		return err == nil && tr.Dead == events
	})
	p.sub.refuse.Store(false)
	job, err := api.BeginJob(t.Context(), v1.JobRedrive, v1.JobRequest{Trigger: "default/all"})
	if err != nil {
		t.Fatal(err)
	}
	other := p.admin(2)
	eventually(t, "the redrive is done at all", func() bool {
		job, err = other.Job(t.Context(), job.ID)
		return err == nil && job.State == v1.JobDone
	})
	if job.Delivered != events || job.Failed != 0 {
		t.Errorf("the job is %+v", job)
	}
	for i := range events {
		if !p.sub.has(fmt.Sprint(i)) {
			t.Errorf("event %d was not delivered", i)
		}
	}
	if tr, err := other.Trigger(t.Context(), "default", "all"); err != nil || tr.Dead != 0 {
		t.Errorf("%d dead letters are left, %v", tr.Dead, err)
	}
	if list, err := other.Jobs(t.Context(), client.JobQuery{}); err != nil || len(list) != 3 {
		t.Errorf("%d jobs are listed, %v", len(list), err)
	}

	found, err := api.Events(t.Context(), client.EventQuery{ID: "7"})
	if err != nil || len(found.Items) != 1 {
		t.Fatalf("event 7 is found as %+v, %v", found, err)
	}
	story, err := other.EventStory(t.Context(), found.Items[0].ID, found.Items[0].Broker)
	if err != nil {
		t.Fatal(err)
	}
	if len(story.Triggers) != 1 || story.Triggers[0].State != v1.StateDelivered || len(story.Triggers[0].Attempts) != 2 || story.Triggers[0].Attempts[1].Rerun == "" {
		t.Errorf("its story is %+v", story)
	}

	if _, err := api.Pause(t.Context(), "default", "all", ""); err != nil {
		t.Fatal(err)
	}
	for i := range 6 { // two at each
		p.post(fmt.Sprint("late-", i), "")
	}
	eventually(t, "all wait", func() bool {
		tr, err := other.Trigger(t.Context(), "default", "all")
		return err == nil && tr.Paused && tr.Backlog == 6
	})
	if _, err := other.Resume(t.Context(), "default", "all"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all go on", func() bool {
		tr, err := api.Trigger(t.Context(), "default", "all")
		return err == nil && !tr.Paused && tr.Backlog == 0
	})
}

// What the controller reads is what is in force, and a Broker that is deleted
// is not served from then on.
func TestADeletedBrokerIsNotServed(t *testing.T) {
	p := start(t, 1, cluster.IngressAccount)
	watcher := loaded.NewWatcher(loaded.WatcherOptions{Token: func() (string, error) { return cluster.ControllerAccount, nil }})
	watcher.SetPods([]loaded.Pod{{Name: "penstock-dispatcher-0", Address: p.apis[0], Serving: true}})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watcher.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	broker := standin.Broker("default", "default")
	eventually(t, "the controller knows that the Broker is in force", func() bool {
		return watcher.InForce(kube.BrokerUID(broker), kube.BrokerVersion(broker)) == nil
	})
	if watcher.InForce(kube.BrokerUID(broker), "another version") == nil {
		t.Error("any version is in force")
	}

	if err := p.clients.Knative.EventingV1().Brokers("default").Delete(t.Context(), "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "404", func() bool {
		code, _ := p.post("late", "")
		return code == http.StatusNotFound
	})
}

// A volume can be backed up whatever has become of the Brokers whose events are
// on it: also after a restart, by which a deleted one is known from the log alone.
func TestABackupIsWholeWhileADeletedBrokerIsOnItsWayOut(t *testing.T) {
	p := start(t, 1, cluster.IngressAccount)
	if code, _ := p.post("1", ""); code != http.StatusAccepted {
		t.Fatalf("answered with %d", code)
	}
	if err := p.clients.Knative.EventingV1().Brokers("default").Delete(t.Context(), "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	again := standin.Broker("default", "default")
	again.UID = "made-again"
	if _, err := p.clients.Knative.EventingV1().Brokers("default").Create(t.Context(), again, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	archive := func() (brokers int, err error) {
		r, err := http.NewRequest(http.MethodGet, "http://"+p.apis[0]+"/api/v1/backup", nil)
		if err != nil {
			return 0, err
		}
		r.Header.Set("Authorization", "Bearer "+standin.Admin)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		m, err := backup.Verify(answer.Body)
		if err != nil {
			return 0, err
		}
		return len(m.Brokers), nil
	}
	eventually(t, "both Brokers are in a backup", func() bool {
		n, err := archive()
		if err != nil {
			t.Fatal(err)
		}
		return n == 2
	})
	p.dispatchers[0].end(t)
	p.dispatch(0)
	if n, err := archive(); n != 2 || err != nil {
		t.Errorf("after a restart: %d Brokers, %v", n, err)
	}
}
