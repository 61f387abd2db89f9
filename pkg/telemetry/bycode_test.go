package telemetry

import (
	"net/http"
	"slices"
	"sync"
	"testing"
)

func TestManyWhoCountANewCodeAtOnceShareItsInstrument(t *testing.T) {
	var codes []int
	for code := range 1000 {
		if http.StatusText(code) != "" {
			codes = append(codes, code)
		}
	}
	for range 500 {
		var list byCode[counter]
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				mine := slices.Clone(codes)
				if i%2 == 1 {
					slices.Reverse(mine)
				}
				<-start
				for _, code := range mine {
					list.get(code).add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		found := 0
		for code, c := range list.all() {
			if found++; c.n.Load() != 4 {
				t.Fatalf("code %d was counted %d times, want 4", code, c.n.Load())
			}
		}
		if found != len(codes) {
			t.Fatalf("%d codes, want %d", found, len(codes))
		}
	}
}
