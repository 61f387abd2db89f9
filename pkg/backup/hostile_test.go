package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
)

// refused restores an archive that must not be, and looks at what is left.
func refused(t *testing.T, archive []byte) error {
	t.Helper()
	parent := t.TempDir()
	_, err := Restore(t.Context(), bytes.NewReader(archive), filepath.Join(parent, "data"), quiet)
	if err == nil {
		t.Error("it was restored")
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("it left %s behind", left[0].Name())
	}
	return err
}

func TestArchivesWithEntriesThatHaveNoPlaceAreRefused(t *testing.T) {
	for name, edit := range map[string]func(m *Manifest){
		"a path out of the folder": func(m *Manifest) { m.Contents[3].Name = "config/../../evil" },
		"an absolute path":         func(m *Manifest) { m.Contents[3].Name = "/etc/evil" },
		"a name of another system": func(m *Manifest) { m.Contents[3].Name = `config\00001-evil` },
		"a hidden name":            func(m *Manifest) { m.Contents[3].Name = "config/00001-.evil" },
		"a control character":      func(m *Manifest) { m.Contents[3].Name = "config/00001-a\nb" },
		"a file of its own":        func(m *Manifest) { m.Contents[3].Name = "log/LOCK" },
		"the same entry twice":     func(m *Manifest) { m.Contents = append(m.Contents, m.Contents[3]) },
		"two identities":           func(m *Manifest) { m.Contents = append(m.Contents, m.Contents[2]) },
		"no identities":            func(m *Manifest) { m.Contents = append(m.Contents[:2], m.Contents[3]) },
		"no checkpoint":            func(m *Manifest) { m.Contents = m.Contents[1:] },
		"no segment":               func(m *Manifest) { m.Contents = append(m.Contents[:1], m.Contents[2:]...) },
		"nothing":                  func(m *Manifest) { m.Contents = nil },
		"a negative size":          func(m *Manifest) { m.Contents[3].Size = -1 },
		"an absurd size":           func(m *Manifest) { m.Contents[1].Size = 1 << 60 },
		"too much configuration":   func(m *Manifest) { m.Contents[3].Size = file.MaxFileBytes + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			archive := forged(t, manifestOnly(edit))
			if err := refused(t, archive); err == nil || !strings.Contains(err.Error(), "manifest: ") {
				t.Errorf("restore: %v", err)
			}
		})
	}
}

// manifestOnly is an edit that leaves the contents as they are.
func manifestOnly(edit func(*Manifest)) func(*Manifest, map[string][]byte) {
	return func(m *Manifest, contents map[string][]byte) {
		before := m.Contents
		m.Contents = append([]Entry(nil), m.Contents...)
		edit(m)
		for i, e := range m.Contents {
			if _, ok := contents[e.Name]; !ok {
				contents[e.Name] = contents[before[i].Name]
			}
		}
	}
}

func TestATarThatIsNoArchiveIsRefused(t *testing.T) {
	archive := small(t)
	swap := func(h tar.Header) []byte { // another header in place of the second
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		at := 0
		for at%block != 0 || at == 0 { // the manifest has the name too
			at += 1 + bytes.Index(archive[at+1:], []byte("log/0000"))
		}
		return append(append(bytes.Clone(archive[:at]), b.Bytes()...), archive[at+block:]...)
	}
	for name, data := range map[string][]byte{
		"nothing":     nil,
		"text":        []byte(strings.Repeat("hello ", 1000)),
		"zeros":       make([]byte, 10_000),
		"a link":      swap(tar.Header{Typeflag: tar.TypeSymlink, Name: "log/0000000000000002.ckpt", Linkname: "/etc/passwd", Mode: 0o777}),
		"a hard link": swap(tar.Header{Typeflag: tar.TypeLink, Name: "log/0000000000000002.ckpt", Linkname: "/etc/passwd"}),
		"a device":    swap(tar.Header{Typeflag: tar.TypeChar, Name: "log/0000000000000002.ckpt"}),
		"a folder":    swap(tar.Header{Typeflag: tar.TypeDir, Name: "log/"}),
		"an endless manifest": func() []byte {
			var b bytes.Buffer
			if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Size: 1 << 40}); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}(),
	} {
		t.Run(name, func(t *testing.T) { _ = refused(t, data) })
	}
}

// Sums that are right prove nothing about the log: it has to open, and to be
// the one that the manifest tells of.
func TestAnArchiveWhoseLogIsNotTheManifestsIsRefused(t *testing.T) {
	for name, edit := range map[string]func(m *Manifest, contents map[string][]byte){
		"an event less":    func(m *Manifest, _ map[string][]byte) { m.Brokers[0].Next[0]++ },
		"a letter less":    func(m *Manifest, _ map[string][]byte) { m.Brokers[0].Dead += 2 },
		"another broker":   func(m *Manifest, _ map[string][]byte) { m.Brokers = m.Brokers[:1] },
		"a cut segment":    func(m *Manifest, c map[string][]byte) { shorten(m, c, 1) },
		"a cut checkpoint": func(m *Manifest, c map[string][]byte) { shorten(m, c, 0) },
		"damaged identities": func(m *Manifest, c map[string][]byte) {
			c[file.IdentityFile][100] ^= 1
		},
		"a newer log": func(m *Manifest, c map[string][]byte) { c[m.Contents[1].Name][8] = 200 },
	} {
		t.Run(name, func(t *testing.T) { _ = refused(t, forged(t, edit)) })
	}
}

func shorten(m *Manifest, contents map[string][]byte, i int) {
	e := &m.Contents[i]
	e.Size -= 8
	contents[e.Name] = contents[e.Name][:e.Size]
}

func TestIdentitiesThatDoNotKnowABrokerAreRefused(t *testing.T) {
	other := openStore(t)
	ids, err := file.ReadIdentities(other.dir)
	if err != nil {
		t.Fatal(err)
	}
	archive := forged(t, func(m *Manifest, contents map[string][]byte) {
		contents[file.IdentityFile] = ids
		m.Contents[2].Size = int64(len(ids))
	})
	for _, err := range []error{refused(t, archive), func() error { _, err := Verify(bytes.NewReader(archive)); return err }()} {
		if err == nil || !strings.Contains(err.Error(), "does not know broker") {
			t.Errorf("restore: %v", err)
		}
	}
}

func TestABackupWithoutTheRightIdentitiesFailsAtOnce(t *testing.T) {
	s, other := openStore(t), openStore(t)
	for _, dir := range []string{other.dir, t.TempDir()} {
		if _, err := New(t.Context(), s.log, Options{Dir: dir}); err == nil {
			t.Errorf("a backup with the identities of %s was begun", dir)
		}
	}
	if _, err := New(t.Context(), s.log, Options{Dir: s.dir}); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// A Broker whose grace ended between the cut and the reading of identities is
// in the log and known as gone. Restored after a week it would be unknown.
func TestABrokerThatWasRemovedDuringTheCutIsNotRestored(t *testing.T) {
	s := openStore(t)
	s.send("shop/orders", 1, 10)
	now := time.Now()
	load := func() {
		t.Helper()
		_, err := file.New(file.Options{
			Dir: s.dir, Grace: time.Minute, Now: func() time.Time { return now },
			Compile: config.Options{DefaultChannel: config.ChannelDisk, Channels: []string{config.ChannelDisk}},
		}).Load()
		if err != nil {
			t.Fatal(err)
		}
	}
	load() // without shop/orders: its grace begins
	now = now.Add(2 * time.Minute)
	load() // and ends
	done, err := Restore(t.Context(), bytes.NewReader(s.archive()), filepath.Join(t.TempDir(), "d"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Manifest.Brokers) != 2 || len(done.Brokers) != 1 || done.Brokers[0].Name != "default/default" {
		t.Errorf("restored %+v of %+v", done.Brokers, done.Manifest.Brokers)
	}
}

func TestAFolderThatIsNotEmptyIsRefusedAndLeftAlone(t *testing.T) {
	archive := small(t)
	for _, name := range []string{"identities.json", "notes.txt", "log", unfinishedFolder} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), bytes.NewReader(archive), dir, quiet); err == nil {
			t.Errorf("a folder with %s in it was taken", name)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != name {
			t.Errorf("%s: afterwards there is %v, %v", name, left, err)
		}
	}
	volume := t.TempDir()
	if err := os.Mkdir(filepath.Join(volume, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(archive), volume, quiet); err != nil {
		t.Errorf("a new volume: %v", err)
	}
}

// A restore that died in the middle, while it unpacked or while it gave the
// files their names, leaves a folder that nobody uses by mistake.
func TestARestoreThatDiedLeavesNoUsableHalf(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	if _, err := Restore(t.Context(), bytes.NewReader(small(t)), whole, quiet); err != nil {
		t.Fatal(err)
	}
	for _, placed := range [][]string{nil, {"config"}, {"config", "log"}, {"config", "log", "identities.json"}} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, unfinishedFolder), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range placed {
			if err := os.Symlink(filepath.Join(whole, name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := Unfinished(dir); err == nil || !strings.Contains(err.Error(), "was cut short") {
			t.Errorf("with %v in place: %v", placed, err)
		}
		if err := Stopped(t.Context(), Options{Dir: dir}, quiet, func(*Archive) error { return nil }); err == nil {
			t.Errorf("with %v in place it was backed up", placed)
		}
	}
}

func TestAnInterruptedRestoreLeavesNothing(t *testing.T) {
	archive := small(t)
	for _, n := range []int{0, 600, 2000, 5000} {
		ctx, cancel := context.WithCancel(t.Context())
		parent := t.TempDir()
		r := io.MultiReader(bytes.NewReader(archive[:n]), readerFunc(func([]byte) (int, error) {
			cancel()
			return 0, context.Canceled
		}))
		if _, err := Restore(ctx, r, filepath.Join(parent, "d"), quiet); !errors.Is(err, context.Canceled) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("after %d bytes it left %v", n, left)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// FuzzRestore reads whatever it gets, as Restore does before any of it counts.
// No entry may lead out of the folder, and what is read without an error is
// as long as the manifest says.
func FuzzRestore(f *testing.F) {
	archive := small(f)
	f.Add(archive)
	f.Add(archive[:len(archive)/2])
	f.Add(archive[:2*block])
	f.Add(append(bytes.Clone(archive), archive...))
	f.Add(bytes.ReplaceAll(archive, []byte("config/"), []byte("../../x")))
	f.Add([]byte("manifest.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(bytes.NewReader(data), func(_ *Manifest, e Entry, _ io.Reader) error {
			if !filepath.IsLocal(e.Name) || strings.Contains(e.Name, `\`) {
				t.Fatalf("an entry is named %q", e.Name)
			}
			return nil
		})
		if err != nil {
			return
		}
		if n, err := m.Bytes(); err != nil || n != int64(len(data)) {
			t.Fatalf("an archive of %d bytes was taken for one of %d: %v", len(data), n, err)
		}
	})
}
