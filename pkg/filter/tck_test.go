package filter

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/pkg/event"
)

type tckFile struct {
	Name  string
	Tests []tckCase
}

type tckCase struct {
	Name       string
	Expression string
	Result     any
	Error      string
	Event      map[string]any
	Overrides  map[string]any `yaml:"eventOverrides"`
}

func TestCESQLPassesItsConformanceTests(t *testing.T) {
	files, err := filepath.Glob("testdata/tck/*.yaml")
	if err != nil || len(files) != 18 {
		t.Fatalf("%d files, %v; want 18", len(files), err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file tckFile
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, test := range file.Tests {
			t.Run(file.Name+"/"+test.Name, func(t *testing.T) { test.run(t) })
		}
	}
}

func (c *tckCase) run(t *testing.T) {
	expr, err := buildSQL(c.Expression, nil)
	if err != nil {
		unknown := strings.HasPrefix(err.Error(), "no function")
		if c.Error != "parse" && !(c.Error == "missingFunction" && unknown) {
			t.Fatalf("%s: %v, want error %q", c.Expression, err, c.Error)
		}
		return
	}
	ev := evaluation{event: c.event(t), budget: evaluationBudget}
	v := ev.eval(&expr.root)
	if c.Error != "" {
		if v.kind != kindFault || tckErrors[v.why] != c.Error {
			t.Fatalf("%s: %+v, want error %q", c.Expression, v, c.Error)
		}
		return
	}
	want := fmt.Sprint(c.Result)
	if v.kind == kindFault || v.toString().text != want && v.text != want {
		t.Fatalf("%s: %+v, want %v", c.Expression, v, want)
	}
	kinds := map[string]valueKind{"bool": kindBoolean, "int": kindInteger, "string": kindString}
	if kind, ok := kinds[fmt.Sprintf("%T", c.Result)]; ok && kind != v.kind {
		t.Fatalf("%s: a %v, want a %v", c.Expression, v.kind, kind)
	}
}

var tckErrors = map[fault]string{
	faultMissing:      "missingAttribute",
	faultNoInteger:    "cast",
	faultNoBoolean:    "cast",
	faultDivideByZero: "math",
	faultOverflow:     "math",
	faultArgument:     "functionEvaluation",
}

func (c *tckCase) event(t *testing.T) event.Event {
	var b event.Builder
	attributes := c.Event
	if attributes == nil {
		attributes = map[string]any{
			"id": "full-event", "source": "http://example.com/source", "specversion": "1.0", "type": "com.example.FullEvent",
			"datacontenttype": "text/json", "dataschema": "http://example.com/schema", "subject": "topic",
			"time": "2020-03-21T12:34:56.78Z", "exbool": true, "exint": 42, "exstring": "exstring",
		}
	}
	for _, set := range []map[string]any{attributes, c.Overrides} {
		for name, v := range set {
			switch v.(type) {
			case bool:
				b.SetValue(name, event.Value{Text: fmt.Sprint(v), Kind: event.Boolean})
			case int:
				b.SetValue(name, event.Value{Text: fmt.Sprint(v), Kind: event.Integer})
			default:
				b.Set(name, fmt.Sprint(v))
			}
		}
	}
	return build(t, &b)
}
