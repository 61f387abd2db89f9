package conformance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/test/kube"
)

var update = flag.Bool("update", false, "rewrite docs/conformance.md")

const document = "../../docs/conformance.md"

func outcomes(class string) string { return filepath.Join("testdata", class+".json") }

// keep merges the outcome of this run into testdata: of the tests that ran,
// all is new.
func keep() error {
	resultsMu.Lock()
	defer resultsMu.Unlock()
	if !*record || len(results) == 0 {
		return nil
	}
	old, err := load(class)
	if err != nil {
		return err
	}
	ran := make(map[string]bool)
	for _, r := range results {
		ran[r.Test] = true
	}
	all := slices.DeleteFunc(old, func(r result) bool { return ran[r.Test] })
	all = append(all, results...)
	slices.SortStableFunc(all, func(a, b result) int {
		return cmp.Or(strings.Compare(a.Test, b.Test), strings.Compare(a.Feature, b.Feature), strings.Compare(a.Text, b.Text))
	})
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		return err
	}
	return os.WriteFile(outcomes(class), append(text, '\n'), 0o644)
}

func load(class string) ([]result, error) {
	text, err := os.ReadFile(outcomes(class))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []result
	return all, json.Unmarshal(text, &all)
}

func TestTheDocumentShowsTheLastOutcome(t *testing.T) {
	ours, err := load(kube.DefaultClass)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := load(kube.Reference)
	if err != nil {
		t.Fatal(err)
	}
	want := render(ours, theirs)
	if *update {
		if err := os.WriteFile(document, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s does not show what testdata holds: go test ./test/conformance -run Document -update", document)
	}
}

type key struct{ test, feature, level, text string }

func (r result) key() key { return key{r.Test, r.Feature, r.Level, r.Text} }

func render(ours, theirs []result) []byte {
	rows := make(map[key][2]*result)
	var order []key
	for i, side := range [][]result{ours, theirs} {
		for n := range side {
			k := side[n].key()
			row, known := rows[k]
			if !known {
				order = append(order, k)
			}
			row[i] = &side[n]
			rows[k] = row
		}
	}
	slices.SortStableFunc(order, func(a, b key) int {
		return cmp.Or(strings.Compare(a.test, b.test), strings.Compare(a.feature, b.feature))
	})
	var b bytes.Buffer
	b.WriteString(head)
	fmt.Fprintf(&b, "%s: %s. %s: %s.\n", kube.DefaultClass, count(ours), kube.Reference, count(theirs))
	test, group := "", ""
	for _, k := range order {
		if k.test != test {
			test, group = k.test, ""
			fmt.Fprintf(&b, "\n## %s\n\n    go test ./test/conformance -count=1 -v -run '^%s$'\n\n| | | Penstock | reference |\n|---|---|---|---|\n", test, test)
		}
		if k.feature != group {
			group = k.feature
			fmt.Fprintf(&b, "| **%s** | | | |\n", cell(group))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", k.level, cell(k.text), show(rows[k][0]), show(rows[k][1]))
	}
	b.WriteString(rest)
	return b.Bytes()
}

func count(all []result) string {
	n := make(map[string]int)
	for _, r := range all {
		n[r.Outcome]++
	}
	if len(all) == 0 {
		return "not yet run"
	}
	var parts []string
	for _, outcome := range []string{"pass", "FAIL", "departs", "not run"} {
		if n[outcome] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[outcome], outcome))
		}
	}
	return strings.Join(parts, ", ")
}

func show(r *result) string {
	switch {
	case r == nil:
		return "–"
	case r.Why != "":
		return cell(r.Outcome + ": " + r.Why)
	}
	return r.Outcome
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

const head = `# Conformance

Knative's conformance features, as tests of our own with Knative's names and texts (` + "`test/conformance`" + `), on a real cluster. Knative's suite only logs
most of *Delivery* and all of *Observability*; here they are asserted. The reference is Knative's own class, MTChannelBasedBroker, run by the same
tests: it shows that an assertion is meant as Knative means it. *departs* is a rule of the specification that the reference does not hold. *not run* says why.

This page is written by the tests. All of it again, on the cluster of KUBECONFIG with images in KO_DOCKER_REPO:

    hack/e2e.sh conformance -record
    BROKER_CLASS=MTChannelBasedBroker hack/e2e.sh conformance -record
    go test ./test/conformance -run Document -update

`

const rest = `
## Comes with its own issue

Transport encryption, authentication and authorization are not there yet, and neither are their features:

| test of Knative | needs |
|---|---|
| TestMTChannelBrokerRotateTLSCertificates | TLS at the ingress |
| TestTriggerTLSSubscriber (CA of the subscriber, trust bundle, added trust bundle) | TLS of subscribers |
| TestBrokerSupportsOIDC | tokens at the ingress |
| TestBrokerSendsEventsWithOIDCSupport | tokens to subscriber, dead letter sink and reply |
| TestBrokerSupportsAuthZ | EventPolicy |
| TestApiserversourceSendEventsWithBrokerAsSinkTLS and those of PingSource and SinkBinding | TLS at the ingress |

## Not ours

| test of Knative | why |
|---|---|
| TestBrokerPropagatesMetadata | looks for the channel behind MTChannelBasedBroker and passes by other classes |
| TestBrokerWithFlakyDLQ | skipped by Knative |
| TestBrokerTracing | skipped by Knative; what it wanted is in *Observability* |
| TestBrokerNamespaceDefaulting | of the webhook, with no Broker of a class |
| TestPingSourceEventTypeMatch | of PingSource |
`
