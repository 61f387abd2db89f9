package file

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/test/crowd"
)

func TestAliasesThatGrowWithoutEndAreRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: bomb\n  annotations:\n    l0: &l0 {exact: {type: a}}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&b, "    l%d: &l%d {all: [*l%d, *l%d, *l%d, *l%d]}\n", i, i, i-1, i-1, i-1, i-1)
	}
	b.WriteString("spec:\n  broker: default\n  filters: [*l29]\n")
	_, err := parse("bomb.yaml", []byte(b.String()), nil)
	if err == nil || !strings.Contains(err.Error(), "once its aliases are followed") {
		t.Errorf("error is %v", err)
	}
}

func TestAliasThatHoldsItselfEnds(t *testing.T) {
	text := "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: a}\nspec:\n  broker: default\n  filters: &f\n  - all: *f\n"
	c, err := parse("loop.yaml", []byte(text), nil)
	if err != nil {
		return // the library may refuse it itself
	}
	if len(c.objects) != 1 || len(c.objects[0].Faults) == 0 || c.objects[0].Faults[0].Reason != config.ReasonFilterInvalid {
		t.Errorf("contents are %+v", c)
	}
}

func TestAnchorsAndMergeKeysAreFollowed(t *testing.T) {
	text := `apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec:
  delivery: &usual {retry: 3, backoffPolicy: linear, backoffDelay: PT1S}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: a}
spec:
  broker: default
  subscriber: &here {uri: "http://localhost:3000"}
  delivery:
    <<: {retry: 3, backoffDelay: PT1S}
    retry: 7
    deadLetterSink: *here
`
	c, err := parse("a.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	o := c.objects[1]
	d := o.Trigger.Delivery
	if len(o.Faults) != 0 || *d.Retry != 7 || *d.BackoffDelay != "PT1S" || d.DeadLetterSink.URI != "http://localhost:3000" {
		t.Errorf("delivery is %+v, faults %+v", d, o.Faults)
	}
}

func TestFileBeyondItsBoundIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.yaml")
	write(t, path, strings.Repeat("# padding\n", MaxFileBytes/10+2))
	_, s := start(t, Options{Paths: []string{path}})
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0].Message, "at most 10 MiB") {
		t.Errorf("problems are %v", p)
	}
}

func TestNothingIsDeclaredTwiceByNamingAFileAndItsFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write(t, path, triggers("a"))
	_, s := start(t, Options{Paths: []string{dir, path, dir + "/./a.yaml"}})
	if len(s.Problems()) != 0 || !live(s, "a") {
		t.Errorf("problems are %v", s.Problems())
	}
}

func TestConfigMapOfABrokerIsHonoured(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, `apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: infra}
data: {retention: "1h,2Gi", max-bytes: 1Gi, concurrency: "3", channel-template-spec: "kind: InMemoryChannel"}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, annotations: {penstock.dev/max-bytes: 2Gi}}
spec:
  config: {apiVersion: v1, kind: ConfigMap, name: settings, namespace: infra}
`)
	_, s := start(t, Options{Paths: []string{path}})
	b, _ := s.Broker("default", "default")
	if !b.Ready || b.Retention.Hours() != 1 || b.RetentionBytes != 2<<30 || b.MaxBytes != 2<<30 || b.Concurrency != 3 {
		t.Errorf("broker is %+v, problems %v", b, s.Problems())
	}
}

// asOneStream compares what was read document by document with what the
// library makes of the file as a whole.
func asOneStream(t *testing.T, data []byte, got *contents, err error) {
	t.Helper()
	whole := newParser("f.yaml")
	wholeErr := whole.stream(data)
	if wholeErr == nil && whole.budget < 0 {
		wholeErr = err // told by parse
	}
	if (err == nil) != (wholeErr == nil) || err != nil && err.Error() != wholeErr.Error() {
		t.Fatalf("error is %v, as one stream %v", err, wholeErr)
	}
	if err == nil {
		same(t, got, whole.out)
	}
}

func same(t *testing.T, got, want *contents) {
	t.Helper()
	g, w := *got, *want
	g.documents, w.documents = nil, nil
	g.objects, w.objects = slices.Concat(g.objects, nil), slices.Concat(w.objects, nil) // none is nil
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("contents are\n%s\nwant\n%s", text(g), text(w))
	}
}

func text(c contents) string {
	var b strings.Builder
	for _, o := range c.objects {
		data, _ := json.Marshal(o)
		fmt.Fprintf(&b, "%s %v\n", data, o.Lines)
	}
	return b.String() + fmt.Sprint(c.problems, c.settings)
}

// An edit is read the same whether the file before it is known or not.
func TestDocumentsThatDidNotChangeAreTakenOver(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	documents := make([]string, 60)
	for i := range documents {
		documents[i] = crowd.Document(i, crowd.Mixed(i), "http://a")
	}
	documents[7] = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n"
	documents[8] = "---\nkind: Nothing\n"
	documents[9] = strings.Replace(documents[9], "broker: default", "brokre: default", 1)
	var before *contents
	for range 300 {
		i, j := r.IntN(len(documents)), r.IntN(len(documents))
		switch r.IntN(5) {
		case 0:
			documents[i] = crowd.Document(i, crowd.Mixed(r.IntN(1000)), "http://b")
		case 1:
			documents[i], documents[j] = documents[j], documents[i]
		case 2:
			documents[i] += "# a line more\n"
		case 3:
			documents[i] = documents[j] // twice
		case 4:
			documents[i] = strings.Replace(documents[i], "uri:", "urk:", 1)
		}
		data := []byte(strings.Join(documents, ""))
		got, err := parse("f.yaml", data, before)
		if err != nil {
			t.Fatal(err)
		}
		asOneStream(t, data, got, err)
		before = got
	}
	got, err := parse("f.yaml", []byte(strings.Join(documents, "")), before)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i := range got.objects {
		if got.objects[i] == before.objects[i] {
			taken++
		}
	}
	if taken < 50 {
		t.Errorf("%d of %d objects are taken over", taken, len(got.objects))
	}
}

// FuzzParse: any bytes give an error or objects that Compile can judge, with
// bounded work, and a filter that was not understood never matches.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/problems/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("no seeds at %s: %v", pattern, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			for doc := range strings.SplitSeq(string(data), "---\n") {
				f.Add([]byte(doc))
			}
		}
	}
	f.Add([]byte(triggers("a", "a")))
	f.Add([]byte("&a {<<: *a, kind: *a}"))
	f.Add([]byte("a: &x 1\n---\nb: *x\n"))
	f.Add([]byte("a: |\n---\nb: 'c\n---\nd'\n"))
	f.Add([]byte("{a: b}\n{c: d}\n---\n\n--- # x\n--- a\n...\n"))
	f.Add([]byte("kind: Trigger\napiVersion: eventing.knative.dev/v1\nmetadata: {name: a}\nspec: {filters: [{not: {not: {all: [{any: [{}]}]}}}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("f.yaml", data, nil)
		asOneStream(t, data, c, err)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
			return
		}
		s := config.Compile(c.objects, config.Options{})
		for _, p := range s.Problems() {
			if strings.ContainsAny(p.String(), "\n\r\x00\x1b") {
				t.Errorf("a problem carries control characters: %q", p)
			}
		}
		for _, tr := range s.Triggers() {
			if tr.Ready && (tr.Filter == nil || tr.Subscriber == "") {
				t.Errorf("ready without filter or subscriber: %+v", tr)
			}
			if !tr.Ready && (tr.Reason == "" || tr.Message == "") {
				t.Errorf("not ready without a reason: %+v", tr)
			}
		}
	})
}
