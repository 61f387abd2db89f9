// Package layers holds the shape of the code to ARCHITECTURE.md: imports go
// downward only, and each big dependency is imported by the packages named
// here and by no others.
package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/penstock-events/penstock"

// layer of each package. A package may import lower layers, and its own
// children's parent (channel/disk imports channel).
var layer = map[string]int{
	"pkg/event":     0,
	"pkg/http1":     0,
	"pkg/telemetry": 0,

	"pkg/channel": 1,
	"pkg/filter":  1,
	"pkg/deliver": 1,
	"pkg/auth":    1,

	"pkg/config":              2,
	"pkg/channel/memory":      2,
	"pkg/channel/disk":        2,
	"pkg/channel/remote":      2,
	"pkg/channel/owned":       2,
	"pkg/dedup":               2,
	"pkg/channel/channeltest": 2,
	"pkg/loaded":              2,
	"pkg/journal":             2,
	"pkg/auth/tokenreview":    2,

	"pkg/config/file":  3,
	"pkg/config/kube":  3,
	"pkg/ingress":      3,
	"pkg/dispatch":     3,
	"pkg/api":          3,
	"pkg/requestreply": 2,

	"pkg/controller":           4,
	"pkg/controller/broker":    4,
	"pkg/controller/trigger":   4,
	"pkg/controller/eventtype": 4,
	"pkg/controller/pods":      4,

	"pkg/api/v1":         0,
	"pkg/backup":         4,
	"pkg/rerun":          4,
	"pkg/client":         4,
	"pkg/api/fleet":      4,
	"pkg/app/process":    4,
	"pkg/app/engine":     5,
	"pkg/app/cluster":    5,
	"pkg/app/controller": 6,
	"pkg/app/dispatcher": 6,
	"pkg/app/ingress":    6,
	"pkg/app/standalone": 6,
	"pkg/app/cli":        6,
	"pkg/app/backupjob":  6,

	"cmd/backup-message-queue": 7,
	"cmd/controller":           7,
	"cmd/dispatcher":           7,
	"cmd/ingress":              7,
	"cmd/penstock":             7,
}

// owners are the only packages whose shipped code may import a dependency
// (the path or anything below it).
var owners = map[string][]string{
	"github.com/cloudevents/sdk-go/v2":     {"pkg/event"},
	"github.com/cloudevents/sdk-go/sql":    {"pkg/filter"},
	"github.com/prometheus/client_golang":  {"pkg/telemetry", "pkg/app/process", "pkg/app/engine"},
	"github.com/prometheus/client_model":   {"pkg/telemetry"},
	"google.golang.org/protobuf":           {"pkg/telemetry"},
	"github.com/antlr":                     {"pkg/filter"},
	"github.com/fsnotify/fsnotify":         {"pkg/config/file"},
	"go.yaml.in/yaml":                      {"pkg/config", "pkg/config/file"},
	"github.com/spf13/cobra":               {"pkg/app/cli", "pkg/app/process", "pkg/app/cluster", "pkg/app/standalone", "pkg/app/ingress", "pkg/app/dispatcher", "pkg/app/backupjob", "cmd/penstock"},
	"github.com/kelseyhightower/envconfig": {"pkg/app/standalone", "pkg/app/cluster", "pkg/app/controller", "pkg/app/backupjob", "pkg/app/cli"},
	"github.com/RoaringBitmap/roaring":     {"pkg/channel", "pkg/channel/memory", "pkg/channel/disk", "pkg/channel/channeltest", "pkg/dispatch"},
	"golang.org/x/sys":                     {"pkg/channel/disk", "pkg/app/process"},
	"knative.dev":                          append(controllers, "pkg/config/kube", "pkg/app/cluster", "cmd/controller"),
	"k8s.io":                               append(controllers, "pkg/config/kube", "pkg/auth/tokenreview", "pkg/app/cluster"),
	"sigs.k8s.io":                          {},
}

// controllers are the packages of the Kubernetes controller.
var controllers = []string{
	"pkg/controller", "pkg/controller/broker", "pkg/controller/trigger", "pkg/controller/eventtype", "pkg/controller/pods", "pkg/app/controller",
}

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func short(path string) string { return strings.TrimPrefix(path, module+"/") }

// shipped reports whether a package is part of the product rather than of its tests.
func shipped(path string) bool {
	return strings.HasPrefix(path, "pkg/") || strings.HasPrefix(path, "cmd/")
}

func TestImportsGoDownward(t *testing.T) {
	for _, p := range packages(t) {
		from := short(p.ImportPath)
		if !shipped(from) {
			continue
		}
		own, ok := layer[from]
		if !ok {
			t.Errorf("%s has no layer: give it one here and in ARCHITECTURE.md", from)
			continue
		}
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module+"/") {
				continue
			}
			to := short(imported)
			if !shipped(to) {
				t.Errorf("%s imports %s, which is for tests", from, to)
				continue
			}
			if layer[to] >= own && !strings.HasPrefix(from, to+"/") {
				t.Errorf("%s (layer %d) imports %s (layer %d): imports go downward", from, own, to, layer[to])
			}
		}
	}
}

func TestBigDependenciesHaveOwners(t *testing.T) {
	for _, p := range packages(t) {
		from := short(p.ImportPath)
		if !shipped(from) {
			continue
		}
		for _, imported := range p.Imports {
			for dependency, allowed := range owners {
				if imported != dependency && !strings.HasPrefix(imported, dependency+"/") {
					continue
				}
				if !contains(allowed, from) {
					t.Errorf("%s imports %s: only %v may", from, imported, allowed)
				}
			}
		}
	}
}

func TestTheBinaryLinksNoKubernetes(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/penstock")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		for _, foreign := range []string{"k8s.io/", "knative.dev/", "sigs.k8s.io/"} {
			if strings.HasPrefix(line, foreign) {
				t.Errorf("cmd/penstock links %s", strings.TrimSpace(line))
			}
		}
	}
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	for _, p := range packages(t) {
		var docs []string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				docs = append(docs, name)
			}
		}
		if len(p.GoFiles) > 0 && len(docs) != 1 {
			t.Errorf("%s: %d package comments (%v), want one", short(p.ImportPath), len(docs), docs)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
