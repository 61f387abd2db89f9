package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// document is what the tests need of docs/openapi.yaml.
type document struct {
	Paths      map[string]map[string]operation
	Components struct {
		Schemas    map[string]*schema
		Parameters map[string]parameter
	}
}

type operation struct {
	Parameters []parameter
	Responses  map[string]struct {
		Content map[string]struct{ Schema *schema }
	}
}

type parameter struct {
	Name, In string
	Ref      string `yaml:"$ref"`
}

type schema struct {
	Ref                  string `yaml:"$ref"`
	Type                 string
	Format               string
	Required             []string
	Enum                 []string
	Properties           map[string]*schema
	Items                *schema
	AdditionalProperties bool `yaml:"additionalProperties"`
}

func readDocument(t *testing.T) *document {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

func last(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

func (d *document) resolve(t *testing.T, s *schema) *schema {
	t.Helper()
	for s != nil && s.Ref != "" {
		name := last(s.Ref)
		if s = d.Components.Schemas[name]; s == nil {
			t.Fatalf("docs/openapi.yaml has no schema %s", name)
		}
	}
	return s
}

func TestDocumentAndServerHaveTheSameRoutes(t *testing.T) {
	d := readDocument(t)
	documented := map[string][]string{} // "GET /path": its query parameters
	for path, operations := range d.Paths {
		for method, op := range operations {
			var query, inPath []string
			for _, p := range op.Parameters {
				if p.Ref != "" {
					p = d.Components.Parameters[last(p.Ref)]
				}
				switch p.In {
				case "query":
					query = append(query, p.Name)
				case "path":
					inPath = append(inPath, "{"+p.Name+"}")
				}
			}
			for _, name := range inPath {
				if !strings.Contains(path, name) {
					t.Errorf("%s: parameter %s is not in the path", path, name)
				}
			}
			if got := strings.Count(path, "{"); got != len(inPath) {
				t.Errorf("%s: %d parameters in the path, %d described", path, got, len(inPath))
			}
			slices.Sort(query)
			documented[strings.ToUpper(method)+" "+path] = query
		}
	}
	for _, r := range New(options(start(t))).routes() {
		name := r.method + " " + r.path
		query, ok := documented[name]
		if !ok {
			t.Errorf("docs/openapi.yaml lacks %s", name)
			continue
		}
		if want := slices.Sorted(slices.Values(r.params)); !slices.Equal(query, want) {
			t.Errorf("docs/openapi.yaml: %s takes %v, want %v", name, query, want)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/openapi.yaml describes %s, which is not served", name)
	}
}

func TestDocumentHasTheFieldsOfTheTypes(t *testing.T) {
	d := readDocument(t)
	for name, v := range map[string]any{
		"BrokerList": v1.BrokerList{}, "Broker": v1.Broker{}, "TriggerList": v1.TriggerList{}, "Trigger": v1.Trigger{},
		"DeadLetterList": v1.DeadLetterList{}, "DeadLetter": v1.DeadLetter{}, "DeadLetterGroupList": v1.DeadLetterGroupList{}, "DeadLetterGroup": v1.DeadLetterGroup{}, "Explanation": v1.Explanation{},
		"EventExplained": v1.EventExplained{}, "TriggerExplained": v1.TriggerExplained{}, "TailLine": v1.TailLine{},
		"Diagnosis": v1.Diagnosis{}, "Finding": v1.Finding{}, "ProblemList": v1.ProblemList{}, "Circuit": v1.Circuit{}, "BlockedKey": v1.BlockedKey{}, "BlockedList": v1.BlockedList{},
		"PauseRequest": v1.PauseRequest{}, "SkipRequest": v1.SkipRequest{}, "Problem": v1.Problem{}, "Error": v1.Error{},
		"JobRequest": v1.JobRequest{}, "JobPreview": v1.JobPreview{}, "JobList": v1.JobList{}, "Job": v1.Job{}, "JobFailure": v1.JobFailure{},
	} {
		s := d.Components.Schemas[name]
		if s == nil {
			t.Errorf("docs/openapi.yaml lacks schema %s", name)
			continue
		}
		var fields, required []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			field, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, field)
			if option != "omitempty" {
				required = append(required, field)
			}
		}
		slices.Sort(fields)
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, fields) {
			t.Errorf("schema %s has properties %v, the type has %v", name, got, fields)
		}
		if got := slices.Sorted(slices.Values(s.Required)); !slices.Equal(got, slices.Sorted(slices.Values(required))) {
			t.Errorf("schema %s requires %v, the type always writes %v", name, got, required)
		}
	}
}

// check reports where a JSON value does not fit a schema.
func (d *document) check(t *testing.T, at string, s *schema, v any) {
	t.Helper()
	if s = d.resolve(t, s); s == nil {
		return
	}
	got := ""
	switch v := v.(type) {
	case map[string]any:
		got = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				t.Errorf("%s: %s is required and missing", at, name)
			}
		}
		for name, member := range v {
			p, ok := s.Properties[name]
			if !ok && s.Properties != nil && !s.AdditionalProperties {
				t.Errorf("%s: %s is not described", at, name)
			}
			d.check(t, at+"."+name, p, member)
		}
	case []any:
		got = "array"
		for i, item := range v {
			d.check(t, fmt.Sprintf("%s[%d]", at, i), s.Items, item)
		}
	case string:
		got = "string"
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil && s.Format == "date-time" {
			t.Errorf("%s: %q is no date-time", at, v)
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			t.Errorf("%s: %q is none of %v", at, v, s.Enum)
		}
	case bool:
		got = "boolean"
	case float64:
		if got = "number"; v == float64(int64(v)) && s.Type == "integer" {
			got = "integer"
		}
	}
	if s.Type != "" && got != s.Type {
		t.Errorf("%s: is %s, want %s", at, got, s.Type)
	}
}

func TestRealAnswersFitTheDocument(t *testing.T) {
	d := readDocument(t)
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", exact("type", "order.created")),
		triggerObject("lost", "nowhere", filter.Spec{}), triggerObject("bad", "shop", filter.Spec{Filters: []filter.Dialect{{CESQL: "="}}}))
	e := newEvent(t, "subject=1", `data={"a":1}`)
	id := r.append("shop", e)[0]
	r.bury("shop", letter(e, id, "orders"))
	r.lanes = []Lane{{Trigger: "uid-orders", Backlog: 1, Oldest: time.Now().Add(-1500 * time.Millisecond), Delivered: 3}}
	if _, ok := r.snapshot.Broker("default", "shop"); !ok || config.ChannelMemory != "memory" {
		t.Fatal("the fixture has no broker")
	}
	server := serve(t, options(r))
	ask := func(template string, with ...string) {
		path := strings.NewReplacer(with...).Replace(template)
		content := d.Paths[template]["get"].Responses["200"].Content["application/json"]
		if content.Schema == nil {
			t.Fatalf("docs/openapi.yaml: GET %s has no 200", template)
		}
		v := get[any](t, server, path, 200)
		d.check(t, path, content.Schema, v)
	}
	ask("/api/v1/brokers")
	ask("/api/v1/brokers/{namespace}/{name}", "{namespace}", "default", "{name}", "shop")
	ask("/api/v1/triggers")
	ask("/api/v1/triggers/{namespace}/{name}", "{namespace}", "default", "{name}", "lost")
	ask("/api/v1/deadletters")
	ask("/api/v1/deadletters/groups")
	ask("/api/v1/deadletters/{namespace}/{trigger}/{id}", "{namespace}", "default", "{trigger}", "orders", "{id}", id.String())
	ask("/api/v1/problems")
	ask("/api/v1/doctor")
	d.check(t, "an error", d.Components.Schemas["Error"], get[any](t, server, "/api/v1/none", 404))

	resp, err := server.Client().Post(server.URL+"/api/v1/brokers/default/shop/explain", "application/cloudevents+json",
		strings.NewReader(`{"specversion":"1.0","id":"1","source":"/s","type":"t"}`))
	if err != nil {
		t.Fatal(err)
	}
	d.check(t, "explain", d.Components.Schemas["Explanation"], decode[any](t, resp, 200))

	s := openTail(t, server, "?broker=default/shop")
	r.append("shop", e)
	s.lines.Scan()
	var line any
	if err := json.Unmarshal(s.lines.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	d.check(t, "tail", d.Components.Schemas["TailLine"], line)
}
