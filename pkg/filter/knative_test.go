//go:build !race

// The oracle pulls in a large part of Kubernetes, which the race detector's
// build need not wait for: nothing here runs beside anything else.

package filter

import (
	"context"
	"math/rand/v2"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"knative.dev/eventing/pkg/eventfilter"
	"knative.dev/eventing/pkg/eventfilter/attributes"
	"knative.dev/eventing/pkg/eventfilter/subscriptionsapi"

	"github.com/penstock-events/penstock/pkg/event"
)

// Knative's library is the oracle. Where it departs from the CloudEvents
// specifications, or falls over, we do otherwise, and the oracle or the
// generator steps aside:
//
//   - filter.attributes compares Go values: an extension that JSON carried as
//     the integer 5 does not equal "5", though exact says it does. The oracle
//     gets such events with all extensions as strings.
//   - A missing time reads as 0001-01-01T00:00:00Z, which passes "any value"
//     and some prefixes and suffixes. Generated events have a time.
//   - Times and URIs are compared after the SDK has parsed and written them
//     anew. Generated ones are written as the SDK writes them.
//   - A filter that does not build is skipped, and a Trigger left with none
//     gets every event. Ours does not compile: TestFilterThatDoesNotCompile...
//   - CESQL that is no Boolean panics at the first event. Ours does not
//     compile, or casts where only the event tells (CloudEvents Subscriptions
//     API, 3.2.4.1.7). The oracle skips the event.
//   - LIKE takes a % in the text for the wildcard, an escape that does not fit
//     for a backslash, and bytes for characters; so do LENGTH, LEFT, RIGHT and
//     SUBSTRING. Generated values are ASCII without %, _ and backslash;
//     TestLikeMatches... has the others.
//   - SUBSTRING with a negative length panics. None is generated.
//   - any answers with its last branch's result, and a branch may answer
//     "no filter": not so for branches that build, which is all ours have.
//   - all and any start goroutines that reorder branches without locks and
//     race with Cleanup. The oracle combines their leaves itself, in order.
type oracle struct {
	event   cloudevents.Event
	skipped bool // CESQL was not a Boolean
}

// match is filterEvent of knative.dev/eventing/pkg/broker/filter.
func (o *oracle) match(t *testing.T, s Spec, e event.Event) bool {
	o.event = toSDK(t, e)
	if len(s.Filters) > 0 {
		return o.all(t, s.Filters)
	}
	if s.Attributes == nil {
		return true
	}
	b := event.Edit(e)
	for name, v := range e.Attributes() {
		b.Set(name, v.Text)
	}
	return attributes.NewAttributesFilter(s.Attributes).Filter(context.Background(), toSDK(t, build(t, b))) != eventfilter.FailFilter
}

func (o *oracle) all(t *testing.T, dialects []Dialect) bool {
	for i := range dialects {
		if !o.dialect(t, &dialects[i]) {
			return false
		}
	}
	return true
}

func (o *oracle) dialect(t *testing.T, d *Dialect) bool {
	switch {
	case len(d.All) > 0:
		return o.all(t, d.All)
	case len(d.Any) > 0:
		for i := range d.Any {
			if o.dialect(t, &d.Any[i]) {
				return true
			}
		}
		return false
	case d.Not != nil:
		return !o.dialect(t, d.Not)
	case len(d.Exact) > 0:
		return o.leaf(t)(subscriptionsapi.NewExactFilter(d.Exact))
	case len(d.Prefix) > 0:
		return o.leaf(t)(subscriptionsapi.NewPrefixFilter(d.Prefix))
	case len(d.Suffix) > 0:
		return o.leaf(t)(subscriptionsapi.NewSuffixFilter(d.Suffix))
	default:
		return o.leaf(t)(subscriptionsapi.NewCESQLFilter(d.CESQL))
	}
}

func (o *oracle) leaf(t *testing.T) func(eventfilter.Filter, error) bool {
	return func(f eventfilter.Filter, err error) (matched bool) {
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if r := recover(); r != nil {
				o.skipped = true
			}
		}()
		return f.Filter(context.Background(), o.event) == eventfilter.PassFilter
	}
}

// compare runs one filter on one event through every way of matching.
func compare(t *testing.T, c *choices) {
	t.Helper()
	s := c.spec()
	f, err := Compile(s)
	if err != nil {
		t.Fatalf("compile %s: %v", s.Canonical(), err)
	}
	ix := NewIndex([]*Filter{f})
	var scratch Scratch
	for range 4 {
		e := c.event(t)
		var o oracle
		want := o.match(t, s, e)
		got := f.Match(e)
		if !o.skipped && got != want {
			t.Fatalf("match is %v, Knative says %v\n%s\n%s\n%s", got, want, s.Canonical(), describe(e), f.Explain(e))
		}
		if x := f.Explain(e); x.Matched != got || x.String() == "" {
			t.Fatalf("match is %v, explained as %+v\n%s\n%s", got, x, s.Canonical(), describe(e))
		}
		if found := len(ix.Match(e, &scratch)) == 1; found != got {
			t.Fatalf("match is %v, the index says %v\n%s\n%s", got, found, s.Canonical(), describe(e))
		}
	}
}

func FuzzFilterAgainstKnative(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(64) {
		f.Add(randomChoices(rand.New(rand.NewPCG(seed, 1)), 160).bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) { compare(t, &choices{bytes}) })
}

func TestRandomFiltersMatchAsKnativeDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	n := 4000
	if testing.Short() {
		n = 400
	}
	for range n {
		compare(t, randomChoices(r, 240))
	}
}
