package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
	"github.com/penstock-events/penstock/test/proof"
)

// backedUp is a file with a Trigger for everything, one whose subscriber takes
// nothing for an hour, and one that lets its events die at once.
func backedUp(t *testing.T, s *sink.Sink) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "all.yaml"),
		trigger("everything", "", s.URL("/everything"), "")+
			trigger("stuck", "[{exact: {type: a}}]", s.URL("/stuck"), "{retry: 1000, backoffPolicy: linear, backoffDelay: PT1S}")+
			trigger("dying", "[{exact: {type: dead}}]", s.URL("/dying"), "{retry: 0}"))
}

// onlyEverything is a subscriber that takes the Trigger of that name's events.
func onlyEverything(r *http.Request) int {
	if r.URL.Path == "/everything" {
		return http.StatusNoContent
	}
	return http.StatusServiceUnavailable
}

// accepted is what has been accepted so far, by type.
func (l *load) acceptedNow() map[string][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := maps.Clone(l.accepted)
	for typ, ids := range now {
		now[typ] = slices.Clone(ids)
	}
	return now
}

// I15: what a backup holds is what had been accepted before it was asked for.
// Each of several backups of a broker under load is served by itself, to a
// subscriber that takes all.
func TestEveryBackupTakenUnderLoadDeliversWhatWasAcceptedBefore(t *testing.T) {
	s := sink.Start(t, onlyEverything)
	config := backedUp(t, s)
	b := start(t, config)
	var early, dead []string
	for n := range 30 {
		early, dead = append(early, fmt.Sprint("early-", n)), append(dead, fmt.Sprint("dead-", n))
		for id, typ := range map[string]string{early[n]: "b", dead[n]: "dead"} {
			if status, _ := post(b.Default(), id, typ, "data of "+id); status != http.StatusAccepted {
				t.Fatalf("status is %d", status)
			}
		}
	}
	b.AwaitSettled("everything", "dying")
	<-time.After(300 * time.Millisecond) // progress lags a tenth of a second
	l := startLoad(t, b.Default(), "a", "b")
	folder := t.TempDir()
	type taken struct {
		file      string
		before    map[string][]string
		delivered map[string]sink.Receipt // when it was done
	}
	var backups []taken
	for n := range proof.Rounds(t, 6) {
		l.more(100)
		k := taken{file: filepath.Join(folder, fmt.Sprint(n, ".tar")), before: l.acceptedNow()}
		ask(t, b, "backup", k.file)
		k.delivered = s.Got("/everything")
		backups = append(backups, k)
	}
	l.more(1)
	all := l.stop()
	for _, k := range backups {
		after := sink.Start(t, nil)
		data := filepath.Join(t.TempDir(), "restored")
		out := ask(t, b, "restore", k.file, "--data", data)
		if want := "-f " + filepath.Join(data, "config"); !strings.Contains(out, want) {
			t.Errorf("restore does not say %q:\n%s", want, out)
		}
		if got := read(t, filepath.Join(data, "config", "00001-all.yaml")); got != read(t, config) {
			t.Errorf("the configuration has become\n%s", got)
		}
		restored := broker.Start(t, broker.Options{Binary: penstock, Data: data, Files: []string{backedUp(t, after)}})
		after.Await("/stuck", k.before["a"]...)
		var missing []string
		for _, id := range slices.Concat(k.before["a"], k.before["b"]) {
			if k.delivered[id].Times == 0 {
				missing = append(missing, id)
			}
		}
		after.Await("/everything", missing...)
		restored.AwaitSettled("everything", "stuck")

		known := make(map[string]bool)
		for _, id := range slices.Concat(all["a"], all["b"]) {
			known[id] = true
		}
		for _, path := range []string{"/stuck", "/everything"} {
			for id, r := range after.Got(path) {
				if string(r.Event.Data()) != "data of "+id || !known[id] && !slices.Contains(early, id) && !slices.Contains(dead, id) {
					t.Errorf("%s: event %s with the data %q was never sent", path, id, r.Event.Data())
				}
			}
		}
		for _, id := range slices.Concat(early, dead) {
			if after.Got("/everything")[id].Times > 0 {
				t.Errorf("%s had been delivered long before the backup and came again", id)
			}
		}
		var letters v1.DeadLetterList
		restored.Get("/api/v1/deadletters?trigger=default/dying&limit=100", &letters)
		died := make(map[string]bool)
		for _, d := range letters.Items {
			died[d.EventID] = true
		}
		if len(died) != len(dead) || len(letters.Items) != len(dead) || !died[dead[0]] {
			t.Errorf("%d dead letters of %d events, want %d", len(letters.Items), len(died), len(dead))
		}
		restored.Kill()
	}
}

// The trap that other stores fell into: files that the log has done with are
// removed while they are copied.
func TestABackupBesideRemovalsHoldsItsFiles(t *testing.T) {
	if !proof.Full() {
		t.Skip("writes 500 MB: make reliability runs it, and the disk channel has a small one")
	}
	s := sink.Start(t, onlyEverything)
	config := write(t, filepath.Join(t.TempDir(), "stuck.yaml"), `apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, annotations: {penstock.dev/retention: "0"}}
`+trigger("stuck", "[{exact: {type: a}}]", s.URL("/stuck"), "{retry: 1000, backoffPolicy: linear, backoffDelay: PT1S}"))
	b := start(t, config)
	ids := large(t, b, 3)
	fill := func(n int) { // events that nobody wants
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				for range n {
					if status, _ := post(b.Default(), "x", "b", strings.Repeat("x", 200_000)); status != http.StatusAccepted {
						t.Errorf("status is %d", status)
					}
				}
			})
		}
		senders.Wait()
	}
	segments := func() []string {
		names, err := filepath.Glob(filepath.Join(b.Data, "log", "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	fill(250) // 200 MB: three segments and a piece
	file := filepath.Join(t.TempDir(), "b.tar")
	cmd := exec.Command(penstock, "backup", file, "--rate", "25Mi", "--api", b.API)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	broker.Await(t, "the backup under way", func() bool {
		info, err := os.Stat(file + ".tmp")
		return err == nil && info.Size() > 0
	})
	cut := segments()
	fill(250)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("backup: %v", err)
	}
	broker.Await(t, "the files of the cut gone", func() bool {
		now := segments()
		return slices.ContainsFunc(cut, func(name string) bool { return !slices.Contains(now, name) })
	})

	after := sink.Start(t, nil)
	data := filepath.Join(t.TempDir(), "restored")
	ask(t, b, "restore", file, "--data", data)
	restored := broker.Start(t, broker.Options{Binary: penstock, Data: data, Files: []string{
		write(t, filepath.Join(t.TempDir(), "stuck.yaml"), trigger("stuck", "[{exact: {type: a}}]", after.URL("/stuck"), ""))}})
	after.Await("/stuck", ids...)
	restored.Kill()
}

// large fills the store, so that a backup at the lowest rate takes a while.
func large(t *testing.T, b *broker.Broker, n int) (ids []string) {
	t.Helper()
	for i := range n {
		id := fmt.Sprint("large-", i)
		if status, _ := post(b.Default(), id, "a", strings.Repeat("x", 200_000)); status != http.StatusAccepted {
			t.Fatalf("status is %d", status)
		}
		ids = append(ids, id)
	}
	return ids
}

// slowBackup begins a backup that takes a minute, and returns when it runs.
func slowBackup(t *testing.T, b *broker.Broker, file string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(penstock, "backup", file, "--rate", "64Ki", "--api", b.API)
	cmd.Stderr = new(strings.Builder)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	broker.Await(t, "part of a backup", func() bool {
		info, err := os.Stat(file + ".tmp")
		return err == nil && info.Size() > 0
	})
	return cmd
}

func TestKillNineOfTheBrokerDuringABackupLeavesNothingBehind(t *testing.T) {
	s := sink.Start(t, onlyEverything)
	b := start(t, backedUp(t, s))
	ids := large(t, b, 20)
	folder := t.TempDir()
	file := filepath.Join(folder, "b.tar")
	cmd := slowBackup(t, b, file)
	b.Kill()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(fmt.Sprint(cmd.Stderr), "it ends early") {
		t.Errorf("backup: %v\n%s", err, cmd.Stderr)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	b.Restart()
	s.Await("/everything", ids...)
	ask(t, b, "backup", file)
	ask(t, b, "restore", "--verify", file)
}

func TestKillNineOfABackupLetsTheNextOneBegin(t *testing.T) {
	b := start(t, backedUp(t, sink.Start(t, onlyEverything)))
	large(t, b, 20)
	file := filepath.Join(t.TempDir(), "b.tar")
	cmd := slowBackup(t, b, file)
	second := exec.Command(penstock, "backup", file+"2", "--api", b.API)
	if code, _, errOut := broker.Run(t, second); code != 1 || !strings.Contains(errOut, "another backup is under way") {
		t.Errorf("a second backup: exit code %d\n%s", code, errOut)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := os.Stat(file); err == nil {
		t.Error("half a backup has its name")
	}
	broker.Await(t, "the next backup", func() bool {
		next := exec.Command(penstock, "backup", file, "--api", b.API)
		code, _, _ := broker.Run(t, next)
		return code == 0
	})
	ask(t, b, "restore", "--verify", file)
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("there is %v, %v", left, err)
	}
}

func TestARestoreKilledHalfWayLeavesNoUsableHalf(t *testing.T) {
	b := start(t, backedUp(t, sink.Start(t, onlyEverything)))
	large(t, b, 5)
	file := filepath.Join(t.TempDir(), "b.tar")
	ask(t, b, "backup", file)
	archive := read(t, file)

	data := filepath.Join(t.TempDir(), "restored")
	cmd := exec.Command(penstock, "restore", "-", "--data", data)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, archive[:len(archive)-1000]); err != nil {
		t.Fatal(err)
	}
	broker.Await(t, "most of the log unpacked", func() bool {
		found, _ := filepath.Glob(filepath.Join(data, ".restoring", "log", "*.log"))
		return len(found) > 0
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	serve := exec.Command(penstock, "serve", "--data", data, "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
	if code, _, errOut := broker.Run(t, serve); code != 1 || !strings.Contains(errOut, "was cut short: empty the folder and restore again") {
		t.Errorf("serve: exit code %d\n%s", code, errOut)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	ask(t, b, "restore", file, "--data", data)
}
