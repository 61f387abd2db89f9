package seed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// The binaries; set before the tests begin.
var penstock, subscriber, backupJob string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "penstock-seed")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for pkg, into := range map[string]*string{"cmd/penstock": &penstock, "examples/subscriber": &subscriber, "cmd/backup-message-queue": &backupJob} {
		if *into, err = broker.Build(dir, pkg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// root of the repository.
var root = filepath.Join("..", "..")

// tree is a YAML document as maps, lists and scalars.
type tree = map[string]any

func text(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// block is one of the article's.
func block(t *testing.T, name string) tree {
	t.Helper()
	var v tree
	if err := yamlv3.Unmarshal(text(t, "testdata", name), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// ours finds an object in a manifest of this repository.
func ours(t *testing.T, manifest []byte, kind, name string) tree {
	t.Helper()
	for _, v := range documents(t, manifest) {
		if v["kind"] == kind && at(v, "metadata", "name") == name {
			return v
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// overlay renders deploy/message-queue, which has the article's names.
func overlay(t *testing.T) []byte {
	t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("SKIPPED: kubectl is not here, so the overlay with the article's names cannot be rendered")
	}
	out, err := exec.Command(kubectl, "kustomize", filepath.Join(root, "deploy", "message-queue")).Output()
	if err != nil {
		t.Fatalf("kubectl kustomize: %v", err)
	}
	return out
}
