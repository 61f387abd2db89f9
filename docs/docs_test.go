// Package docs_test holds the documentation to what the program does: names
// that a person may look up are in the reference, links lead somewhere, and
// YAML that is shown works.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
	brokercontroller "github.com/penstock-events/penstock/pkg/controller/broker"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sections splits a page at its second level headings. What stands before the
// first is under "".
func sections(text string) map[string]string {
	parts := make(map[string]string)
	heading := ""
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.TrimSpace(name)
			parts[heading] = ""
		}
		parts[heading] += line
	}
	return parts
}

// ARCHITECTURE.md shows the layers that test/layers enforces.
func TestArchitectureNamesEveryPackageInItsLayer(t *testing.T) {
	rows := make(map[string]string)
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (.*) \|$`).FindAllStringSubmatch(page(t, "../ARCHITECTURE.md"), -1) {
		rows[row[1]] = row[2]
	}
	f, err := parser.ParseFile(token.NewFileSet(), "../test/layers/layers_test.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	packages := 0
	ast.Inspect(f, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		name, named := pair.Key.(*ast.BasicLit)
		layer, numbered := pair.Value.(*ast.BasicLit)
		if !named || !numbered || layer.Kind != token.INT {
			return true
		}
		packages++
		if short := strings.TrimPrefix(strings.Trim(name.Value, `"`), "pkg/"); !strings.Contains(rows[layer.Value], "`"+short+"`") {
			t.Errorf("ARCHITECTURE.md does not have %s in layer %s", short, layer.Value)
		}
		return true
	})
	if packages < 40 {
		t.Errorf("only %d packages were found in test/layers", packages)
	}
}

// idle is a broker process without anything in it.
type idle struct{}

func (idle) Lanes(func(telemetry.LaneState) bool)       {}
func (idle) Channels(func(telemetry.ChannelState) bool) {}

func TestEveryMetricIsInTheReferenceWithItsLabels(t *testing.T) {
	text := page(t, "reference/metrics.md")
	registry := prometheus.NewRegistry()
	metrics := telemetry.New(registry)
	metrics.Watch(idle{})
	metrics.WatchHop(func() telemetry.HopState { return telemetry.HopState{} })
	metrics.WatchJournal(func() telemetry.JournalState { return telemetry.JournalState{} })
	described := make(chan *prometheus.Desc, 1000)
	registry.Describe(described)
	close(described)

	form := regexp.MustCompile(`fqName: "([^"]+)".* constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)
	known := make(map[string]bool)
	for desc := range described {
		m := form.FindStringSubmatch(desc.String())
		if m == nil {
			t.Fatalf("a description reads otherwise than this test thinks: %s", desc)
		}
		known[m[1]] = true
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' })
		for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
			labels = append(labels, label[1])
		}
		row := ""
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "| `"+m[1]+"` |") {
				row = line
			}
		}
		if row == "" {
			t.Errorf("reference/metrics.md has no row for %s", m[1])
			continue
		}
		for _, label := range labels {
			if !strings.Contains(row, "`"+label+"`") {
				t.Errorf("reference/metrics.md: %s: label %s is missing", m[1], label)
			}
		}
	}
	if len(known) < 20 {
		t.Errorf("only %d metrics are described: %v", len(known), known)
	}
	for _, word := range regexp.MustCompile(`\b(?:penstock|kn)_[a-z_]+\b`).FindAllString(text, -1) {
		word = strings.TrimSuffix(word, "_bucket")
		if !known[word] && !strings.HasPrefix(word, "kn_broker_") {
			t.Errorf("reference/metrics.md tells of %s, which there is not", word)
		}
	}
}

// literals parses a file of package config and collects the strings that
// pick finds below each node.
func literals(t *testing.T, path string, pick func(n ast.Node) []ast.Expr) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		for _, e := range pick(n) {
			if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, text)
			}
		}
		return true
	})
	return found
}

func TestEveryReasonIsInTheReference(t *testing.T) {
	text := page(t, "reference/conditions.md")
	var reasons []string
	for _, source := range []string{"../pkg/config/config.go", "../pkg/controller/controller.go"} {
		reasons = append(reasons, literals(t, source, func(n ast.Node) []ast.Expr {
			if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Reason") {
				return spec.Values
			}
			return nil
		})...)
	}
	if !slices.Contains(reasons, config.ReasonFilterInvalid) || !slices.Contains(reasons, controller.ReasonLoading) {
		t.Fatalf("reasons stand elsewhere than this test thinks; it found %q", reasons)
	}
	for _, reason := range reasons {
		if !strings.Contains(text, "\n| `"+reason+"` |") {
			t.Errorf("reference/conditions.md has no row for %s", reason)
		}
	}
}

func TestEveryConditionIsInTheReference(t *testing.T) {
	text := page(t, "reference/conditions.md")
	broker, trigger := new(eventingv1.BrokerStatus), new(eventingv1.TriggerStatus)
	conditions := map[apis.ConditionType]bool{}
	for _, kept := range []struct {
		set apis.ConditionSet
		of  apis.ConditionsAccessor
	}{{brokercontroller.Conditions, broker}, {new(eventingv1.Trigger).GetConditionSet(), trigger}} {
		kept.set.Manage(kept.of).InitializeConditions()
		for _, c := range kept.of.GetConditions() {
			conditions[c.Type] = true
		}
	}
	if len(conditions) < 12 {
		t.Fatalf("only these conditions were found: %v", conditions)
	}
	for c := range conditions {
		if c != apis.ConditionReady && !strings.Contains(text, "\n| `"+string(c)+"` |") {
			t.Errorf("reference/conditions.md has no row for the condition %s", c)
		}
	}
}

func TestEveryAnnotationIsInTheReference(t *testing.T) {
	text := page(t, "reference/objects.md")
	const source = "../pkg/config/annotations.go"
	supported := literals(t, source, func(n ast.Node) []ast.Expr {
		if pair, ok := n.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok && key.Name == "key" {
				return []ast.Expr{pair.Value}
			}
		}
		return nil
	})
	if !slices.Contains(supported, "concurrency") {
		t.Fatalf("annotations stand elsewhere than this test thinks; it found %q", supported)
	}
	for _, key := range supported {
		if !strings.Contains(text, "\n| `"+config.AnnotationPrefix+key+"` |") {
			t.Errorf("reference/objects.md has no row for %s%s", config.AnnotationPrefix, key)
		}
	}
	_, ofCluster, _ := strings.Cut(text, "### spec.config on a cluster")
	for _, key := range supported {
		if !strings.Contains(ofCluster, "\n| `"+key+"` |") {
			t.Errorf("reference/objects.md has no row for the key %s of a ConfigMap", key)
		}
	}
	for _, key := range []string{kube.SettingsAnnotation, kube.ChannelAnnotation, kube.BrokerAnnotation, controller.StateAnnotation} {
		if !strings.Contains(ofCluster, "\n| `"+key+"` |") {
			t.Errorf("reference/objects.md has no row for %s in status", key)
		}
	}
}

// load compiles YAML as serve would, with a URL for every reference.
func load(t *testing.T, yaml string) *config.Snapshot {
	t.Helper()
	path := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := file.New(file.Options{Paths: []string{path}, Compile: config.Options{
		Channels:   []string{config.ChannelDisk, config.ChannelMemory},
		IngressURL: "http://localhost:8080",
		Resolve:    func(config.Reference) (string, error) { return "http://resolved.example", nil },
	}}).Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryFieldThatIsReadIsInTheReference(t *testing.T) {
	text := page(t, "reference/objects.md") + page(t, "guides/filters.md")
	const misspelt = `
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: b
spec:
  qqqqqqqqqq: 1
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata:
  name: t
spec:
  qqqqqqqqqq: 1
  filter:
    qqqqqqqqqq: 1
  filters:
    - qqqqqqqqqq: 1
  subscriber:
    qqqqqqqqqq: 1
    ref:
      qqqqqqqqqq: 1
  delivery:
    qqqqqqqqqq: 1
`
	lists := 0
	for _, p := range load(t, misspelt).Problems() {
		_, fields, ok := strings.Cut(p.Message, "known here are ")
		if !ok {
			continue
		}
		lists++
		for field := range strings.SplitSeq(fields, ", ") {
			if !regexp.MustCompile("`[a-z.]*\\b" + field + "`").MatchString(text) {
				t.Errorf("reference/objects.md does not tell of the field %s (%s)", field, p.Message)
			}
		}
	}
	if lists != 7 {
		t.Errorf("%d of 7 unknown fields were answered with those known", lists)
	}
}

// markdown lists the pages below a folder, those of test data apart.
func markdown(t *testing.T, root string) []string {
	t.Helper()
	var pages []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md"):
			pages = append(pages, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var fenced = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// anchors are the links that a page's headings can be reached by.
func anchors(text string) []string {
	var found []string
	for line := range strings.Lines(fenced.ReplaceAllString(text, "")) {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			slug := strings.ToLower(strings.TrimSpace(heading))
			slug = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(slug, "")
			found = append(found, strings.ReplaceAll(slug, " ", "-"))
		}
	}
	return found
}

func TestEveryRelativeLinkLeadsSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, from := range markdown(t, "..") {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(page(t, from), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			to := filepath.Join(filepath.Dir(from), target)
			if target == "" {
				to = from
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link %s leads nowhere", from, m[1])
			} else if anchor != "" && !slices.Contains(anchors(page(t, to)), anchor) {
				t.Errorf("%s: link %s: there is no such heading", from, m[1])
			}
		}
	}
}

// A block with the comment "# mistake: REASON" shows one that is not ready for
// that reason.
func TestEveryObjectThatIsShownWorks(t *testing.T) {
	object := regexp.MustCompile(`(?m)^kind: (Broker|Trigger)$`)
	mistake := regexp.MustCompile(`(?m)^# mistake: (\w+)$`)
	shown := 0
	for _, path := range markdown(t, ".") {
		for _, block := range fenced.FindAllStringSubmatch(page(t, path), -1) {
			if block[1] != "yaml" || !object.MatchString(block[2]) {
				continue
			}
			shown++
			s := load(t, block[2])
			var reasons []string
			for _, b := range s.Brokers() {
				if !b.Ready {
					reasons = append(reasons, b.Reason)
				}
			}
			for _, trigger := range s.Triggers() {
				if !trigger.Ready {
					reasons = append(reasons, trigger.Reason)
				}
			}
			if m := mistake.FindStringSubmatch(block[2]); m != nil {
				if !slices.Contains(reasons, m[1]) {
					t.Errorf("%s: this is meant to be wrong with %s and has %v:\n%s", path, m[1], reasons, block[2])
				}
				continue
			}
			for _, p := range s.Problems() {
				t.Errorf("%s: %s:\n%s", path, p.Message, block[2])
			}
			if want := len(object.FindAllString(block[2], -1)); len(reasons) > 0 || len(s.Brokers())+len(s.Triggers()) < want {
				t.Errorf("%s: not all of these %d objects are ready, %v:\n%s", path, want, reasons, block[2])
			}
		}
	}
	if shown < 5 {
		t.Errorf("only %d blocks with objects were found", shown)
	}
}
