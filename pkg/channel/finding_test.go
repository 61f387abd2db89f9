package channel

import (
	"strings"
	"testing"
)

func TestAmountsAreReadable(t *testing.T) {
	var all []string
	for _, n := range []int64{0, 1, 1023, 1024, 1536, 64 << 20, 5<<30 + 1, 3 << 40} {
		all = append(all, Amount(n))
	}
	if got := strings.Join(all, ", "); got != "0 bytes, 1 byte, 1023 bytes, 1.0 KiB, 1.5 KiB, 64.0 MiB, 5.0 GiB, 3.0 TiB" {
		t.Error(got)
	}
}

func TestWorstFindingDecides(t *testing.T) {
	if w := Worst(nil); w != OK {
		t.Errorf("nothing found is %v", w)
	}
	if w := Worst([]Finding{{Severity: Note}, {Severity: Problem}, {Severity: Warning}}); w != Problem || w.String() != "problem" {
		t.Errorf("the worst is %v", w)
	}
}
