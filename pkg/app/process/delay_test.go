package process

import (
	"runtime"
	"sync"
	"testing"
)

func TestManyWhoWaitForAProcessorAreNoticed(t *testing.T) {
	d := NewDelay()
	var wg sync.WaitGroup
	for range 2000 {
		wg.Go(func() {
			for range 100 {
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	if got := d.Read(); got <= 0 {
		t.Errorf("delay %v after 2000 goroutines at once", got)
	}
}
