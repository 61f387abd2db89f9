package memfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/test/memfs"
)

const dir = "/data"

// volume is an FS with a directory that checks as it goes.
type volume struct {
	*memfs.FS
	t *testing.T
}

func mount(t *testing.T, o memfs.Options) volume {
	v := volume{memfs.New(o), t}
	v.must(v.MkdirAll(dir))
	return v
}

func (v volume) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v volume) create(name string) disk.File {
	v.t.Helper()
	f, err := v.Create(dir + "/" + name)
	v.must(err)
	return f
}

func (v volume) write(f disk.File, off int64, b []byte) {
	v.t.Helper()
	_, err := f.WriteAt(b, off)
	v.must(err)
}

// outcomes are the contents that 500 crashes leave of a file, "" with a
// minus sign where there is none.
func (v volume) outcomes(name string) map[string]int {
	v.t.Helper()
	all := make(map[string]int)
	for seed := range uint64(500) {
		after := v.Crash(rand.New(rand.NewPCG(seed, 1)))
		if slices.Contains(after.Files(), dir+"/"+name) {
			all[string(after.Bytes(dir+"/"+name))]++
		} else {
			all["-"]++
		}
	}
	return all
}

// sectors is so many blocks of 512 equal bytes.
func sectors(letters string) []byte {
	var b []byte
	for _, c := range []byte(letters) {
		b = append(b, bytes.Repeat([]byte{c}, 512)...)
	}
	return b
}

// short names outcomes by the first byte of each sector.
func short(outcomes map[string]int) map[string]int {
	all := make(map[string]int)
	for content, n := range outcomes {
		var name []byte
		for i := 0; i < len(content); i += 512 {
			if part := content[i:min(len(content), i+512)]; len(bytes.Trim([]byte(part), part[:1])) > 0 {
				name = append(name, '!') // a mixture
			} else if part[0] == 0 {
				name = append(name, '0')
			} else {
				name = append(name, part[0])
			}
		}
		all[string(name)] += n
	}
	return all
}

func TestSyncedBytesSurviveAndUnsyncedSectorsAreOldOrNew(t *testing.T) {
	v := mount(t, memfs.Options{})
	f := v.create("a")
	v.write(f, 0, sectors("aaa"))
	v.must(f.Datasync())
	v.must(v.SyncDir(dir))
	if got := short(v.outcomes("a")); len(got) != 1 || got["aaa"] != 500 {
		t.Fatalf("after the sync: %v", got)
	}
	v.write(f, 0, sectors("bbb"))
	got := short(v.outcomes("a"))
	for _, want := range []string{"aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"} {
		if got[want] == 0 {
			t.Errorf("%s never comes out", want)
		}
		delete(got, want)
	}
	if len(got) > 0 {
		t.Errorf("these come out too: %v", got)
	}
}

func TestSectorTakesAnyStateItHadAndNoOther(t *testing.T) {
	v := mount(t, memfs.Options{})
	f := v.create("a")
	v.must(v.SyncDir(dir))
	v.write(f, 0, sectors("a"))
	v.must(f.Sync())
	v.write(f, 0, sectors("b"))
	v.write(f, 0, sectors("c"))
	got := short(v.outcomes("a"))
	if len(got) != 3 || got["a"] == 0 || got["b"] == 0 || got["c"] == 0 {
		t.Errorf("got %v, want a, b and c", got)
	}
	// A write of a part keeps what stands beside it in its sector.
	v.must(f.Sync())
	v.write(f, 256, []byte("!"))
	for content := range v.outcomes("a") {
		if content[0] != 'c' || content[511] != 'c' || content[256] != 'c' && content[256] != '!' {
			t.Errorf("the neighbours of a write are %q", content)
		}
	}
}

func TestLengthIsThereOnlyWhenItWasSyncedAndNewSpaceIsZeros(t *testing.T) {
	v := mount(t, memfs.Options{})
	f := v.create("a")
	v.must(v.SyncDir(dir))
	v.must(f.Allocate(1024))
	v.write(f, 0, sectors("a"))
	if got := short(v.outcomes("a")); len(got) != 3 || got[""] == 0 || got["00"] == 0 || got["a0"] == 0 {
		t.Errorf("got %v, want nothing, 00 and a0", got)
	}
	v.must(f.Datasync())
	v.must(f.Truncate(512))
	if got := short(v.outcomes("a")); len(got) != 2 || got["a0"] == 0 || got["a"] == 0 {
		t.Errorf("cut: %v, want a0 and a", got)
	}
	v.must(f.Truncate(0))
	v.must(f.Truncate(1024)) // what was cut off does not come back
	v.must(f.Datasync())
	if got := short(v.outcomes("a")); len(got) != 1 || got["00"] == 0 {
		t.Errorf("cut and made longer: %v, want 00", got)
	}
}

func TestNamesAreThereOnlyWhenTheDirectoryWasSynced(t *testing.T) {
	v := mount(t, memfs.Options{})
	f := v.create("new")
	v.write(f, 0, []byte("content"))
	v.must(f.Sync())
	if got := v.outcomes("new"); got["-"] == 0 || got["content"] == 0 {
		t.Errorf("an unsynced name: %v", got)
	}
	v.must(v.SyncDir(dir))
	if got := v.outcomes("new"); got["content"] != 500 {
		t.Errorf("a synced name: %v", got)
	}
	old := v.create("old")
	v.write(old, 0, []byte("old"))
	v.must(old.Sync())
	v.must(v.SyncDir(dir))
	v.must(v.Rename(dir+"/new", dir+"/old"))
	if got := v.outcomes("old"); len(got) != 2 || got["old"] == 0 || got["content"] == 0 {
		t.Errorf("an unsynced rename: %v, want the old or the new", got)
	}
	v.must(v.SyncDir(dir))
	v.must(v.Remove(dir + "/old"))
	if got := v.outcomes("old"); len(got) != 2 || got["-"] == 0 || got["content"] == 0 {
		t.Errorf("an unsynced removal: %v, want it there or not", got)
	}
}

func TestEndOfAProcessKeepsWhatAPowerCutMayStillTake(t *testing.T) {
	v := mount(t, memfs.Options{})
	f := v.create("a")
	v.write(f, 0, sectors("a"))
	after := volume{v.Snapshot(), t}
	v.write(f, 0, sectors("b"))
	if got := after.Bytes(dir + "/a"); !bytes.Equal(got, sectors("a")) {
		t.Errorf("the next process sees %q", got[:1])
	}
	if got := after.outcomes("a"); got["-"] == 0 || got[string(sectors("a"))] == 0 {
		t.Errorf("a power cut afterwards leaves %v", short(got))
	}
	g, err := after.Open(dir + "/a")
	after.must(err)
	after.must(g.Sync())
	after.must(after.SyncDir(dir))
	if got := short(after.outcomes("a")); got["a"] != 500 {
		t.Errorf("after a sync: %v", got)
	}
}

func TestFailedSyncForgetsWhatItHasNotWritten(t *testing.T) {
	failing := false
	v := mount(t, memfs.Options{Fail: func(op memfs.Op) error {
		if failing && op.Kind.Syncs() {
			return syscall.EIO
		}
		return nil
	}})
	f := v.create("a")
	v.must(v.SyncDir(dir))
	v.write(f, 0, sectors("aaaaaaaaaaaaaaaa"))
	v.must(f.Sync())
	v.write(f, 0, sectors("bbbbbbbbbbbbbbbb"))
	failing = true
	if err := f.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	failing = false
	v.must(f.Datasync()) // succeeds, and writes nothing
	if got := v.Bytes(dir + "/a"); !bytes.Equal(got, sectors("bbbbbbbbbbbbbbbb")) {
		t.Error("reads do not see what was written")
	}
	got := short(v.outcomes("a"))
	if len(got) != 1 || got["aaaaaaaaaaaaaaaa"] > 0 || got["bbbbbbbbbbbbbbbb"] > 0 {
		t.Errorf("a power cut leaves %v, want one mixture", got)
	}
	v.must(f.Uncache())
	if again := short(map[string]int{string(v.Bytes(dir + "/a")): 500}); len(again) != 1 || len(got) != 1 || !same(again, got) {
		t.Errorf("from the medium %v is read, a power cut leaves %v", again, got)
	}
	v.write(f, 0, sectors("cccccccccccccccc"))
	v.must(f.Datasync())
	if got := short(v.outcomes("a")); got["cccccccccccccccc"] != 500 {
		t.Errorf("what is written again: %v", got)
	}
}

func same(a, b map[string]int) bool {
	for k := range a {
		if b[k] == 0 {
			return false
		}
	}
	return len(a) == len(b)
}

func TestFullVolumeTakesWhatWasReserved(t *testing.T) {
	v := mount(t, memfs.Options{Size: 16 << 10})
	a, b := v.create("a"), v.create("b")
	v.must(a.Allocate(12 << 10))
	if total, free, err := v.Space(dir); total != 16<<10 || free != 4<<10 || err != nil {
		t.Errorf("%d of %d free, error %v", free, total, err)
	}
	if n, err := b.WriteAt(make([]byte, 8<<10), 0); !errors.Is(err, syscall.ENOSPC) || n > 4<<10 {
		t.Errorf("write of 8 KiB: %d bytes, error %v", n, err)
	}
	v.write(a, 0, make([]byte, 12<<10))
	v.must(v.Remove(dir + "/a"))
	if err := b.Allocate(8 << 10); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a removed file that is open takes no space: %v", err)
	}
	v.must(a.Close())
	v.must(b.Allocate(8 << 10))
	v.must(b.Truncate(0))
	if _, free, _ := v.Space(dir); free != 16<<10 {
		t.Errorf("%d bytes are free in the end", free)
	}
}

func TestMachineThatIsOffChangesNothing(t *testing.T) {
	v := mount(t, memfs.Options{})
	f := v.create("a")
	v.write(f, 0, []byte("before"))
	v.must(f.Sync())
	v.must(v.SyncDir(dir))
	v.CrashAt(v.Ops() + 2)
	v.must(v.Rename(dir+"/a", dir+"/b"))
	_, write := f.WriteAt([]byte("after!"), 0)
	_, open := v.Open(dir + "/b")
	for what, err := range map[string]error{"write": write, "open": open, "remove": v.Remove(dir + "/b"), "sync": v.SyncDir(dir)} {
		if !errors.Is(err, memfs.ErrDead) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := v.outcomes("b"); got["-"] == 0 || got["before"] == 0 || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestHooksSeeEachOperationAndDelayIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []memfs.Op
		v := mount(t, memfs.Options{
			Fail: func(op memfs.Op) error {
				if op.Kind == memfs.Write && op.N == 4 {
					return io.ErrShortWrite
				}
				return nil
			},
			Delay: func(op memfs.Op) time.Duration { seen = append(seen, op); return time.Second },
		})
		start := time.Now()
		f := v.create("a")
		v.write(f, 0, []byte("1234"))
		n, err := f.WriteAt([]byte("abcd"), 4)
		if n != 2 || !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("short write: %d bytes, error %v", n, err)
		}
		if got := v.Bytes(dir + "/a"); string(got) != "1234ab" {
			t.Errorf("the file is %q", got)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("three operations took %v", took)
		}
		want := memfs.Op{N: 4, Kind: memfs.Write, Name: dir + "/a", Bytes: 4}
		if len(seen) != 4 || seen[3] != want || v.Ops() != 4 {
			t.Errorf("saw %v", seen)
		}
	})
}

func TestLyingMediumLosesWhatWasSynced(t *testing.T) {
	v := mount(t, memfs.Options{NoSync: true})
	f := v.create("a")
	v.write(f, 0, []byte("x"))
	v.must(f.Sync())
	v.must(v.SyncDir(dir))
	if got := v.outcomes("a"); got["-"] == 0 {
		t.Errorf("got %v", got)
	}
}

func TestSecondOwnerOfALockIsTold(t *testing.T) {
	v := mount(t, memfs.Options{})
	lock, err := v.Lock(dir + "/LOCK")
	v.must(err)
	var locked *disk.LockedError
	if _, err := v.Lock(dir + "/LOCK"); !errors.As(err, &locked) {
		t.Errorf("second: %v", err)
	}
	again, err := v.Snapshot().Lock(dir + "/LOCK")
	v.must(err)
	v.must(again.Close())
	v.must(lock.Close())
	_, err = v.Lock(dir + "/LOCK")
	v.must(err)
}

func TestDamageIsSeenAtOnceAndAfterACrash(t *testing.T) {
	v := mount(t, memfs.Options{})
	f := v.create("a")
	v.write(f, 0, []byte("abcd"))
	v.must(f.Sync())
	v.must(v.SyncDir(dir))
	name := dir + "/a"
	v.Flip(name, 0)
	v.Zero(name, 1, 1)
	if got := v.outcomes("a"); string(v.Bytes(name)) != "`\x00cd" || got["`\x00cd"] != 500 {
		t.Errorf("%q, after a crash %v", v.Bytes(name), got)
	}
	v.Truncate(name, 2)
	v.Replace(dir+"/b", []byte("new"))
	if got := v.outcomes("a"); got["`\x00"] != 500 {
		t.Errorf("cut: %v", got)
	}
	v.Delete(name)
	if got := v.outcomes("a"); got["-"] != 500 {
		t.Errorf("deleted: %v", got)
	}
	if _, err := v.Open(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if got := v.outcomes("b"); got["new"] != 500 {
		t.Errorf("replaced: %v", got)
	}
}
