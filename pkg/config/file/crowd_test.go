package file

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/test/crowd"
)

// A start must not keep people waiting, nor an edit, at the scale that is promised.
func BenchmarkLoadTenThousand(b *testing.B) {
	path, dir := filepath.Join(b.TempDir(), "many.yaml"), b.TempDir()
	write(b, path, crowd.File(10_000, subscriber))
	b.ReportAllocs()
	for b.Loop() {
		s := New(Options{Paths: []string{path}, Dir: dir})
		if first, err := s.Load(); err != nil || len(first.Triggers()) != 10_000 || len(first.Problems()) > 0 {
			b.Fatal(err)
		}
	}
}

func BenchmarkChangeOneOfTenThousand(b *testing.B) {
	path := filepath.Join(b.TempDir(), "many.yaml")
	documents := make([]string, 10_000)
	for i := range documents {
		documents[i] = crowd.Document(i, crowd.Mixed(i), subscriber(i))
	}
	write(b, path, strings.Join(documents, ""))
	s := New(Options{Paths: []string{path}, Dir: b.TempDir()})
	if _, err := s.Load(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := i * 37 % len(documents)
		documents[at] = crowd.Document(at, crowd.Mixed(at+123_457+i*10_000), subscriber(i))
		b.StopTimer()
		write(b, path, strings.Join(documents, ""))
		b.StartTimer()
		changed := false
		s.look(func(next *config.Snapshot) {
			t, _ := next.Trigger("default", crowd.Name(at))
			changed = t.Ready && t.Subscriber == subscriber(i)
		})
		if !changed {
			b.Fatalf("change %d of %s is not in force", i, crowd.Name(at))
		}
	}
}

func subscriber(i int) string { return "http://127.0.0.1:9000/" + crowd.Name(i) }
