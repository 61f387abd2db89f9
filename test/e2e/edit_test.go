package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
)

// While events flow, the filter of one Trigger is changed back and forth. The
// other Trigger must not lose any event, and the changed one must follow each
// change from the moment that the API shows it.
func TestEditedFilterIsInForceAndNothingIsLost(t *testing.T) {
	s := sink.Start(t, nil)
	dir := example(t, "quickstart", s.Address())
	b := start(t, dir)
	l := startLoad(t, b.Default(), "order.created", "payment.settled", "other")
	file := filepath.Join(dir, "triggers.yaml")
	original := read(t, file)
	changed := strings.Replace(original, "type: payment.", "type: order.", 1)
	if changed == original {
		t.Fatal("the example has no prefix payment. any more")
	}
	type probe struct {
		id     string
		wanted bool
	}
	var probes []probe
	for n, text := range []string{changed, original, changed, original} {
		l.more(50)
		want, other := "order.", "payment."
		if text == original {
			want, other = other, want
		}
		write(t, file, text)
		since := time.Now()
		broker.Await(t, "the edit is in force", func() bool { return strings.Contains(string(b.Trigger("payments").Filter), `"`+want+`"`) })
		t.Logf("edit %d was in force after %v", n+1, time.Since(since).Round(time.Millisecond))
		for typ, wanted := range map[string]bool{want: true, other: false} {
			id := fmt.Sprintf("probe-%d-%v", n, wanted)
			if status, _ := post(b.Default(), id, typ+"probe", "data of "+id); status != http.StatusAccepted {
				t.Fatalf("status is %d", status)
			}
			probes = append(probes, probe{id, wanted})
		}
	}
	accepted := l.stop()
	s.Await("/orders", accepted["order.created"]...)
	for _, p := range probes {
		if p.wanted {
			s.Await("/payments", p.id)
		}
	}
	b.AwaitSettled("orders", "payments")
	got := s.Got("/payments")
	for _, p := range probes {
		if _, came := got[p.id]; came != p.wanted {
			t.Errorf("%s came: %v", p.id, came)
		}
	}
	for id, r := range got {
		if r.Event.Type() == "other" {
			t.Errorf("/payments got %s of a type that it never wanted", id)
		}
	}
	if n := len(s.Got("/orders")); n != len(accepted["order.created"]) {
		t.Errorf("/orders got %d events, %d were accepted for it", n, len(accepted["order.created"]))
	}
}

// What does not parse changes nothing, says so, and its repair is taken.
func TestFileBrokenWhileItRunsKeepsItsLastGoodVersion(t *testing.T) {
	s := sink.Start(t, nil)
	dir := example(t, "quickstart", s.Address())
	b := start(t, dir)
	file := filepath.Join(dir, "triggers.yaml")
	good := read(t, file)
	problems := func() []v1.Problem {
		var list v1.ProblemList
		b.Get("/api/v1/problems", &list)
		return list.Items
	}
	write(t, file, good+"\n  broken: [\n")
	broker.Await(t, "a problem is shown", func() bool { return len(problems()) > 0 })
	if p := problems()[0]; !strings.HasPrefix(p.Origin, file+":") || !strings.Contains(p.Message, "not YAML") {
		t.Errorf("problem is %+v", p)
	}
	send(t, b, "1", "order.created")
	s.Await("/orders", "1")
	write(t, file, good)
	broker.Await(t, "the problem is gone", func() bool { return len(problems()) == 0 })
}
