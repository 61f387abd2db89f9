package engine

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

func TestPausesAreReadAgainAsTheyWereSaved(t *testing.T) {
	dir := t.TempDir()
	p, paused, err := openPauses(dir)
	if err != nil || len(paused) != 0 {
		t.Fatalf("nothing was paused yet: %v, %v", paused, err)
	}
	until := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	for _, want := range []map[channel.UID]time.Time{{"t-1": until, "t-2": {}}, {"t-2": {}}, {}} {
		if err := p.save(want); err != nil {
			t.Fatal(err)
		}
		if _, got, err := openPauses(dir); err != nil || !maps.EqualFunc(got, want, time.Time.Equal) {
			t.Errorf("read %v, %v; want %v", got, err, want)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the folder has %v, %v; want the one file", files, err)
	}
}

func TestPausesThatCannotBeReadRefuseTheStart(t *testing.T) {
	dir := t.TempDir()
	for text, says := range map[string]string{"{": "is damaged: remove it to resume", `{"version":2}`: "use a newer one"} {
		if err := os.WriteFile(filepath.Join(dir, pausesFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openPauses(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

func TestAPauseThatCannotBeSavedLeavesTheFileAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	p, _, err := openPauses(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.save(map[channel.UID]time.Time{"t-1": {}}); err == nil {
		t.Error("saved into a folder that is not there")
	}
}
