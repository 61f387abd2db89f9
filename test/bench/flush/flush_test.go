package flush_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/penstock-events/penstock/test/bench/flush"
	"github.com/penstock-events/penstock/test/bench/tally"
)

func TestEachFlushIsCountedAndTheFileKeepsItsSize(t *testing.T) {
	name := filepath.Join(t.TempDir(), "flush")
	var took tally.Histogram
	if err := flush.Measure(name, 20, 1250, &took); err != nil {
		t.Fatal(err)
	}
	if took.Count() != 20 || took.Quantile(0.5) <= 0 {
		t.Errorf("%d flushes counted, p50 %v, want 20", took.Count(), took.Quantile(0.5))
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != flush.FileSize || b[20*1250-1] != byte(1249%256) || b[20*1250] != 0 {
		t.Errorf("%d bytes, want %d reserved and 20 records in them", len(b), flush.FileSize)
	}
	if err := flush.Measure(name, 1, 1, &took); err == nil {
		t.Error("a file that is there was written over")
	}
}
