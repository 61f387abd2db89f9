package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/event"
)

func TestDoctorOfARunningBroker(t *testing.T) {
	openShop(t)
	r := penstock(t.Context(), "", "doctor")
	if r.code != ExitFailed || r.err != "Error: 1 problem found\n" {
		t.Errorf("a Trigger that is not ready: %d, %q", r.code, r.err)
	}
	// The shop stands still at noon of a day long gone.
	golden(t, "doctor.golden", regexp.MustCompile(`differ by \S+`).ReplaceAllString(r.out, "differ by AGE"))

	r = penstock(t.Context(), "", "doctor", "-o", "json")
	var d v1.Diagnosis
	if err := json.Unmarshal([]byte(r.out), &d); err != nil || r.code != ExitFailed {
		t.Fatalf("%v: %+v", err, r)
	}
	if d.Process != os.Getpid() || d.Store != "" || len(d.Findings) < 6 {
		t.Errorf("%+v", d)
	}
}

// stoppedStore is a data folder as `penstock serve` leaves it: a Broker with
// two events that are pending.
func stoppedStore(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"PENSTOCK_API", "PENSTOCK_DATA"} {
		t.Setenv(name, "")
	}
	dir := filepath.Join(t.TempDir(), "data")
	source := file.New(file.Options{Dir: dir, Compile: config.Options{DefaultChannel: config.ChannelDisk, IngressURL: "http://localhost:8080"}})
	snapshot, err := source.Load()
	if err != nil {
		t.Fatal(err)
	}
	b, ok := snapshot.Broker("default", "default")
	if !ok {
		t.Fatal("no Broker default/default")
	}
	inStore(t, dir, func(log *disk.Log) {
		info := b.Info()
		info.Shards = 1
		if _, err := log.Broker(t.Context(), info); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"o-1", "o-2"} {
			if _, err := log.Append(t.Context(), b.UID, []event.Event{cloudEvent(t, id, "order.created", `{"total": 12}`)}); err != nil {
				t.Fatal(err)
			}
		}
	})
	return dir
}

// inStore runs the log of a data folder for a while.
func inStore(t *testing.T, dir string, do func(*disk.Log)) {
	t.Helper()
	log, err := disk.Open(filepath.Join(dir, "log"), disk.Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	do(log)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// plainly takes out of an output what differs from run to run and machine to machine.
func plainly(out, dir string) string {
	out = strings.ReplaceAll(out, dir, "DATA")
	return regexp.MustCompile(`[0-9.]+ [KMGT]iB|[0-9]+ bytes`).ReplaceAllString(out, "SIZE")
}

func TestDoctorOfAStoppedStore(t *testing.T) {
	dir := stoppedStore(t)
	golden(t, "doctor-stopped.golden", plainly(must(t, "doctor", "--data", dir), dir))
	t.Setenv("PENSTOCK_DATA", dir)
	var d v1.Diagnosis
	if err := json.Unmarshal([]byte(must(t, "doctor", "-o", "json")), &d); err != nil || d.Store != dir {
		t.Errorf("%v: %+v", err, d)
	}
}

func TestDoctorSaysWhichFileIsDamagedWhereAndWhatToDo(t *testing.T) {
	dir := stoppedStore(t)
	segment := filepath.Join(dir, "log", "0000000000000001.log")
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "o-1")
	b[at] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r := penstock(t.Context(), "", "doctor", "--data", dir)
	if r.code != ExitFailed || r.err != "Error: 1 problem found\n" {
		t.Errorf("%d: %q", r.code, r.err)
	}
	golden(t, "doctor-damaged.golden", plainly(r.out, dir))

	r = penstock(t.Context(), "y\n", "doctor", "--data", dir, "--repair")
	if r.code != ExitUsage || !strings.Contains(r.err, "--yes") {
		t.Errorf("a pipe has agreed to a repair: %+v", r)
	}
	if after, err := os.ReadFile(segment); err != nil || !bytes.Equal(after, b) {
		t.Errorf("nobody has agreed to a repair, and the segment has changed: %v", err)
	}

	r = penstock(t.Context(), "", "doctor", "--data", dir, "--repair", "--yes")
	if r.code != ExitDone || !strings.Contains(r.err, "copy the folder first") || !strings.Contains(r.out, "declared lost earlier: event 0-1, found ") {
		t.Errorf("repair: %+v", r)
	}
	inStore(t, dir, func(log *disk.Log) {
		b, err := log.Broker(t.Context(), log.Brokers()[0])
		if err != nil {
			t.Fatal(err)
		}
		records, err := b.Get(t.Context(), 0, []channel.Position{1, 2}, nil)
		if len(records) != 1 || records[0].Event.ID() != "o-2" || err == nil || len(b.Gaps()) != 1 {
			t.Errorf("after the repair: %+v, %v, gaps %v", records, err, b.Gaps())
		}
	})
	if again := penstock(t.Context(), "", "doctor", "--data", dir, "--repair", "--yes"); again.code != ExitDone || !strings.Contains(again.err, "Nothing to repair") {
		t.Errorf("a second repair: %+v", again)
	}
}

func TestDoctorTellsOfAFolderThatIsOpenToOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: modes of files say nothing here")
	}
	dir := stoppedStore(t)
	identities := filepath.Join(dir, file.IdentityFile)
	if err := os.Chmod(identities, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "doctor", "--data", dir); strings.Contains(out, "warning") { // nobody else may enter the folder
		t.Errorf("%s", out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "doctor", "--data", dir); !strings.Contains(out, identities+" can be read by other users") || !strings.Contains(out, "1 warning") {
		t.Errorf("%s", out)
	}
}

func TestDoctorTellsOfIdentitiesThatDoNotGoWithTheLog(t *testing.T) {
	dir := stoppedStore(t)
	identities := filepath.Join(dir, file.IdentityFile)
	text, err := os.ReadFile(identities)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(identities); err != nil {
		t.Fatal(err)
	}
	r := penstock(t.Context(), "", "doctor", "--data", dir)
	if r.code != ExitFailed || !strings.Contains(r.out, "does not know broker default/default") {
		t.Errorf("without identities: %+v", r)
	}
	if err := os.WriteFile(identities, []byte(strings.Replace(string(text), "default", "defauld", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r = penstock(t.Context(), "", "doctor", "--data", dir)
	if r.code != ExitFailed || !strings.Contains(r.out, "is damaged") {
		t.Errorf("with altered identities: %+v", r)
	}
}

func TestDoctorOfNothing(t *testing.T) {
	t.Setenv("PENSTOCK_DATA", "")
	t.Chdir(t.TempDir())
	r := penstock(t.Context(), "", "doctor", "--data", "./nowhere")
	if r.code != ExitFailed || !strings.Contains(r.err, "no store in ./nowhere") {
		t.Errorf("%+v", r)
	}
	s := penstock(t.Context(), "", "doctor", "--repair")
	if s.code != ExitFailed || !strings.Contains(s.err, "no store in ./.penstock") {
		t.Errorf("%+v", s)
	}
	if u := penstock(t.Context(), "", "doctor", "now"); u.code != ExitUsage {
		t.Errorf("%+v", u)
	}
}

func TestDoctorOfAFolderInUseAsksItsBroker(t *testing.T) {
	dir := stoppedStore(t)
	inStore(t, dir, func(*disk.Log) {
		r := penstock(t.Context(), "", "doctor", "--data", dir, "--api", "http://127.0.0.1:1")
		if r.code != ExitFailed || !strings.Contains(r.err, fmt.Sprintf("in use by process %d", os.Getpid())) || !strings.Contains(r.err, "--api") {
			t.Errorf("%+v", r)
		}
		r = penstock(t.Context(), "", "doctor", "--data", dir, "--repair", "--yes")
		if r.code != ExitFailed || !strings.Contains(r.err, "stop that process") {
			t.Errorf("repair of a store in use: %+v", r)
		}
		s := openShop(t) // this process has the folder: its API is the right one
		r = penstock(t.Context(), "", "doctor", "--data", dir, "--api", s.url)
		if !strings.Contains(r.out, "broker default/default") {
			t.Errorf("%+v", r)
		}
	})
}

func TestFindingsThatAreFineDoNotHideTheOthers(t *testing.T) {
	var all []v1.Finding
	for i := range 100 {
		all = append(all, v1.Finding{Severity: "ok", Subject: fmt.Sprint("trigger ", i), What: "0 pending"})
	}
	all = append(all, v1.Finding{Severity: channel.Problem.String(), Subject: "the last", What: "bad\x1b[2J"})
	var out strings.Builder
	if err := printFindings(&out, all); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "the last") || strings.Contains(text, "\x1b") || !strings.Contains(text, "(70 more are ok)") || !strings.Contains(text, "1 problem, 100 ok") {
		t.Errorf("%s", text)
	}
}
