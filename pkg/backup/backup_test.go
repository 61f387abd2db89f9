package backup

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/test/proof"
)

var update = flag.Bool("update", false, "rewrite the archive in testdata")

func TestAnArchiveBringsBackEventsDeadLettersProgressAndConfiguration(t *testing.T) {
	s := openStore(t)
	s.send("default/default", 200, 1000) // several segments
	s.settle("default/default", 151, 7, 150)
	s.send("shop/orders", 3, 10)
	s.settle("shop/orders", 4, 2)
	letter := channel.DeadLetter{ID: channel.ID{Position: 2}, Trigger: "t", TriggerName: "shop/t", Attempts: 11, Reason: "status 503", Event: made(t, 2, 10)}
	if err := s.broker("shop/orders").AppendDead(t.Context(), []channel.DeadLetter{letter}); err != nil {
		t.Fatal(err)
	}
	archive := s.archive()
	s.send("default/default", 1, 10) // after the cut
	s.stop()

	if m, err := Verify(bytes.NewReader(archive)); err != nil || len(m.Contents) < 6 {
		t.Fatalf("verify: %v, %d entries", err, len(m.Contents))
	}
	dir := filepath.Join(t.TempDir(), "not", "there")
	done, err := Restore(t.Context(), bytes.NewReader(archive), dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if config, err := os.ReadFile(filepath.Join(done.Config, "00001-Orders_and_more.yaml")); err != nil || string(config) != ordersYAML {
		t.Errorf("configuration: %v\n%s", err, config)
	}
	for i, want := range []Broker{
		{UID: s.uids["default/default"], Name: "default/default", Next: []channel.Position{201}, Pending: 52},
		{UID: s.uids["shop/orders"], Name: "shop/orders", Next: []channel.Position{4}, Dead: 1},
	} {
		if done.Brokers[0].UID != s.uids["default/default"] {
			i = 1 - i // they are in order of their ids
		}
		if got := done.Brokers[i]; got.Name != want.Name || got.Next[0] != want.Next[0] || got.Pending != want.Pending || got.Dead != want.Dead {
			t.Errorf("restored %+v, want %+v", got, want)
		}
	}

	restored := &store{t: t, dir: dir}
	restored.open()
	b := restored.broker("default/default")
	for _, pos := range []channel.Position{7, 150, 151, 200} {
		records, err := b.Get(t.Context(), 0, []channel.Position{pos}, nil)
		if err != nil || len(records) != 1 || !bytes.Equal(records[0].Event.Raw(), made(t, int(pos), 1000).Raw()) {
			t.Errorf("event %d: %d records, %v", pos, len(records), err)
		}
	}
	letters, _, err := restored.broker("shop/orders").Dead(t.Context(), "", "", 10)
	if err != nil || len(letters) != 1 || letters[0].Reason != letter.Reason || letters[0].Attempts != 11 {
		t.Errorf("dead letters: %v, %v", letters, err)
	}
	ids, err := file.ReadIdentities(dir)
	old, err2 := file.ReadIdentities(s.dir)
	if err != nil || err2 != nil || !bytes.Equal(ids, old) {
		t.Errorf("identities: %v, %v", err, err2)
	}
	if info, err := os.Stat(filepath.Join(dir, "identities.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of identities: %v, %v", info, err)
	}
	if err := Unfinished(dir); err != nil {
		t.Error(err)
	}
}

func TestAnArchiveThatEndsEarlyIsRefusedWhereverItEnds(t *testing.T) {
	archive := small(t)
	for n := range len(archive) {
		if n%7 != 0 && n%block > 1 && n%block < block-1 { // quick
			continue
		}
		if _, err := Verify(bytes.NewReader(archive[:n])); !errors.Is(err, ErrTruncated) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(archive), err)
		}
	}
	var altered *AlteredError
	if _, err := Verify(bytes.NewReader(append(archive, 0))); !errors.As(err, &altered) {
		t.Errorf("with a byte behind its end: %v", err)
	}
}

func TestNoFlipInAnArchiveIsSilent(t *testing.T) {
	archive := small(t)
	if _, err := Verify(bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 5000) {
		at := proof.Rand(seed, n).IntN(8 * len(archive))
		archive[at/8] ^= 1 << (at % 8)
		if _, err := Verify(bytes.NewReader(archive)); err == nil {
			t.Fatalf("bit %d of byte %d", at%8, at/8)
		}
		archive[at/8] ^= 1 << (at % 8)
	}
}

func TestAnArchiveOfANewerPenstockIsRefusedAndNamed(t *testing.T) {
	archive := forged(t, func(m *Manifest, _ map[string][]byte) { m.Format, m.Penstock = 2, "v9.1.0" })
	for _, data := range [][]byte{archive, archive[:2048]} { // before anything else of it matters
		dir := filepath.Join(t.TempDir(), "d")
		_, err := Restore(t.Context(), bytes.NewReader(data), dir, quiet)
		var newer *VersionError
		if !errors.As(err, &newer) || newer.Format != 2 || !strings.Contains(err.Error(), `"v9.1.0"; this penstock reads up to 1`) {
			t.Errorf("restore: %v", err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("the folder is there")
		}
	}
}

// What was backed up with the first version must come back with every later one.
func TestAnArchiveOfTheFirstFormatStillRestores(t *testing.T) {
	const path = "testdata/format1.tar"
	if *update {
		if err := os.WriteFile(path, small(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	done, err := Restore(t.Context(), archive, filepath.Join(t.TempDir(), "d"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	var dead uint64
	for _, b := range done.Brokers {
		dead += b.Dead
	}
	if len(done.Brokers) != 2 || dead != 1 || done.Config == "" {
		t.Errorf("restored %+v", done)
	}
}

func TestADamagedLogFailsTheBackupAndTheArchiveSaysWhy(t *testing.T) {
	s := openStore(t)
	s.send("default/default", 200, 1000)
	a := s.begin(Options{})
	name := filepath.Join(s.dir, a.Manifest.Contents[2].Name)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[30_000] ^= 4
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := a.Write(t.Context(), &b); err == nil || !strings.Contains(err.Error(), name+" is damaged") {
		t.Fatalf("backup: %v", err)
	}
	if int64(b.Len()) >= a.Bytes() {
		t.Errorf("the archive has %d bytes of the %d announced: nobody would notice", b.Len(), a.Bytes())
	}
	_, err = Verify(&b)
	var failed *FailedError
	if !errors.As(err, &failed) || !strings.Contains(failed.Reason, name+" is damaged") {
		t.Errorf("verify: %v", err)
	}
}

func TestABackupThatIsInterruptedIsAnArchiveThatEndsEarly(t *testing.T) {
	s := openStore(t)
	s.send("default/default", 200, 1000)
	a := s.begin(Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	stopping := errors.New("the broker is stopping")
	var b bytes.Buffer
	err := a.Write(ctx, writerFunc(func(p []byte) (int, error) {
		if b.Len() > 100_000 {
			cancel(stopping)
		}
		return b.Write(p)
	}))
	if !errors.Is(err, stopping) {
		t.Errorf("backup: %v", err)
	}
	if _, err := Verify(&b); !errors.Is(err, ErrTruncated) {
		t.Errorf("verify: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestABackupKeepsToItsRate(t *testing.T) {
	s := openStore(t)
	s.send("default/default", 300, 1000)
	archive := s.begin(Options{Rate: 100 << 10})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := archive.Write(t.Context(), io.Discard); err != nil {
			t.Fatal(err)
		}
		// The first second's worth may go at once.
		if took, want := time.Since(start), time.Duration(archive.Bytes()-100<<10)*time.Second/(100<<10); took < want-time.Millisecond || took > want+2*time.Second {
			t.Errorf("%d bytes took %v, want %v", archive.Bytes(), took, want)
		}
	})
}

func TestConfigurationThatCannotBeReadIsNotedAndDoesNotStopABackup(t *testing.T) {
	s := openStore(t)
	gone := filepath.Join(t.TempDir(), "gone.yaml")
	a := s.begin(Options{Files: []string{gone}})
	if notes := a.Manifest.Notes; len(notes) != 1 || !strings.Contains(notes[0], gone) {
		t.Errorf("notes: %q", notes)
	}
	if last := a.Manifest.Contents[len(a.Manifest.Contents)-1]; last.Origin != s.yaml {
		t.Errorf("the last entry is %+v", last)
	}
}

func TestNamesOfConfigurationAreSafeAndKeepTheirOrder(t *testing.T) {
	for path, want := range map[string]string{
		"a/orders.yaml":                       "config/00001-orders.yaml",
		"brokers":                             "config/00001-brokers.yaml",
		"../..":                               "config/00001-config.yaml",
		"-rf.yml":                             "config/00001-rf.yml",
		"a/.hidden.json":                      "config/00001-hidden.json",
		"a/wei rd\n'$x.YAML":                  "config/00001-wei_rd___x.yaml",
		strings.Repeat("long", 50) + ".yaml":  "config/00001-" + strings.Repeat("long", 50)[:59] + ".yaml",
		strings.Repeat("ü", 100) + "end.conf": "config/00001-" + strings.Repeat("_", 59) + ".yaml",
	} {
		got := configEntry(0, path)
		if got != want || !configName().MatchString(got) {
			t.Errorf("%q is %s, want %s", path, got, want)
		}
	}
}
