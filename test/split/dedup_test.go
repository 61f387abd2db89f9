package split_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/config"
)

// An event that is sent twice comes to the dispatcher that has its first copy,
// whichever that is, also when that one has been away: its answer is the first
// one's, and it is delivered once.
func TestAnEventThatComesTwiceIsKnownWhereverItWent(t *testing.T) {
	p := start(t, 2, cluster.IngressAccount, func(b *eventingv1.Broker, _ *eventingv1.Trigger) {
		b.Annotations[config.AnnotationPrefix+"dedup-window"] = "1h"
	})
	first := make(map[string]string)
	dispatchers := make(map[int]int)
	for i := range 40 {
		id := fmt.Sprint("order-", i)
		code, answer := p.post(id, "")
		link := answer.Get("Penstock-Event")
		if code != http.StatusAccepted || answer.Get("Penstock-Duplicate") != "" {
			t.Fatalf("%s: %d, %v", id, code, answer)
		}
		first[id] = link
		dispatchers[shardOf(t, link)/16]++
	}
	if len(dispatchers) != 2 {
		t.Errorf("events went to dispatchers %v, want both", dispatchers)
	}
	again := func(when string) {
		t.Helper()
		for id, link := range first {
			code, answer := p.post(id, "")
			if code != http.StatusAccepted || answer.Get("Penstock-Duplicate") != "true" || answer.Get("Penstock-Event") != link {
				t.Errorf("%s: %s, stored at %s: %d, %v", when, id, link, code, answer)
			}
		}
	}
	again("at once")
	for i := range p.dispatchers {
		p.serving(i, false)
		p.dispatchers[i].end(t)
		p.dispatch(i)
		p.serving(i, true)
	}
	eventually(t, "both take events again", func() bool {
		for id := range first {
			if code, _ := p.post(id, ""); code != http.StatusAccepted {
				return false
			}
		}
		return true
	})
	again("after a restart")
	eventually(t, "all are delivered", func() bool {
		for id := range first {
			if !p.sub.has(id) {
				return false
			}
		}
		return true
	})
	p.sub.mu.Lock()
	defer p.sub.mu.Unlock()
	for id, n := range p.sub.got {
		if n != 1 {
			t.Errorf("%s was delivered %d times", id, n)
		}
	}
}

// Of a Broker with an ordered Trigger the events of one subject lie in one
// shard of one dispatcher, though they carry no partitionkey.
func TestASubjectHasItsHomeWhereATriggerIsOrdered(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		p := start(t, 2, cluster.IngressAccount, func(_ *eventingv1.Broker, tr *eventingv1.Trigger) {
			if ordered {
				tr.Annotations = map[string]string{config.OrderAnnotation: config.OrderKey}
			}
		})
		homes := make(map[string]map[int]bool)
		for i := range 60 {
			subject := fmt.Sprint("customer-", i%6)
			code, answer := p.postWith(fmt.Sprint(i), map[string]string{"Ce-Subject": subject})
			if code != http.StatusAccepted {
				t.Fatalf("%d", code)
			}
			if homes[subject] == nil {
				homes[subject] = make(map[int]bool)
			}
			homes[subject][shardOf(t, answer.Get("Penstock-Event"))] = true
		}
		spread := 0
		for _, shards := range homes {
			if len(shards) > 1 {
				spread++
			}
		}
		if ordered && spread > 0 || !ordered && spread == 0 {
			t.Errorf("ordered %v: shards by subject are %v", ordered, homes)
		}
	}
}

// shardOf reads an event's link.
func shardOf(t *testing.T, link string) int {
	t.Helper()
	rest, ok := strings.CutPrefix(link, "https://penstock.example/api/v1/events/")
	id, of, query := strings.Cut(rest, "?broker=")
	shard, _, dash := strings.Cut(id, "-")
	n, err := strconv.Atoi(shard)
	if !ok || !query || !dash || err != nil || of != "default/default" {
		t.Fatalf("link %q", link)
	}
	return n
}
