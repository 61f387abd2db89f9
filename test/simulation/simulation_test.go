package simulation_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/penstock-events/penstock/test/proof"
)

// atOnce is how many runs a round is: they are played in parallel.
const atOnce = 20

// TestAnHourOfEverything plays scripts: 500 at ci size.
func TestAnHourOfEverything(t *testing.T) {
	seed := proof.Seed(t)
	var sum sums
	for round := range proof.Rounds(t, 500/atOnce) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			for n := range atOnce {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					t.Parallel()
					run := round*atOnce + n
					s := draw(proof.Rand(seed, run))
					text := s.String()
					verdict, refusal := inWorld(t, seed+uint64(run), mutant{}, s.play)
					sum.add(verdict)
					if err := errors.Join(refusal, verdict.Err()); err != nil {
						t.Errorf("%v\n%v\n%s", err, verdict, text)
						t.Logf("to have this script again: PENSTOCK_PROOF=ci PENSTOCK_SEED=%d go test ./test/simulation -run '^TestAnHourOfEverything$/^%d$/^%d$'", seed, round, n)
					}
				})
			}
		})
	}
	t.Log(&sum)
}

func TestTheSameSeedIsTheSameScript(t *testing.T) {
	for n := range 20 {
		if a, b := draw(proof.Rand(7, n)).String(), draw(proof.Rand(7, n)).String(); a != b {
			t.Errorf("round %d has two scripts:\n%s\n%s", n, a, b)
		}
	}
}
