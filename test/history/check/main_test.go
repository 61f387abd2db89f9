package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/test/history"
)

// record writes a history of one accepted event, delivered or not.
func record(t *testing.T, delivered bool) (path string) {
	t.Helper()
	var out bytes.Buffer
	rec := history.NewRecorder(&out, history.Rules{}, nil)
	rec.Routes("default/default", []history.Trigger{{Name: "default/till"}})()
	e := history.Event{Attrs: map[string]string{"id": "1", "type": "a"}}
	rec.Send("default/default", e).Answer(history.Answer{Code: 202})
	if delivered {
		rec.Receipt("default/till", e).Answer(history.Answer{Code: 200})
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "history.jsonl")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodeTellsTheVerdict(t *testing.T) {
	good, bad := record(t, true), record(t, false)
	no := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{good}, 0, "lost 0"},
		{[]string{good, bad}, 1, "I1   no acknowledged event is lost"},
		{[]string{"-o", "json", bad}, 1, `"lost": 1`},
		{[]string{no, good}, 2, no},
		{[]string{"-restored", good, good}, 0, "lost 0"},
		{nil, 2, "usage:"},
		{[]string{"-o", "xml", good}, 2, "usage:"},
	} {
		var out, errOut bytes.Buffer
		if code := run(c.args, &out, &errOut); code != c.code || !strings.Contains(out.String()+errOut.String(), c.says) {
			t.Errorf("check %q: exit code %d, want %d and %q\n%s%s", c.args, code, c.code, c.says, &out, &errOut)
		}
	}
}

func TestJSONIsTheWholeVerdict(t *testing.T) {
	var out, errOut bytes.Buffer
	run([]string{"-o", "json", record(t, false)}, &out, &errOut)
	var v history.Verdict
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Invariants) != 15 || v.Invariants[0].First[0].ID != "1" || v.Figures.Acked != 1 {
		t.Errorf("verdict is %+v", v)
	}
}
