package kube

import (
	"os"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/kube"
)

func TestMain(m *testing.M) { os.Exit(kube.Main(m, "test/e2e/kube")) }

// settle bounds the time in which what was accepted under a disturbance has to arrive.
const settle = 3 * time.Minute

// quick leaves out what takes longest: E2E=quick.
func quick() bool { return os.Getenv("E2E") == "quick" }

// full skips a test of the quick run.
func full(t *testing.T) {
	t.Helper()
	if quick() {
		t.Skip("E2E=quick")
	}
}
