package dispatch

import (
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

func TestTheKeyIsThePartitionKeyAndElseTheSubject(t *testing.T) {
	key := func(partition, subject string) string {
		var b event.Builder
		b.Set(event.AttrID, "1").Set(event.AttrSource, "/s").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t")
		if partition != "" {
			b.Set(event.ExtPartition, partition)
		}
		if subject != "" {
			b.Set(event.AttrSubject, subject)
		}
		e, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return keyOf(e)
	}
	for _, c := range [][3]string{{"p", "s", "p"}, {"", "s", "s"}, {"p", "", "p"}, {"", "", ""}} {
		if got := key(c[0], c[1]); got != c[2] {
			t.Errorf("partitionkey %q, subject %q: key %q, want %q", c[0], c[1], got, c[2])
		}
	}
	long := strings.Repeat("x", 1000)
	one, two := key(long+"1", ""), key(long+"2", "")
	if one == two || one != key(long+"1", "") || len(one) > 2*maxKey {
		t.Errorf("long keys are %q and %q", one, two)
	}
}

// At the bound an ordered lane takes up no more, and goes on below it.
func TestAnOrderIsFullAtItsBound(t *testing.T) {
	o := newOrder()
	if o.behind = maxBehindKeys; !o.full() {
		t.Error("it takes up more than its bound")
	}
	if o.behind--; o.full() || (*order)(nil).full() {
		t.Error("it takes up nothing")
	}
}
