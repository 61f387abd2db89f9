package cli

import (
	"bytes"
	"context"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/channel/disk"
)

// firstFormat is an archive with two Brokers and a dead letter.
const firstFormat = "../../backup/testdata/format1.tar"

// canned is a backup that is ready, or the part of one that comes out.
type canned struct {
	archive []byte
	part    int
}

func (c canned) Bytes() int64 { return int64(len(c.archive)) }
func (c canned) Close()       {}
func (c canned) Write(_ context.Context, w io.Writer) error {
	_, err := w.Write(c.archive[:c.part])
	return err
}

// backingUp is a running broker whose backups are that one.
func backingUp(t *testing.T, archive []byte, part int) {
	t.Helper()
	s := openShop(t)
	handler := api.New(api.Options{Source: s, Backup: func(context.Context, int64) (api.Backup, error) {
		return canned{archive, part}, nil
	}})
	server := httptest.NewServer(handler)
	t.Cleanup(func() { handler.Close(); server.Close() })
	t.Setenv("PENSTOCK_API", server.URL)
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBackupOfARunningBrokerIsAFileOnceItIsWhole(t *testing.T) {
	archive := contents(t, firstFormat)
	backingUp(t, archive, len(archive))
	dir := t.TempDir()
	file := filepath.Join(dir, "b.tar")
	golden(t, "backup.golden", strings.ReplaceAll(must(t, "backup", file), dir, "DIR"))
	if !bytes.Equal(contents(t, file), archive) {
		t.Error("the file is not what the broker sent")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if r := penstock(t.Context(), "", "backup", file); r.code != ExitFailed || !strings.Contains(r.err, "b.tar is there already") {
		t.Errorf("a second time: %+v", r)
	}
	if err := os.WriteFile(file+".tmp", []byte("of one that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "backup", file, "--force", "--rate", "50Mi")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("there is %v, %v", left, err)
	}
	r := penstock(t.Context(), "", "backup", "-")
	if r.code != ExitDone || r.out != string(archive) || !strings.HasPrefix(r.err, "Backed up to standard output") {
		t.Errorf("to standard output: code %d, %d bytes, %q", r.code, len(r.out), r.err)
	}
}

func TestABackupThatIsCutShortLeavesNoFile(t *testing.T) {
	archive := contents(t, firstFormat)
	for _, part := range []int{0, 100, 3000, len(archive) - 1} {
		backingUp(t, archive, part)
		dir := t.TempDir()
		r := penstock(t.Context(), "", "backup", filepath.Join(dir, "b.tar"))
		if r.code != ExitFailed || !strings.Contains(r.err, "it ends early") || r.out != "" {
			t.Errorf("after %d bytes: %+v", part, r)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("after %d bytes there is %v, %v", part, left, err)
		}
		if r := penstock(t.Context(), "", "backup", "-"); r.code != ExitFailed {
			t.Errorf("to standard output, after %d bytes: %+v", part, r)
		}
	}
}

func TestABrokerWithoutADiskHasNoBackup(t *testing.T) {
	openShop(t)
	r := penstock(t.Context(), "", "backup", filepath.Join(t.TempDir(), "b.tar"))
	if r.code != ExitFailed || r.err != "Error: this broker keeps nothing on disk: there is nothing to back up\n" {
		t.Errorf("%+v", r)
	}
}

func TestRestoreSaysWhatIsThereAndHowToServeIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my data")
	named := func(text string) string {
		return strings.NewReplacer(dir, "DIR", filepath.Dir(firstFormat)+"/", "").Replace(text)
	}
	golden(t, "verify.golden", named(must(t, "restore", firstFormat, "--verify")))
	golden(t, "restore.golden", named(must(t, "restore", firstFormat, "--data", dir)))
	r := penstock(t.Context(), "", "restore", firstFormat, "--data", dir)
	if r.code != ExitFailed || !strings.Contains(r.err, "is not empty") {
		t.Errorf("a second time: %+v", r)
	}
	dir += "2"
	r = penstock(t.Context(), string(contents(t, firstFormat)), "restore", "-", "--data", dir, "-o", "json")
	if r.code != ExitDone || r.err != "" {
		t.Errorf("from standard input: %+v", r)
	}
	golden(t, "restore.json", named(r.out))
}

func TestRestoreRefusesWhatIsNoWholeArchive(t *testing.T) {
	archive := string(contents(t, firstFormat))
	for want, in := range map[string]string{
		"it ends early":                           archive[:5000],
		"is damaged near byte":                    archive[:3000] + "x" + archive[3001:],
		"this is no archive of `penstock backup`": strings.Repeat("hello ", 1000),
	} {
		for _, args := range [][]string{{"--verify"}, {"--data", filepath.Join(t.TempDir(), "d")}} {
			r := penstock(t.Context(), in, append([]string{"restore", "-"}, args...)...)
			if r.code != ExitFailed || !strings.Contains(r.err, want) || r.out != "" {
				t.Errorf("%s: %+v", want, r)
			}
		}
	}
}

func TestBackupAndRestoreUsedWrongly(t *testing.T) {
	for _, line := range []string{
		"backup", "backup a b", "backup b.tar --rate fast", "backup b.tar --rate 1Ki", "backup b.tar -f x.yaml", "backup b.tar -o yaml",
		"restore", "restore b.tar", "restore b.tar --verify --data d",
	} {
		if r := penstock(t.Context(), "", strings.Fields(line)...); r.code != ExitUsage {
			t.Errorf("penstock %s: %+v", line, r)
		}
	}
}

func TestBackupOfAStoppedBroker(t *testing.T) {
	dir := stoppedStore(t)
	file := filepath.Join(t.TempDir(), "b.tar")
	out := must(t, "backup", "--data", dir, file)
	if !strings.Contains(out, "default/default   2         0\n") {
		t.Errorf("it says\n%s", out)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	out = must(t, "restore", file, "--data", restored)
	if !strings.Contains(out, "default/default   2         0\n") {
		t.Errorf("restored\n%s", out)
	}
	inStore(t, dir, func(*disk.Log) {
		r := penstock(t.Context(), "", "backup", "--data", dir, file, "--force")
		if r.code != ExitFailed || !strings.Contains(r.err, "a broker that runs is backed up without --data") {
			t.Errorf("of a folder in use: %+v", r)
		}
	})
	if _, err := backup.Verify(bytes.NewReader(contents(t, file))); err != nil {
		t.Errorf("the backup before it: %v", err)
	}
	empty := t.TempDir()
	if r := penstock(t.Context(), "", "backup", "--data", empty, file, "--force"); r.code != ExitFailed || !strings.Contains(r.err, "is no data folder") {
		t.Errorf("of an empty folder: %+v", r)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("an empty folder has become %v, %v", left, err)
	}
}
