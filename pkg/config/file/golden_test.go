package file

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/config"
)

var update = flag.Bool("update", false, "rewrite golden files")

// What people read when they got something wrong: which file and line, which
// field, and what to do. And that the good Trigger among it all runs.
func TestEveryMistakeIsToldWithItsPlaceAndCure(t *testing.T) {
	for _, name := range []string{"shape", "values", "syntax"} {
		t.Run(name, func(t *testing.T) {
			resolve, err := config.ParseResolve(nil)
			if err != nil {
				t.Fatal(err)
			}
			_, s := start(t, Options{
				Paths:   []string{filepath.Join("testdata", "problems", name+".yaml")},
				Compile: config.Options{Resolve: resolve, IngressURL: "http://localhost:8080"},
			})
			var b strings.Builder
			b.WriteString("# problems\n")
			for _, p := range s.Problems() {
				if strings.Contains(p.String(), "\n") {
					t.Errorf("not one line: %q", p)
				}
				fmt.Fprintln(&b, p)
			}
			b.WriteString("# brokers\n")
			for _, o := range s.Brokers() {
				fmt.Fprintf(&b, "%s ready=%t %s %s\n", o.FullName(), o.Ready, o.Reason, o.Message)
			}
			b.WriteString("# triggers\n")
			for _, o := range s.Triggers() {
				fmt.Fprintf(&b, "%s ready=%t matches=%t %s %s\n", o.FullName(), o.Ready, o.Filter != nil, o.Reason, o.Message)
			}
			golden(t, filepath.Join("testdata", "problems", name+".golden"), b.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite with -update); got\n%s", path, got)
	}
}
