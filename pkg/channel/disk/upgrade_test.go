package disk

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
)

// unpackStore lays a store of testdata out in a new directory.
func unpackStore(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", archive))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Stores that earlier formats wrote: 500 events in sealed segments and the
// active one, two of them pending, one dead, scanned up to 400.
func TestStoresOfEarlierFormatsAreReadAndCarriedOn(t *testing.T) {
	for _, archive := range []string{"format1.tar.gz", "format2.tar.gz"} {
		t.Run(archive, func(t *testing.T) { isCarriedOn(t, archive) })
	}
}

// An older build must refuse what this one has opened for what it is, a newer
// store, and not for damage when it meets a frame of a kind that it does not know.
func TestStoreOfAnEarlierFormatIsOfThisOneOnceItIsOpen(t *testing.T) {
	dir := unpackStore(t, "format2.tar.gz")
	r := start(t, dir, tiny)
	im := read(t, r.dir)
	names := im.names(checkpointSuffix)
	c, body, err := r.readCheckpoint(filepath.Join(dir, names[len(names)-1]))
	if err == nil {
		err = body.close()
	}
	if err != nil || c.version != formatVersion {
		t.Errorf("the newest checkpoint is of version %d, error %v", c.version, err)
	}
	r.stop()
}

func isCarriedOn(t *testing.T, archive string) {
	dir := unpackStore(t, archive)
	for _, what := range []string{"as the old one left it", "as the new one left it"} {
		report, err := Check(t.Context(), dir, CheckOptions{FS: tiny.FS})
		if err != nil || channel.Worst(report.Findings) >= channel.Problem {
			t.Fatalf("%s: check: %+v, error %v", what, report, err)
		}
		r := start(t, dir, tiny)
		b := r.Log.broker("b")
		all, err := contents(b)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for pos := channel.Position(1); pos <= 500; pos++ {
			e, ok := all[channel.ID{Position: pos}]
			if !ok || string(e.Raw()) != string(made(t, fmt.Sprint(pos), 30).Raw()) {
				t.Fatalf("%s: event %d is not what it was", what, pos)
			}
		}
		p := b.Progress(0)
		if p.Scanned != 400 || len(p.Lanes) != 1 || fmt.Sprint(p.Lanes[0].Added.ToArray()) != "[5 300]" || p.Lanes[0].Retries[0].Attempts != 2 {
			t.Errorf("%s: progress is %+v", what, p)
		}
		letters, _, err := b.Dead(t.Context(), "t", "", 10)
		if err != nil || len(letters) != 1 || letters[0].ID.Position != 7 || letters[0].Code != 404 {
			t.Errorf("%s: dead letters %+v, error %v", what, letters, err)
		}
		if routes := b.Routes(); len(routes) != 1 || routes[0].Set[0].Name != "default/t" {
			t.Errorf("%s: routes %+v", what, routes)
		}
		if letter, found, err := b.FindDead(t.Context(), "t", letters[0].ID); err != nil || !found || letter.Number != 1 {
			t.Errorf("%s: dead letter %+v is found %v, error %v", what, letter, found, err)
		}
		r.append("b", 30, "new")
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, dir, tiny)
	if n, err := r.Log.broker("b").DiscardDead(t.Context(), []uint64{1}); n != 1 || err != nil {
		t.Errorf("discard its dead letter: %d, error %v", n, err)
	}
	r.stop()
	r = start(t, dir, tiny)
	if n := r.Log.broker("b").DeadCount(""); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	r.stop()
}
