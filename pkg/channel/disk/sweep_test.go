package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/proof"
)

// store is a file system at rest, what it must hold, and the versions that
// its files have had.
type store struct {
	*life
	shot      shot
	closed    bool // its owner ended in order; otherwise it was killed
	witnessed shot // there is a witness for what was promised then
	older     map[string][][]byte
}

// storeOf plays a life to its end. Of three stores one was closed, one killed
// some time after its last commit, and one at once.
func storeOf(t *testing.T, rng *rand.Rand, n int) store {
	st := store{life: newLife(t, rng, memfs.Options{}), closed: n%3 == 0, older: make(map[string][][]byte)}
	h := st.life
	h.stuck = true
	if err := h.begin(); err != nil {
		t.Fatal(err)
	}
	for i := range stepsOfALife {
		if h.step(); h.broken != nil {
			_ = h.stop()
			t.Fatal(h.broken)
		}
		if i%30 == 0 {
			for _, name := range h.fs.Files() {
				st.older[name] = append(st.older[name], h.fs.Bytes(name))
			}
		}
	}
	switch n % 3 {
	case 0:
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
	case 1:
		time.Sleep(time.Second) // a witness for everything
	default:
		st.witnessed = h.shoot(memfs.Op{})
		h.volley()
	}
	st.shot = h.shoot(memfs.Op{})
	if n%3 < 2 {
		st.shot.sure = st.shot.issued
		st.witnessed = st.shot
	}
	_ = h.stop()
	return st
}

// damage is what was done to one file of a store.
type damage struct {
	what string
	name string
	// erased is where the log's last segment ends early with no witness left
	// behind. -1 where that is not so.
	erased int64
}

// frameMagic is how each frame begins; frames carry witnesses.
var frameMagic = []byte{0xE3, 0xC1, 0xA7, 0xF5}

// harm damages one file at random.
func (st *store) harm(fs *memfs.FS, rng *rand.Rand) damage {
	var logs, files []string
	for _, name := range fs.Files() {
		if strings.HasSuffix(name, ".log") {
			logs = append(logs, name)
		}
		if strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".ckpt") {
			files = append(files, name)
		}
	}
	d := damage{name: files[rng.IntN(len(files))], erased: -1}
	b := fs.Bytes(d.name)
	used := int64(len(bytes.TrimRight(b, "\x00")))
	at := rng.Int64N(used)
	if rng.IntN(4) == 0 {
		at = max(0, used-1-rng.Int64N(min(used, 400))) // the end is where the difficult cases are
	}
	last := d.name == logs[len(logs)-1]
	switch n := rng.IntN(20); {
	case n < 10:
		d.what = fmt.Sprintf("bit %d of byte %d flipped", at%8, at)
		fs.Flip(d.name, at*8+at%8)
	case n < 13:
		size := int64(512)
		if n == 12 {
			size = 4096
		}
		at -= at % size
		d.what = fmt.Sprintf("%d bytes from %d zeroed", size, at)
		fs.Zero(d.name, at, size)
		if last && !bytes.Contains(b[min(at+size, used):], frameMagic) {
			d.erased = at
		}
	case n < 15:
		d.what = fmt.Sprintf("cut at %d", at)
		fs.Truncate(d.name, at)
		if last {
			d.erased = at
		}
	case n < 16:
		d.what = "deleted"
		fs.Delete(d.name)
	case n < 18 && len(st.older[d.name]) > 0:
		old := st.older[d.name][rng.IntN(len(st.older[d.name]))]
		d.what = fmt.Sprintf("replaced by an older version of itself, of %d bytes", len(bytes.TrimRight(old, "\x00")))
		fs.Replace(d.name, old)
		if last {
			d.erased = int64(len(bytes.TrimRight(old, "\x00")))
		}
	default:
		other := files[rng.IntN(len(files))]
		d.what = "exchanged with " + other
		c := fs.Bytes(other)
		fs.Replace(other, b)
		fs.Replace(d.name, c)
	}
	return d
}

// verdict of one damage.
type verdict int

const (
	harmless verdict = iota // nothing is missing
	loud                    // refused, or every missing event lies in a visible gap
	torn                    // bytes of no witness, set aside in a .torn file
	erased                  // the end of the log is gone with its last witness
)

// judge opens a damaged store. An error is silent damage.
func (st *store) judge(fs *memfs.FS, d damage) (verdict, error) {
	o := st.o
	o.FS = fs
	l, err := disk.Open(lifeDir, o)
	if err != nil {
		return loud, nil
	}
	stop := running(l)
	defer stop()
	v, err := st.compare(l, fs, d)
	if v == loud && err == nil { // and still so when the log has looked after itself
		time.Sleep(20 * time.Second)
		v, err = st.compare(l, fs, d)
		v = max(v, loud)
	}
	return v, err
}

// compare holds what can be read against what must be there.
func (st *store) compare(l *disk.Log, fs *memfs.FS, d damage) (verdict, error) {
	handles, err := handlesOf(l)
	if err != nil {
		return loud, nil
	}
	v := harmless
	k, mismatch := st.match(l, handles, st.shot)
	if mismatch != nil {
		// Dead letters that cannot be read say so; other changes may be missing
		// only from the end on.
		var gap *channel.GapError
		early := st.shot
		early.sure = 0 // erased may be anything
		switch {
		case errors.As(mismatch, &gap) || anyGap(handles):
			v, k = loud, st.shot.issued
		case d.erased >= 0 && !st.closed:
			v = erased
			if k, err = st.match(l, handles, early); err != nil {
				return v, fmt.Errorf("not even an earlier state: %w", err)
			}
		case st.torn(fs) != nil:
			v = torn
			early.sure = st.witnessed.sure
			if k, err = st.match(l, handles, early); err != nil {
				return v, fmt.Errorf("not even an earlier state: %w", err)
			}
		default:
			return v, mismatch
		}
	}
	for uid, b := range st.states[k].brokers {
		w, err := st.missing(b, handles[uid], fs, d)
		if err != nil {
			return w, fmt.Errorf("broker %s: %w", uid, err)
		}
		v = max(v, w)
	}
	return v, nil
}

func anyGap(handles map[channel.UID]channel.BrokerLog) bool {
	for _, b := range handles {
		if len(b.Gaps()) > 0 {
			return true
		}
	}
	return false
}

// missing looks for acknowledged events that are not there, and for others.
func (st *store) missing(b *brokerState, log channel.BrokerLog, fs *memfs.FS, d damage) (verdict, error) {
	all, err := readAll(log)
	gaps := gapsIn(err)
	for _, g := range log.Gaps() {
		gaps = append(gaps, channel.GapError{Shard: g.Shard, From: g.From, To: g.To})
	}
	v, known := harmless, 0
	if len(gaps) > 0 {
		v = loud
	}
	for _, p := range st.puts {
		if p.uid != b.info.UID || p.life != b.life {
			continue
		}
		for i, e := range p.events {
			at, ok := all.ids[e.ID()]
			if ok {
				known++
				if !bytes.Equal(all.at[at].Raw(), e.Raw()) || p.ids != nil && at != p.ids[i].ID {
					return v, fmt.Errorf("event %s at %s is altered", e.ID(), at)
				}
				continue
			}
			if p.ids == nil || !b.needs(p.ids[i].ID) {
				continue
			}
			id := p.ids[i].ID
			if slices.ContainsFunc(gaps, func(g channel.GapError) bool {
				return g.Shard == id.Shard && g.From <= id.Position && id.Position < g.To
			}) {
				continue
			}
			w, err := st.excused(p, fs, d)
			if err != nil {
				return v, fmt.Errorf("event %s at %s is missing, and nothing says so: %w", e.ID(), id, err)
			}
			v = max(v, w)
		}
	}
	if known != len(all.at) {
		return v, fmt.Errorf("%d events are there, and only %d of them were sent", len(all.at), known)
	}
	return v, nil
}

// excused tells whether a request that is missing in silence was at the end
// of the log, behind the last witness that is left.
func (st *store) excused(p *put, fs *memfs.FS, d damage) (verdict, error) {
	if st.closed {
		return 0, errors.New("the store was closed, so there is a witness for everything")
	}
	before := st.shot.fs.Bytes(d.name)
	for _, e := range p.events { // they stand and fall together
		at := bytes.Index(before, e.Raw())
		if at < 0 {
			return 0, fmt.Errorf("it was not in %s", d.name)
		}
		if end := int64(at+e.Size()+7) &^ 7; d.erased >= 0 && end > d.erased { // its frame's padding goes with it
			return erased, nil
		}
	}
	if p.number <= st.witnessed.puts {
		return 0, errors.New("there is a witness for it")
	}
	if st.torn(fs) == nil {
		return 0, errors.New("there is no .torn file")
	}
	return torn, nil
}

// torn is what was set aside when the store was opened.
func (st *store) torn(fs *memfs.FS) []byte {
	for _, name := range fs.Files() {
		if strings.HasSuffix(name, ".torn") && !slices.Contains(st.shot.fs.Files(), name) {
			return fs.Bytes(name)
		}
	}
	return nil
}

func gapsIn(err error) (gaps []channel.GapError) {
	var gap *channel.GapError
	if errors.As(err, &gap) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				gaps = append(gaps, gapsIn(e)...)
			}
			return gaps
		}
		return []channel.GapError{*gap}
	}
	return nil
}

// TestNoDamageIsSilent damages one file of a store at rest. The store is then
// refused, or what is missing lies in a gap that reading reports, or nothing
// is missing. The one exception is the end of a log whose owner was killed:
// what no witness vouches for is taken for a write that was cut short, and is
// counted.
func TestNoDamageIsSilent(t *testing.T) {
	const perStore = 50
	seed := proof.Seed(t)
	counts := make(map[verdict]int)
	var st store
	for n := range proof.Rounds(t, 2_000) {
		synctest.Test(t, func(t *testing.T) {
			if n%perStore == 0 {
				st = storeOf(t, proof.Rand(seed, n/perStore), n/perStore)
			}
			fs := st.shot.fs.Snapshot()
			d := st.harm(fs, proof.Rand(seed+1, n))
			v, err := st.judge(fs, d)
			if err != nil {
				t.Errorf("round %d: %s %s (closed %v): silent: %v", n, d.name, d.what, st.closed, err)
			}
			counts[v]++
		})
	}
	t.Logf("silent 0; refused or a gap %d, nothing missing %d, set aside as torn %d, end erased with its last witness %d",
		counts[loud], counts[harmless], counts[torn], counts[erased])
}

// TestNoCrashWhileDamageIsSetAsideLosesAnythingElse flips a bit in a sealed
// segment and lets the log find it, move what is good, declare what is not and
// put the file aside. The power is cut at each operation of that.
func TestNoCrashWhileDamageIsSetAsideLosesAnythingElse(t *testing.T) {
	seed := proof.Seed(t)
	images, quarantined := 0, 0
	for n := range proof.Rounds(t, 30) {
		synctest.Test(t, func(t *testing.T) {
			rng := proof.Rand(seed, n)
			st := storeOf(t, rng, 0)
			fs := st.shot.fs.Snapshot()
			var sealed []string
			for _, name := range fs.Files() {
				if strings.HasSuffix(name, ".log") {
					sealed = append(sealed, name)
				}
			}
			sealed = sealed[:len(sealed)-1]
			if len(sealed) == 0 {
				return
			}
			d := damage{name: sealed[rng.IntN(len(sealed))], erased: -1}
			d.what = "a bit flipped"
			fs.Flip(d.name, rng.Int64N(int64(8*len(fs.Bytes(d.name)))))
			shots := []*memfs.FS{fs.Snapshot()}
			fs.Hook(func(op memfs.Op) error {
				if op.Kind.Changes() {
					shots = append(shots, fs.Snapshot())
				}
				return nil
			}, nil)
			if _, err := st.judge(fs, d); err != nil {
				t.Errorf("round %d: %s: %v", n, d.name, err)
			}
			for _, name := range fs.Files() {
				if strings.HasSuffix(name, ".damaged") {
					quarantined++
				}
			}
			for i, s := range shots {
				if _, err := st.judge(s.Crash(rng), d); err != nil {
					t.Fatalf("round %d: %s, cut at operation %d of %d: silent: %v", n, d.name, i, len(shots), err)
				}
				images++
			}
		})
	}
	t.Logf("%d crash images of stores with a damaged segment, %d segments set aside: silent 0", images, quarantined)
}
