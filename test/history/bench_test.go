package history_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/penstock-events/penstock/test/history"
)

// The time for one event must not grow with the history: compare the two.
func BenchmarkCheck(b *testing.B) {
	for name, events := range map[string]int{"1000 events": 1000, "20000 events": 20_000} {
		text := generate(b, rand.New(rand.NewPCG(1, 1)), events, 10)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, err := history.Check(bytes.NewReader(text))
				if err != nil || v.Err() != nil {
					b.Fatal(err, v.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(events), "µs/event")
			b.ReportMetric(float64(bytes.Count(text, []byte("\n"))), "lines")
		})
	}
}
