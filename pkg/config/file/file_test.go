package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
)

// start loads files that must be good enough to start with.
func start(t *testing.T, o Options) (*Source, *config.Snapshot) {
	t.Helper()
	s := New(o)
	snapshot, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s, snapshot
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func trigger(t *testing.T, s *config.Snapshot, namespace, name string) *config.Trigger {
	t.Helper()
	tr, ok := s.Trigger(namespace, name)
	if !ok {
		t.Fatalf("there is no Trigger %s/%s; problems: %v", namespace, name, s.Problems())
	}
	return tr
}

func anEvent(t *testing.T, typ string) event.Event {
	t.Helper()
	var b event.Builder
	e, err := b.Set("id", "1").Set("source", "/test").Set("specversion", "1.0").Set("type", typ).Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The block stands in the article that the project starts from, and people
// paste it as it is.
func TestArticlesTriggerWorksVerbatim(t *testing.T) {
	resolve, err := config.ParseResolve([]string{"service/message-processor=http://localhost:3000"})
	if err != nil {
		t.Fatal(err)
	}
	_, s := start(t, Options{Paths: []string{"testdata/article-trigger.yaml"}, Compile: config.Options{Resolve: resolve}})
	tr := trigger(t, s, "default", "message-trigger")
	if !tr.Ready || tr.Subscriber != "http://localhost:3000" || tr.Broker != "default" {
		t.Errorf("trigger is %+v", tr)
	}
	if !tr.Filter.Match(anEvent(t, "message.event")) || tr.Filter.Match(anEvent(t, "other.event")) {
		t.Error("it wants events of type message.event and no others")
	}
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0].Message, "is read as eventing.knative.dev/v1") {
		t.Errorf("problems are %v, want one about v1alpha1", p)
	}
}

func TestTriggerWithoutResolveSaysWhichFlagToAdd(t *testing.T) {
	resolve, _ := config.ParseResolve(nil)
	_, s := start(t, Options{Paths: []string{"testdata/article-trigger.yaml"}, Compile: config.Options{Resolve: resolve}})
	tr := trigger(t, s, "default", "message-trigger")
	if tr.Ready || tr.Reason != config.ReasonSubscriberNotResolved || tr.Subscriber != "" {
		t.Errorf("trigger is %+v", tr)
	}
	const want = "testdata/article-trigger.yaml:11: spec.subscriber.ref: Service default/message-processor: no URL is known for it: start with --resolve service/message-processor=http://HOST:PORT"
	if tr.Message != want {
		t.Errorf("message is\n%s\nwant\n%s", tr.Message, want)
	}
	if tr.Filter == nil {
		t.Error("its events are kept until the subscriber is known")
	}
}

func TestBrokerDefaultAlwaysExists(t *testing.T) {
	dir := t.TempDir()
	_, s := start(t, Options{Dir: dir})
	b, ok := s.Broker("default", "default")
	if !ok || !b.Ready || b.Channel != config.ChannelDisk || b.Retention != 24*time.Hour || b.RetentionBytes != 1<<30 {
		t.Fatalf("broker is %+v", b)
	}
	p := b.Delivery.Policy
	if p.Retry != 10 || p.Backoff.String() != "exponential" || p.Delay != 200*time.Millisecond {
		t.Errorf("delivery is %+v, want Knative's shipped defaults", p)
	}

	_, again := start(t, Options{Dir: dir})
	c, _ := again.Broker("default", "default")
	if c.UID != b.UID {
		t.Error("it has another identity after a restart")
	}
	info, err := os.Stat(filepath.Join(dir, identityFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("identities: %v, mode %v", err, info.Mode())
	}
}
