package filter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

// linear is what an index must agree with.
func linear(filters []*Filter, e event.Event) []int {
	var out []int
	for i, f := range filters {
		if f != nil && f.Match(e) {
			out = append(out, i)
		}
	}
	return out
}

func TestIndexFindsWhatAskingEveryFilterFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var s Scratch
	matches := 0
	for round := range 30 {
		filters := make([]*Filter, r.IntN(300))
		for i := range filters {
			if r.IntN(20) == 0 {
				continue // a Trigger whose filter does not compile
			}
			spec := randomChoices(r, 120).spec()
			if round%3 == 0 {
				// Many share a condition and differ in another.
				spec.Filters = append(spec.Filters, Dialect{Exact: m("specversion", "1.0")})
			}
			filters[i] = mustCompile(t, spec)
		}
		ix := NewIndex(filters)
		for range 60 {
			e := randomChoices(r, 60).event(t)
			got, want := ix.Match(e, &s), linear(filters, e)
			if !slices.Equal(got, want) {
				t.Fatalf("index %v, one by one %v\n%s", got, want, describe(e))
			}
			matches += len(want)
		}
	}
	if matches < 10_000 {
		t.Fatalf("only %d matches: the generator no longer tests anything", matches)
	}
}

// Filters that are no more than one condition are not asked once they are
// found: what an event has under two names must be found under the right one.
func TestIndexFindsEachAttributeUnderTheNameAFilterMeans(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	var s Scratch
	matches := 0
	for range 60 {
		filters := make([]*Filter, 1+r.IntN(400))
		for i := range filters {
			c := randomChoices(r, 40)
			leaf := func() Dialect {
				terms := m(pickOf(c, append(aliasNames, someNames...)), pickOf(c, someValues))
				switch c.pick(4) {
				case 0:
					return Dialect{Prefix: terms}
				case 1:
					return Dialect{Suffix: terms}
				}
				return Dialect{Exact: terms}
			}
			switch d := leaf(); c.pick(5) {
			case 0:
				filters[i] = mustCompile(t, list(Dialect{Any: []Dialect{d, leaf(), leaf()}}))
			case 1:
				filters[i] = mustCompile(t, list(Dialect{All: []Dialect{{Any: []Dialect{d}}}}))
			case 2:
				filters[i] = mustCompile(t, list(d, Dialect{Not: &Dialect{Exact: m("exta", "a")}}))
			case 3:
				filters[i] = mustCompile(t, Spec{Attributes: m("dataschema", pickOf(c, someValues))})
			default:
				filters[i] = mustCompile(t, list(d))
			}
		}
		ix := NewIndex(filters)
		for range 100 {
			c := randomChoices(r, 60)
			b := event.Edit(c.event(t))
			for _, name := range aliasNames {
				if c.pick(2) == 1 {
					b.Set(name, pickOf(c, someURIs))
				}
			}
			e := build(t, b)
			got, want := ix.Match(e, &s), linear(filters, e)
			if !slices.Equal(got, want) {
				t.Fatalf("index %v, one by one %v\n%s", got, want, describe(e))
			}
			matches += len(want)
		}
	}
	if matches < 10_000 {
		t.Fatalf("only %d matches: the generator no longer tests anything", matches)
	}
}

func TestIndexWithManyAttributesReadsTheEventOnce(t *testing.T) {
	var filters []*Filter
	for i := range 100 {
		filters = append(filters, mustCompile(t, list(Dialect{Exact: m(fmt.Sprint("ext", i), "x")})))
	}
	filters = append(filters,
		mustCompile(t, list(Dialect{Exact: m("schemaurl", "/s")})),
		mustCompile(t, list(Dialect{Prefix: m("datamediatype", "a/")})),
		mustCompile(t, Spec{Attributes: m("dataschema", "/s")}))
	var s Scratch
	got := NewIndex(filters).Match(ev(t, "ext7", "x", "ext8", "y", "dataschema", "/s", "datacontenttype", "a/b;c"), &s)
	if want := []int{7, 100, 101, 102}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

// asked is how many filters the index looks at for one event.
func asked(ix *Index, e event.Event) int {
	return len(ix.root.collect(e, nil)) + len(ix.root.scan)
}

func TestCostFollowsMatches(t *testing.T) {
	const n = 2000
	for _, test := range []struct {
		name string
		spec func(i int) Spec
		most int
	}{
		{"exact", func(i int) Spec { return list(Dialect{Exact: m("type", fmt.Sprint("t", i))}) }, 1},
		{"prefix", func(i int) Spec { return list(Dialect{Prefix: m("type", fmt.Sprintf("t%d", i))}) }, 4}, // t1, t12, t123, t1234
		{"suffix", func(i int) Spec { return list(Dialect{Suffix: m("type", fmt.Sprintf("%04d", i))}) }, 1},
		{"attributes", func(i int) Spec { return Spec{Attributes: m("type", fmt.Sprint("t", i), "source", "")} }, 1},
		{"popular and rare", func(i int) Spec {
			return list(Dialect{Exact: m("source", "/shop")}, Dialect{Exact: m("type", fmt.Sprint("t", i))})
		}, 1},
		{"rare only together", func(i int) Spec {
			return list(Dialect{Exact: m("source", fmt.Sprint("/s", i%40), "type", fmt.Sprint("t", i/40))})
		}, smallBucket},
		{"any", func(i int) Spec {
			return list(Dialect{Any: []Dialect{{Exact: m("type", fmt.Sprint("t", i))}, {Prefix: m("subject", fmt.Sprint("order-", i, "-"))}}})
		}, 1},
		{"not beside exact", func(i int) Spec {
			return list(Dialect{Not: &Dialect{Exact: m("source", "/x")}}, Dialect{Not: &Dialect{Not: &Dialect{Exact: m("type", fmt.Sprint("t", i))}}})
		}, 1},
		{"cesql AND", func(i int) Spec { return sql(fmt.Sprintf("EXISTS source AND (type = 't%d' AND NOT EXISTS x)", i)) }, 1},
		{"cesql IN", func(i int) Spec { return sql(fmt.Sprintf("type IN ('t%d', 'u%d')", i, i)) }, 1},
		{"cesql OR", func(i int) Spec { return sql(fmt.Sprintf("type = 't%d' OR 'u%d' = subject", i, i)) }, 1},
		{"cesql LIKE", func(i int) Spec { return sql(fmt.Sprintf("type LIKE '%%_%04d'", i)) }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			filters := make([]*Filter, n)
			for i := range filters {
				filters[i] = mustCompile(t, test.spec(i))
			}
			ix := NewIndex(filters)
			e := ev(t, "type", "t1234", "source", "/shop")
			if test.name == "rare only together" {
				e = ev(t, "type", "t30", "source", "/s34")
			}
			if got := asked(ix, e); got == 0 || got > test.most {
				t.Errorf("asks %d filters of %d, want 1 to %d", got, n, test.most)
			}
			var s Scratch
			if got, want := ix.Match(e, &s), linear(filters, e); !slices.Equal(got, want) || len(got) == 0 {
				t.Errorf("matches %v, want %v", got, want)
			}
		})
	}
}

func TestOneIndexServesManyGoroutines(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var filters []*Filter
	for range 100 {
		filters = append(filters, mustCompile(t, randomChoices(r, 120).spec()))
	}
	ix := NewIndex(filters)
	var events []event.Event
	for range 50 {
		events = append(events, randomChoices(r, 60).event(t))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var s Scratch
			for _, e := range events {
				if got, want := ix.Match(e, &s), linear(filters, e); !slices.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestFiltersCompileConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				if _, err := Compile(sql(fmt.Sprintf("a%d = 'x' AND NOT EXISTS b%d OR c LIKE '%%a'", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestIndexKeepsItsFiltersWhenTheSliceChanges(t *testing.T) {
	filters := []*Filter{mustCompile(t, Spec{})}
	ix := NewIndex(filters)
	filters[0] = nil
	var s Scratch
	if got := ix.Match(ev(t), &s); !slices.Equal(got, []int{0}) {
		t.Fatalf("%v, want [0]", got)
	}
	if got := NewIndex(nil).Match(ev(t), &s); len(got) != 0 {
		t.Fatalf("an empty index matches %v", got)
	}
}

func TestAffixesAreAllFound(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	word := func() string {
		b := make([]byte, 1+r.IntN(5))
		for i := range b {
			b[i] = "ab\xff"[r.IntN(3)]
		}
		return string(b)
	}
	for _, suffix := range []bool{false, true} {
		for range 200 {
			buckets := make(map[string]uint32)
			for i := range 1 + r.IntN(30) {
				buckets[word()] = uint32(i)
			}
			a := newAffixes(buckets, suffix)
			l := level{}
			l.ords = make([]uint32, 30)
			for i := range uint32(30) {
				l.ords[i] = i
				l.buckets = append(l.buckets, bucket{from: i, to: i + 1})
			}
			text := word()
			var want []uint32
			for affix, b := range buckets {
				if suffix && strings.HasSuffix(text, affix) || !suffix && strings.HasPrefix(text, affix) {
					want = append(want, b)
				}
			}
			got := l.collectAffixes(a, text, event.Event{}, nil)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("%q has %v of %v, found %v", text, want, buckets, got)
			}
		}
	}
}
