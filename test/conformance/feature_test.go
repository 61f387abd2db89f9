package conformance

import (
	"flag"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/penstock-events/penstock/test/kube"
)

var record = flag.Bool("record", false, "keep the outcome in testdata, for docs/conformance.md")

// allVar runs also what the reference is known not to hold.
const allVar = "CONFORMANCE_ALL"

// result is the outcome of one assertion.
type result struct {
	Test, Feature, Level, Text string
	Outcome                    string // pass, FAIL, departs, not run
	Why                        string `json:",omitempty"`
}

var (
	resultsMu sync.Mutex
	results   []result
	class     string
)

// feature is a named group of assertions, as Knative's suite has them.
type feature struct {
	t       *testing.T
	s       *kube.Space
	name    string
	departs string // why the reference does not hold what comes next
	absent  string // why it cannot be asked here
}

// in begins a feature in a namespace.
func in(t *testing.T, s *kube.Space, name string) feature { return feature{t: t, s: s, name: name} }

// except says what the reference does instead. What follows is held by us.
func (f feature) except(why string) feature {
	f.departs = why
	return f
}

// admission skips what follows where Knative's webhook does not run.
func (f feature) admission() feature {
	if !f.s.Webhook {
		f.absent = "Knative's admission webhook is not installed"
	}
	return f
}

// cannot records an assertion that nobody can make, and why.
func (f feature) cannot(level, text, why string) {
	f.absent = why
	f.assert(level, text, nil)
}

func (f feature) must(text string, check func(*kube.Space)) {
	f.t.Helper()
	f.assert("MUST", text, check)
}
func (f feature) should(text string, check func(*kube.Space)) {
	f.t.Helper()
	f.assert("SHOULD", text, check)
}
func (f feature) shouldNot(text string, check func(*kube.Space)) {
	f.t.Helper()
	f.assert("SHOULD NOT", text, check)
}
func (f feature) may(text string, check func(*kube.Space)) {
	f.t.Helper()
	f.assert("MAY", text, check)
}

func (f feature) assert(level, text string, check func(*kube.Space)) {
	f.t.Helper()
	test, _, _ := strings.Cut(f.t.Name(), "/")
	r := result{Test: test, Feature: f.name, Level: level, Text: text}
	f.t.Run(text, func(t *testing.T) {
		defer func() {
			switch {
			case t.Failed():
				r.Outcome = "FAIL"
			case r.Outcome == "":
				r.Outcome = "pass"
			}
			note(f.s.Class, r)
		}()
		switch {
		case f.absent != "":
			r.Outcome, r.Why = "not run", f.absent
			t.Skip(f.absent)
		case f.departs != "" && f.s.Class == kube.Reference && os.Getenv(allVar) == "":
			r.Outcome, r.Why = "departs", f.departs
			t.Skip("the reference departs: " + f.departs)
		}
		check(f.s.In(t))
	})
}

func note(of string, r result) {
	resultsMu.Lock()
	defer resultsMu.Unlock()
	class = of
	results = append(results, r)
}
