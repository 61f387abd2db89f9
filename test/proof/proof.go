// Package proof says how much a random test does: little in `go test`, what
// docs/reliability.md promises in `make reliability`, and as much as fits
// into a time in `make soak`. It also makes the random numbers, so that each
// failure can be had again.
//
// PENSTOCK_PROOF is unset, "ci", or a duration such as "8h" that each test
// with rounds takes. PENSTOCK_SEED is the seed of a run to have again.
package proof

import (
	"iter"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

const (
	sizeVar = "PENSTOCK_PROOF"
	seedVar = "PENSTOCK_SEED"
)

// Rounds counts 0, 1, 2, ... up to what is asked for: ci in `make
// reliability`, a tenth of that in `go test`, a fiftieth with -short, always at
// least one; in a soak, on and on until its time is over, at least ci. When
// the loop ends it logs how many rounds there were.
func Rounds(t testing.TB, ci int) iter.Seq[int] {
	t.Helper()
	limit, until := size(t, ci)
	return func(yield func(int) bool) {
		n := 0
		defer func() { t.Logf("%s: %d rounds", t.Name(), n) }()
		for ; n < limit || time.Now().Before(until); n++ {
			if t.Failed() || !yield(n) {
				return
			}
		}
	}
}

// Full reports whether this is `make reliability` or a soak: tests that take
// long whatever their rounds run only then.
func Full() bool { return os.Getenv(sizeVar) != "" }

// Soaking reports whether this is a soak, which may take any time and space.
func Soaking() bool { return Full() && os.Getenv(sizeVar) != "ci" }

func size(t testing.TB, ci int) (rounds int, until time.Time) {
	t.Helper()
	switch v := os.Getenv(sizeVar); {
	case v == "ci":
		return ci, time.Time{}
	case v != "":
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			t.Fatalf("%s=%s: want ci or a duration, as in 8h", sizeVar, v)
		}
		return ci, time.Now().Add(d)
	case testing.Short():
		return max(1, ci/50), time.Time{}
	default:
		return max(1, ci/10), time.Time{}
	}
}

// Seed is the seed of this run: PENSTOCK_SEED where it is set, a new one
// otherwise. A test that fails logs how to have it again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv(seedVar); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("%s=%s: want a whole number", seedVar, v)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to have this run again: %s=%d go test -run '^%s$'", seedVar, seed, t.Name())
		}
	})
	return seed
}

// Rand is the random numbers of round n of a seed.
func Rand(seed uint64, n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }
