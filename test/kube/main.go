package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// DefaultClass is the class of Brokers unless BROKER_CLASS says otherwise;
// Reference is Knative's own, the oracle of what a feature means.
const (
	DefaultClass = "Penstock"
	Reference    = "MTChannelBasedBroker"
)

// buildTime is how long ko may take for the image of the probe.
const buildTime = 10 * time.Minute

var (
	shared  *Cluster // set before the tests begin, nil where there is no cluster
	skipped atomic.Int32
)

// Main runs the tests of a package: `func TestMain(m *testing.M) { os.Exit(kube.Main(m, "test/conformance")) }`.
func Main(m *testing.M, name string) int {
	var missing []string
	for _, v := range []string{"KUBECONFIG", "KO_DOCKER_REPO"} {
		if os.Getenv(v) == "" {
			missing = append(missing, v)
		}
	}
	if len(missing) == 0 {
		var err error
		if shared, err = connect(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			return 1
		}
	}
	code := m.Run()
	if n := skipped.Load(); n > 0 {
		fmt.Fprintf(os.Stderr, "%s: SKIPPED %d tests that need a cluster: %s not set (CONTRIBUTING.md)\n", name, n, strings.Join(missing, " and "))
	}
	return code
}

// On returns the cluster, or skips the test.
func On(t testing.TB) *Cluster {
	t.Helper()
	if shared == nil {
		skipped.Add(1)
		t.Skip("no cluster: KUBECONFIG or KO_DOCKER_REPO is not set")
	}
	return shared
}

// root is the folder of go.mod.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the test")
		}
		dir = up
	}
}

// Ko runs ko in the root of the module and returns what it printed: its own
// progress too, and kubectl's warnings.
func Ko(ctx context.Context, args ...string) (string, error) {
	dir, err := root()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "ko", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false "+os.Getenv("GOFLAGS"))
	said, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ko %s: %w\n%s", strings.Join(args, " "), err, tail(string(said), 40))
	}
	return strings.TrimSpace(string(said)), nil
}

// image builds and pushes the probe, unless E2E_PROBE_IMAGE names one that
// an earlier package of the same run has built.
func image(ctx context.Context) (string, error) {
	if ref := os.Getenv("E2E_PROBE_IMAGE"); ref != "" {
		return ref, nil
	}
	said, err := Ko(ctx, "build", "--sbom=none", "github.com/penstock-events/penstock/test/kube/cmd/probe")
	return said[strings.LastIndexByte(said, '\n')+1:], err // the last line is the image
}

func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
