package filter_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/crowd"
)

// Ten thousand Triggers, and to each the events it wants: the index against
// asking every filter.
func TestIndexOfTenThousandMixedFiltersFindsWhatAskingEachFinds(t *testing.T) {
	filters := compileAll(t, 10_000, crowd.Mixed)
	ix := filter.NewIndex(filters)
	var s filter.Scratch
	r := rand.New(rand.NewPCG(1, 2))
	for place := range 100 {
		for range 3 {
			i := place + 100*r.IntN(100)
			e := crowd.MixedEvent(i)
			var want []int
			for n, f := range filters {
				if f.Match(e) {
					want = append(want, n)
				}
			}
			if got := ix.Match(e, &s); !slices.Equal(got, want) || !slices.Contains(got, i) {
				t.Fatalf("event of trigger %d goes to %v, want %v", i, got, want)
			}
		}
	}
}

// Each event is another one at random, so that what the index touches is not
// in the processor's cache just because it was touched before.
func BenchmarkMatchTenThousand(b *testing.B) {
	for _, kind := range []struct {
		name  string
		spec  func(int) filter.Spec
		event func(int) event.Event
	}{
		{"exact", crowd.Exact, crowd.ExactEvent},
		{"mixed", crowd.Mixed, crowd.MixedEvent},
	} {
		for _, n := range []int{1, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, n), func(b *testing.B) {
				ix := filter.NewIndex(compileAll(b, n, kind.spec))
				r := rand.New(rand.NewPCG(1, 2))
				events := make([]event.Event, 1<<15)
				for i := range events {
					events[i] = kind.event(r.IntN(n))
				}
				var s filter.Scratch
				i, matched := 0, 0
				b.ReportAllocs()
				for b.Loop() {
					matched += len(ix.Match(events[i%len(events)], &s))
					i++
				}
				if matched < i {
					b.Fatalf("%d matches of %d events", matched, i)
				}
			})
		}
	}
}

func BenchmarkIndexTenThousand(b *testing.B) {
	filters := compileAll(b, 10_000, crowd.Mixed)
	b.ReportAllocs()
	for b.Loop() {
		filter.NewIndex(filters)
	}
}

func BenchmarkCompileTenThousand(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		compileAll(b, 10_000, crowd.Mixed)
	}
}

func compileAll(tb testing.TB, n int, spec func(int) filter.Spec) []*filter.Filter {
	tb.Helper()
	filters := make([]*filter.Filter, n)
	for i := range filters {
		f, err := filter.Compile(spec(i))
		if err != nil {
			tb.Fatal(err)
		}
		filters[i] = f
	}
	return filters
}
