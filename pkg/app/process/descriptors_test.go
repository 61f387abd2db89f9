package process

import (
	"math"
	"testing"
)

func TestDescriptorsAreSharedSoThatTheLogKeepsSome(t *testing.T) {
	for limit, want := range map[uint64][2]int{
		0:              {16384, 1024}, // not known
		math.MaxUint64: {16384, 1024}, // none
		64:             {32, 8},
		1024:           {512, 128},
		20000:          {10000, 1024},
		1:              {1, 1},
	} {
		if senders, idle := share(limit); senders != want[0] || idle != want[1] {
			t.Errorf("of %d: %d and %d, want %d", limit, senders, idle, want)
		}
	}
}
