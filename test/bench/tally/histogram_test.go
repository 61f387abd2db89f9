package tally

import (
	"math"
	"sync"
	"testing"
	"time"
)

func TestEveryDurationIsInTheBucketThatItsBoundsSay(t *testing.T) {
	for i := range buckets - 1 {
		lower := time.Duration(0)
		if i > 0 {
			lower = upper(i-1) + 1
		}
		if got := bucket(lower); got != i {
			t.Fatalf("bucket(%d) = %d, want %d: its shortest", lower, got, i)
		}
		if got := bucket(upper(i)); got != i {
			t.Fatalf("bucket(%d) = %d, want %d: its longest", upper(i), got, i)
		}
		if width := upper(i) - lower; i >= steps && float64(width) > float64(lower)/steps {
			t.Fatalf("bucket %d is %d wide at %d: more than 1.6 %%", i, width, lower)
		}
	}
}

func TestDurationsOutOfRangeAreKept(t *testing.T) {
	if got := bucket(-time.Second); got != 0 {
		t.Errorf("bucket of less than nothing = %d, want 0", got)
	}
	if got := bucket(math.MaxInt64); got != buckets-1 {
		t.Errorf("bucket of the longest = %d, want %d", got, buckets-1)
	}
}

func TestQuantilesOfAThousandMilliseconds(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.99); got != 0 {
		t.Errorf("of nothing: %v, want 0", got)
	}
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{
		{0, time.Millisecond}, {0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second},
	} {
		got := h.Quantile(c.q)
		if got < c.want || float64(got) > float64(c.want)*(1+1.0/steps) {
			t.Errorf("quantile %v = %v, want %v to 1.6 %% more", c.q, got, c.want)
		}
	}
}

func TestMergeAndResetCountEverythingOnce(t *testing.T) {
	var a, b Histogram
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				a.Add(time.Duration(i))
				b.Add(time.Hour)
			}
		})
	}
	wg.Wait()
	a.Merge(&b)
	if got := a.Count(); got != 8000 {
		t.Errorf("count %d, want 8000", got)
	}
	if got := b.Count(); got != 4000 {
		t.Errorf("count of the merged one %d, want 4000", got)
	}
	a.Reset()
	if got := a.Count(); got != 0 {
		t.Errorf("count after reset %d, want 0", got)
	}
}
