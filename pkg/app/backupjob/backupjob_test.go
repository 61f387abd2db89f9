package backupjob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/backup"
)

// firstFormat is an archive with two Brokers and a dead letter.
const firstFormat = "../../backup/testdata/format1.tar"

func contents(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dispatcher serves an API that does what answer does.
func dispatcher(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s
}

// good is a dispatcher whose backup works.
func good(t *testing.T) http.HandlerFunc {
	archive := contents(t, firstFormat)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/backup" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(archive)))
		_, _ = w.Write(archive)
	}
}

// cluster is DNS for pods that all live on this machine.
type cluster map[string]*httptest.Server // by the pod's name

func (c cluster) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if service != "api" || proto != "tcp" || name != "penstock-dispatcher.events.svc" {
		return "", nil, errors.New("no such host")
	}
	var all []*net.SRV
	for pod, s := range c {
		_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		n, err := strconv.Atoi(port)
		if err != nil {
			return "", nil, err
		}
		all = append(all, &net.SRV{Target: pod + ".penstock-dispatcher.events.svc.cluster.local.", Port: uint16(n)})
	}
	return "", all, nil
}

func (c cluster) LookupHost(_ context.Context, host string) ([]string, error) {
	pod, rest, _ := strings.Cut(host, ".")
	if _, ok := c[pod]; !ok || rest != "penstock-dispatcher.events.svc.cluster.local" {
		return nil, errors.New("no such host")
	}
	return []string{"127.0.0.1"}, nil
}

// night is the job at two o'clock.
func night(t *testing.T, c cluster, to string, flags ...string) (*job, *bytes.Buffer) {
	t.Helper()
	args := append([]string{"--namespace", "events", "--to", to, "--expect", strconv.Itoa(len(c))}, flags...)
	o, err := readOptions(args, io.Discard)
	if err == nil {
		err = o.check()
	}
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	two := func() time.Time { return time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC) }
	return &job{options: o, resolver: c, now: two, out: &out}, &out
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func want(t *testing.T, dir string, names ...string) {
	t.Helper()
	if got := files(t, dir); !slices.Equal(got, names) {
		t.Errorf("the folder has %q, want %q", got, names)
	}
}

func TestEveryDispatcherOfTheServiceIsBackedUp(t *testing.T) {
	dir := t.TempDir()
	c := cluster{"penstock-dispatcher-0": dispatcher(t, good(t)), "penstock-dispatcher-1": dispatcher(t, good(t))}
	j, out := night(t, c, dir)
	if err := j.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, dir, "penstock-dispatcher-0-20260301T020000Z.tar", "penstock-dispatcher-1-20260301T020000Z.tar")
	for _, name := range files(t, dir) {
		if !bytes.Equal(contents(t, filepath.Join(dir, name)), contents(t, firstFormat)) {
			t.Errorf("%s is not what the dispatcher sent", name)
		}
	}
	if text := out.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "penstock-dispatcher-1: "+dir) || !strings.Contains(text, "2 brokers, all accepted before ") {
		t.Errorf("it says\n%s", text)
	}
}

func TestOneThatFailsDoesNotKeepTheOthersFromTheirBackup(t *testing.T) {
	dir := t.TempDir()
	archive := contents(t, firstFormat)
	c := cluster{
		"d-0": dispatcher(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"error":"another backup is under way"}`)
		}),
		"d-1": dispatcher(t, func(w http.ResponseWriter, _ *http.Request) { // dies in the middle
			w.Header().Set("Content-Length", strconv.Itoa(len(archive)))
			_, _ = w.Write(archive[:len(archive)/2])
		}),
		"d-2": dispatcher(t, func(w http.ResponseWriter, _ *http.Request) { // a disk that flips a bit
			bad := bytes.Clone(archive)
			bad[len(bad)/2] ^= 1
			_, _ = w.Write(bad)
		}),
		"d-3": dispatcher(t, good(t)),
	}
	j, _ := night(t, c, dir)
	err := j.run(t.Context())
	if err == nil {
		t.Fatal("three failed, and the job says it is done")
	}
	for _, part := range []string{"d-0: another backup is under way", "d-1: ", "d-2: "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	if n := len(flatten(err)); n != 3 {
		t.Errorf("%d errors, want 3: %v", n, err)
	}
	want(t, dir, "d-3-20260301T020000Z.tar")
}

func TestADispatcherThatIsMissingFailsTheJobAfterTheOthersAreBackedUp(t *testing.T) {
	dir := t.TempDir()
	j, _ := night(t, cluster{"d-0": dispatcher(t, good(t))}, dir, "--expect", "3")
	if err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), "1 of 3 dispatchers were found") {
		t.Errorf("the error is %v", err)
	}
	want(t, dir, "d-0-20260301T020000Z.tar")
}

func TestTheOldestGoOnlyAfterANewOneIsThere(t *testing.T) {
	dir := t.TempDir()
	made := func(names ...string) {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	others := []string{"d-0-notes.txt", "d-0.tar", "d-01-20260101T020000Z.tar", "d-1-20260101T020000Z.tar"}
	made(others...)
	made("d-0-20260226T020000Z.tar", "d-0-20260227T020000Z.tar", "d-0-20260228T020000Z.tar", "d-0-20260228T030000Z.tar.tmp")

	broken := cluster{"d-0": dispatcher(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })}
	j, _ := night(t, broken, dir, "--keep", "2")
	if j.run(t.Context()) == nil {
		t.Fatal("no error")
	}
	all := slices.Sorted(slices.Values(append([]string{"d-0-20260226T020000Z.tar", "d-0-20260227T020000Z.tar", "d-0-20260228T020000Z.tar"}, others...)))
	want(t, dir, all...)

	j, _ = night(t, cluster{"d-0": dispatcher(t, good(t))}, dir, "--keep", "2")
	if err := j.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	all = slices.Sorted(slices.Values(append([]string{"d-0-20260228T020000Z.tar", "d-0-20260301T020000Z.tar"}, others...)))
	want(t, dir, all...)

	// The same second again: what is there is a backup and stays as it is.
	j, _ = night(t, cluster{"d-0": dispatcher(t, good(t))}, dir)
	if err := j.run(t.Context()); !errors.Is(err, os.ErrExist) {
		t.Errorf("the error is %v", err)
	}
	want(t, dir, all...)
}

func TestTheTokenIsShownAndNotCarriedElsewhere(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(t.TempDir(), "token")
	var elsewhere atomic.Int32
	thief := dispatcher(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	rotate := func(text string) {
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	serve := good(t)
	c := cluster{
		"d-0": dispatcher(t, func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.Header.Get("Authorization"))
			rotate("second\n")
			serve(w, r)
		}),
		"d-1": dispatcher(t, func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.Header.Get("Authorization"))
			http.Redirect(w, r, thief.URL+"/api/v1/backup", http.StatusTemporaryRedirect)
		}),
	}
	rotate("first\n")
	j, _ := night(t, c, dir, "--token-file", token)
	if err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("the redirect ends with %v", err)
	}
	// The file is read once a minute: kubelet renews a token long before it ends.
	if !slices.Equal(seen, []string{"Bearer first", "Bearer first"}) {
		t.Errorf("tokens were %q", seen)
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}

	rotate("")
	if err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty token: %v", err)
	}
}

func TestADispatcherThatFallsSilentIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	over := make(chan struct{})
	c := cluster{"d-0": dispatcher(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(over)
	})}
	j, _ := night(t, c, dir, "--patience", "50ms")
	if err := j.run(t.Context()); err == nil || err.Error() != "d-0: sends nothing more for 50ms" {
		t.Errorf("the error is %v", err)
	}
	<-over
	want(t, dir)
}

func TestAJobThatIsToldToStopLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	var asked atomic.Int32
	slow := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		stop()
		<-r.Context().Done()
	}
	j, _ := night(t, cluster{"d-0": dispatcher(t, slow), "d-1": dispatcher(t, slow)}, dir)
	if err := j.run(ctx); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("the error is %v", err)
	}
	if asked.Load() != 1 {
		t.Errorf("%d dispatchers were asked after the stop", asked.Load()-1)
	}
	want(t, dir)
}

func TestDNSThatLeadsAstrayIsRefused(t *testing.T) {
	s := dispatcher(t, good(t))
	for name, part := range map[string]string{"..": "is no name of a pod", "a_b": "is no name of a pod", "": "is no name of a pod"} {
		j, _ := night(t, cluster{name: s}, t.TempDir())
		if err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("pod %q: %v", name, err)
		}
	}
	j, _ := night(t, cluster{}, t.TempDir(), "--expect", "1")
	if err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestTheCommandBacksUpAnAPIAndSaysWhatIsWrongWithItsFlags(t *testing.T) {
	dir := t.TempDir()
	s := dispatcher(t, good(t))
	t.Setenv("PENSTOCK_API", s.URL)
	t.Setenv("PENSTOCK_BACKUP_TO", dir)
	var out, errOut bytes.Buffer
	if code := Main(t.Context(), nil, &out, &errOut); code != exitDone || errOut.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	got := files(t, dir)
	if len(got) != 1 || !strings.HasPrefix(got[0], "127.0.0.1-") {
		t.Fatalf("the folder has %q", got)
	}
	f, err := os.Open(filepath.Join(dir, got[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if m, err := backup.Verify(f); err != nil || len(m.Brokers) != 2 {
		t.Errorf("%v, %v", m, err)
	}

	for _, wrong := range [][]string{
		{"extra"}, {"--no-such-flag"}, {"--keep=-1"}, {"--expect=0"}, {"--rate=1"}, {"--rate=fast"}, {"--patience=0s"},
		{"--to=" + filepath.Join(dir, "missing")},
	} {
		errOut.Reset()
		if code := Main(t.Context(), wrong, io.Discard, &errOut); code != exitUsage || !strings.HasPrefix(errOut.String(), "Error: ") {
			t.Errorf("%q: exit code %d: %s", wrong, code, errOut.String())
		}
	}
	t.Setenv("PENSTOCK_API", "")
	if code := Main(t.Context(), []string{"--service=a/b"}, io.Discard, &errOut); code != exitUsage {
		t.Errorf("a service that is none: exit code %d", code)
	}
	t.Setenv("PENSTOCK_BACKUP_KEEP", "many")
	if code := Main(t.Context(), nil, io.Discard, &errOut); code != exitUsage {
		t.Errorf("an environment that makes no sense: exit code %d", code)
	}
	t.Setenv("PENSTOCK_BACKUP_KEEP", "1")
	out.Reset()
	if code := Main(t.Context(), []string{"--help"}, &out, &errOut); code != exitDone || !strings.Contains(out.String(), "--token-file") {
		t.Errorf("help: exit code %d\n%s", code, out.String())
	}
}
