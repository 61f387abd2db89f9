package requestreply_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/requestreply"
)

const secret = "request-reply-keys"

// mount is a folder as kubelet mounts Secrets.
type mount struct {
	t       *testing.T
	dir     string // that of all Secrets
	version int
}

// put replaces all files of the Secret at once.
func (m *mount) put(files map[string]string) {
	m.t.Helper()
	m.version++
	dir := filepath.Join(m.dir, secret)
	version := fmt.Sprintf("..version_%d", m.version)
	must(m.t, os.MkdirAll(filepath.Join(dir, version), 0o755))
	for name, content := range files {
		must(m.t, os.WriteFile(filepath.Join(dir, version, name), []byte(content), 0o600))
		_ = os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)) // may be there
	}
	must(m.t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(m.t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	must(m.t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..version_%d", m.version-1))))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func key(c byte) string { return strings.Repeat(string(c), 32) }

// running tells a story with a store that runs, in virtual time.
func running(t *testing.T, story func(t *testing.T, m *mount, s *requestreply.Store, log *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := &mount{t: t, dir: t.TempDir()}
		m.put(map[string]string{"default.rr.key-0": key('a')})
		s := requestreply.Open(requestreply.Options{Dir: m.dir, Every: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		story(t, m, s, &log)
		cancel()
		must(t, <-ended)
	})
}

func look() {
	time.Sleep(1100 * time.Millisecond)
	synctest.Wait()
}

func TestKeysOfAMountedSecretChangeLive(t *testing.T) {
	running(t, func(t *testing.T, m *mount, s *requestreply.Store, log *bytes.Buffer) {
		want := func(namespace, name string, n int) {
			t.Helper()
			if got := len(s.Ciphers(secret, namespace, name)); got != n {
				t.Errorf("%d keys of %s/%s, want %d", got, namespace, name, n)
			}
		}
		want("default", "rr", 1)
		want("other", "rr", 0)
		m.put(map[string]string{"default.rr.key-0": key('a'), "default.rr.key-1": key('b'), "shop.with.dots.key-0": key('c')[:16]})
		look()
		want("default", "rr", 2)
		want("shop", "with.dots", 1)
		want("shop", "with", 0) // not its keys, though the names begin alike
		m.put(map[string]string{"default.rr.key-1": key('b')})
		look()
		want("default", "rr", 1)
		want("shop", "with.dots", 0)
		must(t, os.RemoveAll(filepath.Join(m.dir, secret)))
		look()
		want("default", "rr", 0)
		if log.Len() > 0 {
			t.Errorf("log: %s", log)
		}
	})
}

func TestWhatIsNoKeyIsLeftOutAndSaidOnce(t *testing.T) {
	running(t, func(t *testing.T, m *mount, s *requestreply.Store, log *bytes.Buffer) {
		m.put(map[string]string{
			"default.rr.key-0": key('a'), "default.rr.key-1": "too short", "default.rr.key-2": key('x') + "y",
			"nothing": key('n'), "default.rr": key('n'), "default..key": key('n'), ".rr.key": key('n'), "default.rr.": key('n'),
		})
		must(t, os.Mkdir(filepath.Join(m.dir, secret, "..data", "default.folder.key-0"), 0o755))
		for range 5 {
			look()
		}
		if n := len(s.Ciphers(secret, "default", "rr")); n != 1 {
			t.Errorf("%d keys, want the good one", n)
		}
		if n := strings.Count(log.String(), "\n"); n != 8 || strings.Contains(log.String(), "too short") || strings.Contains(log.String(), "xxxx") {
			t.Errorf("%d lines of log, want one for each of 8 files and no key:\n%s", n, log)
		}
	})
}

// A file that cannot be read now says nothing of the keys.
func TestWhatCannotBeReadLeavesTheKeysAsTheyWere(t *testing.T) {
	running(t, func(t *testing.T, m *mount, s *requestreply.Store, log *bytes.Buffer) {
		dir := filepath.Join(m.dir, secret)
		must(t, os.Remove(filepath.Join(dir, "..data")))
		must(t, os.Symlink("..nowhere", filepath.Join(dir, "..data")))
		for range 3 {
			look()
		}
		if n := len(s.Ciphers(secret, "default", "rr")); n != 1 || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%d keys, want the one there was, and one line of log:\n%s", n, log)
		}
	})
}

func TestKeysMayLieInAPlainFolderToo(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "mine"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "mine", "ns.rr.k"), []byte(key('k')), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "a file"), nil, 0o600))
	s := requestreply.Open(requestreply.Options{Dir: dir})
	if len(s.Ciphers("mine", "ns", "rr")) != 1 || len(s.Ciphers(secret, "ns", "rr")) != 0 {
		t.Error("want the key of the one Secret")
	}
}

func TestAFolderThatIsNotThereHasNoKeys(t *testing.T) {
	var log bytes.Buffer
	s := requestreply.Open(requestreply.Options{Dir: filepath.Join(t.TempDir(), "none"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if s.Ciphers(secret, "ns", "rr") != nil || log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
}

func TestOfManyKeysTheLastAreTried(t *testing.T) {
	running(t, func(t *testing.T, m *mount, s *requestreply.Store, log *bytes.Buffer) {
		files := make(map[string]string)
		for i := range requestreply.MaxKeys + 5 {
			files[fmt.Sprintf("default.rr.key-%02d", i)] = key(byte('a' + i))
		}
		m.put(files)
		look()
		if n := len(s.Ciphers(secret, "default", "rr")); n != requestreply.MaxKeys || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%d keys, want %d, and one line of log:\n%s", n, requestreply.MaxKeys, log)
		}
	})
}
