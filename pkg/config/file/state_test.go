package file

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/test/crowd"
)

// stored is the state in a folder as the JSON library reads it, and that of a
// store. Lines may lag while a process runs, so they are left out.
func stored(t *testing.T, s *Source) (onDisk, inMemory state) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.o.Dir, identityFile))
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := open(data)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s.store.state)
	if err != nil {
		t.Fatal(err)
	}
	for to, from := range map[*state][]byte{&onDisk: raw, &inMemory: text} {
		if err := json.Unmarshal(from, to); err != nil {
			t.Fatal(err)
		}
		for _, id := range to.Identities {
			id.Object.Line = 0
		}
	}
	return onDisk, inMemory
}

// What is copied from one version of the file to the next must be what encoding
// all of it would write: edits, removals, a file that somebody spoils meanwhile,
// and restarts.
func TestStoredIdentitiesAreThoseInForce(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	path := filepath.Join(t.TempDir(), "a.yaml")
	now := time.Now()
	o := Options{Paths: []string{path}, Dir: t.TempDir(), Now: func() time.Time { return now }}
	documents := make([]string, 30)
	for i := range documents {
		documents[i] = crowd.Document(i, crowd.Mixed(i), "http://a")
	}
	write(t, path, strings.Join(documents, ""))
	s, last := start(t, o)
	look := func() { s.look(func(next *config.Snapshot) { last = next }) }
	for step := range 200 {
		i := r.IntN(len(documents))
		switch r.IntN(8) {
		case 0:
			documents[i] = "" // held, and after its grace gone
		case 1, 2, 3:
			documents[i] = crowd.Document(i, crowd.Mixed(r.IntN(1000)), "http://b")
		case 4:
			documents[0] = "# one more line\n" + documents[0] // moves all
		case 5:
			now = now.Add(DefaultGrace / 2)
		case 6:
			if err := os.WriteFile(filepath.Join(o.Dir, identityFile), []byte(`{"about":"spoilt"}`), 0o600); err != nil {
				t.Fatal(err)
			}
			documents[i] = crowd.Document(i, crowd.Mixed(1000+step), "http://c") // is saved again with this
		case 7:
			s, last = start(t, o)
		}
		write(t, path, strings.Join(documents, ""))
		now = now.Add(blankSettle)
		look()
		onDisk, inMemory := stored(t, s)
		if !reflect.DeepEqual(onDisk, inMemory) {
			t.Fatalf("step %d: on disk and in memory are not the same", step)
		}
		for i := range documents {
			if strings.Contains(documents[i], "---") && !live(last, crowd.Name(i)) {
				t.Fatalf("step %d: %s is not live", step, crowd.Name(i))
			}
		}
	}
}

// A restart takes the objects that are declared as they are stored for what is
// stored, and decodes the others: both give what decoding all gives.
func TestStateIsReadTheSameWhateverIsDeclared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	var text strings.Builder
	for i := range 50 {
		text.WriteString(crowd.Document(i, crowd.Mixed(i), "http://a/?x={\"object\":1}"))
	}
	write(t, path, text.String())
	s, _ := start(t, Options{Paths: []string{path}, Dir: t.TempDir()})
	raw := s.store.onDisk()
	if raw == nil {
		t.Fatal("the file is not as it was written")
	}
	var want state
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	declared, _ := s.declared()
	for _, known := range [][]*config.Object{nil, declared, declared[:20]} {
		got, ok := splitState(raw, known)
		if !ok {
			t.Fatal("the state is not recognised")
		}
		taken := 0
		for _, id := range got.Identities {
			if slices.Contains(known, id.Object) {
				taken++
				decoded := *id.Object
				decoded.Lines = nil
				id.Object = &decoded
			}
			id.stored = span{}
		}
		if taken != len(known) || !reflect.DeepEqual(got, want) {
			t.Errorf("with %d objects declared, of which %d are taken, the state is another", len(known), taken)
		}
	}
}
