package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// TestAKillCostsTheLastMoments: the directory as it is at any moment opens,
// with all that was written 40 ms before.
func TestAKillCostsTheLastMoments(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	var upTo []int
	kill := func() string { return copyOf(t, dir) }
	synctest.Test(t, func(t *testing.T) {
		d := start(t, directory(dir), Options{SegmentBytes: leastSegment, MaxBytes: 16 << 20})
		for i := range 1200 {
			id := d.accept(channel.Position(i+1), order(t, fmt.Sprint("order-", i+1)))
			d.mail.Attempt(id, Attempt{Number: 1, Start: time.Now(), Status: 200, Final: Delivered})
			time.Sleep(time.Millisecond)
			if i%197 == 0 {
				synctest.Wait()
				copies = append(copies, kill())
				upTo = append(upTo, i-40)
			}
		}
	})
	for i, dir := range copies {
		synctest.Test(t, func(t *testing.T) {
			d := start(t, directory(dir), Options{SegmentBytes: leastSegment, MaxBytes: 16 << 20})
			for n := upTo[i]; n > 0; n -= 1 + (upTo[i]-n)%13 {
				if got := d.story(channel.ID{Position: channel.Position(n)}); got.EventID != fmt.Sprint("order-", n) ||
					got.Triggers[0].Final != Delivered || len(got.Gaps) > 0 {
					t.Fatalf("copy %d: %+v", i, got)
				}
			}
			d.fill(1_000_000, 500)
			d.story(channel.ID{Position: 1_000_499})
		})
	}
}

// TestAKillAtAnyMomentOfTheRealClock copies beside a writer that does not wait.
func TestAKillAtAnyMomentOfTheRealClock(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentBytes: leastSegment, MaxBytes: 2 << 20}
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { j.Run(ctx) })
	wg.Go(func() {
		b := j.Broker("uid-shop", "shop/default")
		for p := channel.Position(1); ctx.Err() == nil; p++ {
			b.Matched(0, &channel.Record{Position: p, Time: time.Now(), Event: order(t, fmt.Sprint("order-", p))}, nil)
		}
	})
	for range 10 {
		for before := j.Stats().Records; j.Stats().Records == before; {
			time.Sleep(time.Millisecond)
		}
		k, err := Open(copyOf(t, dir), o)
		if err != nil {
			t.Fatal(err)
		}
		p, err := k.Find(ctx, Query{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			if e.EventID != fmt.Sprint("order-", e.ID.Position) {
				t.Fatalf("%+v", e)
			}
		}
	}
}

// wreck is a journal of one sealed segment and one that was being filled, as
// files, and what they say.
type wreck struct {
	files   map[string][]byte
	stories map[channel.ID]Story
}

func newWreck(t testing.TB, n int) wreck {
	m := newMemory()
	j, err := open(m, Options{SegmentBytes: leastSegment}.withDefaults(true))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{Journal: j, t: t}
	d.handles(j)
	for i := range 2 * n {
		id := d.accept(channel.Position(i+1), order(t, fmt.Sprint("order-", i+1)))
		d.mail.Attempt(id, Attempt{Number: 1, Start: time.Now(), Status: 500, Error: "status 500"})
		d.mail.Attempt(id, Attempt{Number: 2, Start: time.Now(), Status: 200, Final: Delivered})
		if i%10 == 9 || i == n-1 {
			j.write()
		}
		if i == n-1 {
			j.ageing = true
			j.write()
		}
	}
	j.write()
	w := wreck{files: m.copy(), stories: make(map[channel.ID]Story)}
	for i := range 2 * n {
		id := channel.ID{Position: channel.Position(i + 1)}
		w.stories[id] = d.story(id)
	}
	return w
}

func (m *memory) copy() map[string][]byte {
	files := make(map[string][]byte)
	for name, f := range m.files {
		b := make([]byte, f.size)
		f.ReadAt(b, 0)
		files[name] = b
	}
	return files
}

func storeOf(files map[string][]byte) *memory {
	m := newMemory()
	for name, b := range files {
		f, _ := m.create(name)
		f.WriteAt(b, 0)
	}
	return m
}

// with is the wreck with one file changed; nil removes it.
func (w wreck) with(name string, b []byte) map[string][]byte {
	files := make(map[string][]byte)
	for n, b := range w.files {
		files[n] = b
	}
	if files[name] = b; b == nil {
		delete(files, name)
	}
	return files
}

// read opens files and holds all that they say to the truth. It returns how
// many stories are whole.
func (w wreck) read(t testing.TB, files map[string][]byte) (whole int, d *desk) {
	t.Helper()
	j, err := open(storeOf(files), Options{SegmentBytes: leastSegment}.withDefaults(true))
	if err != nil {
		t.Fatal(err)
	}
	d = &desk{Journal: j, t: t}
	for id, want := range w.stories {
		got, err := j.Story(context.Background(), "uid-shop", id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got.Gaps = nil
		if reflect.DeepEqual(got, want) {
			whole++
			continue
		}
		if !partOf(got, want) {
			t.Fatalf("a wrong story:\n got %+v\nwant %+v", got, want)
		}
	}
	for _, e := range d.all(Query{}) {
		if want := w.stories[e.ID]; e != want.Entry {
			t.Fatalf("a wrong event:\n got %+v\nwant %+v", e, want.Entry)
		}
	}
	return whole, d
}

// partOf reports whether a story says nothing that the whole one does not.
func partOf(got, whole Story) bool {
	if got.Entry != whole.Entry && got.Entry != (Entry{Broker: whole.Broker, BrokerName: whole.BrokerName, ID: whole.ID}) {
		return false
	}
	for _, of := range got.Triggers {
		found := false
		for _, w := range whole.Triggers {
			if w.Trigger != of.Trigger {
				continue
			}
			found = w.Name == of.Name
			for _, a := range of.Attempts {
				known := false
				for _, b := range w.Attempts {
					known = known || reflect.DeepEqual(a, b)
				}
				found = found && known
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func firstAndLast(w wreck) (first, last string) {
	return segmentName(1), segmentName(2)
}

// TestATornEndCostsWhatIsTorn, wherever it is torn.
func TestATornEndCostsWhatIsTorn(t *testing.T) {
	w := newWreck(t, 30)
	_, last := firstAndLast(w)
	b := w.files[last]
	before := -1
	for n := 0; n <= len(b); n += 1 + n%53 {
		whole, d := w.read(t, w.with(last, b[:n]))
		if whole < before {
			t.Fatalf("%d whole stories with %d bytes, %d with fewer", whole, n, before)
		}
		before = whole
		if whole < 30 {
			t.Fatalf("the segment before has lost something: %d whole stories", whole)
		}
		if n >= segmentHeader && len(d.find(Query{}).Gaps) > 0 {
			t.Fatalf("%d bytes: a torn end is no gap: %+v", n, d.find(Query{}).Gaps)
		}
	}
	if whole, _ := w.read(t, w.files); whole != 60 {
		t.Errorf("%d whole stories with all of it", whole)
	}
	// What a power cut leaves: zeros in the place of what was not written.
	zeros := append(bytes.Clone(b[:len(b)/2]), make([]byte, len(b)/2)...)
	if whole, _ := w.read(t, w.with(last, zeros)); whole < 40 || whole > 50 {
		t.Errorf("%d whole stories with zeros at the end", whole)
	}
}

// TestADamagedBlockIsAGapAndNeverAWrongStory.
func TestADamagedBlockIsAGapAndNeverAWrongStory(t *testing.T) {
	w := newWreck(t, 30)
	first, last := firstAndLast(w)
	for _, name := range []string{first, last} {
		b := w.files[name]
		for at := segmentHeader; at < len(b); at += 37 {
			bad := bytes.Clone(b)
			bad[at] ^= 0x41
			whole, d := w.read(t, w.with(name, bad))
			if whole < 30 {
				t.Fatalf("%s, byte %d: %d whole stories", name, at, whole)
			}
			tail := name == last && whole >= 50 // it looks torn
			if whole < 60 && !tail && len(d.find(Query{}).Gaps) == 0 {
				t.Fatalf("%s, byte %d: %d whole stories and no gap", name, at, whole)
			}
			// And it goes on.
			d.handles(d.Journal)
			id := d.accept(1000, order(t, "after"))
			d.bill.Attempt(id, Attempt{Number: 1, Start: time.Now()})
			d.write()
			if got := d.story(id); got.EventID != "after" || len(got.Triggers[1].Attempts) != 1 || got.Triggers[1].Name != "shop/bill" {
				t.Fatalf("%s, byte %d: %+v", name, at, got)
			}
		}
	}
}

// TestAHeaderThatIsDamagedCostsTheFile and leaves a gap.
func TestAHeaderThatIsDamagedCostsTheFile(t *testing.T) {
	w := newWreck(t, 30)
	first, last := firstAndLast(w)
	for _, name := range []string{first, last} {
		for at := range segmentHeader {
			bad := bytes.Clone(w.files[name])
			bad[at] ^= 0x41
			whole, d := w.read(t, w.with(name, bad))
			if gaps := d.find(Query{}).Gaps; whole != 30 || len(gaps) != 1 {
				t.Fatalf("%s, byte %d: %d whole stories, gaps %+v", name, at, whole, gaps)
			}
		}
	}
}

// TestAnIndexCanBeMadeAgain: missing, cut, or with any byte changed.
func TestAnIndexCanBeMadeAgain(t *testing.T) {
	w := newWreck(t, 30)
	name := indexName(1)
	b := w.files[name]
	if b == nil {
		t.Fatal("no index")
	}
	check := func(what string, b []byte) {
		t.Helper()
		whole, d := w.read(t, w.with(name, b))
		if whole != 60 {
			t.Fatalf("%s: %d whole stories", what, whole)
		}
		if n := len(d.find(Query{ID: "order-17"}).Events); n != 1 {
			t.Fatalf("%s: found %d by id", what, n)
		}
		d.reindex()
		if s := d.sealed[0]; s.index == 0 || s.spoiled.Load() {
			t.Fatalf("%s: the index is not made again", what)
		}
		if got := d.store.(*memory).copy()[name]; !bytes.Equal(got, w.files[name]) {
			t.Errorf("%s: the index is another one", what)
		}
	}
	check("missing", nil)
	check("empty", []byte{})
	for n := 0; n < len(b); n += 1 + len(b)/20 {
		check(fmt.Sprint("cut at ", n), b[:n])
	}
	for at := 0; at < len(b); at += 1 + at%119 {
		bad := bytes.Clone(b)
		bad[at] ^= 0x41
		check(fmt.Sprint("byte ", at), bad)
	}
	other := newWreck(t, 30).files[name]
	check("another segment's", other)
}

// TestADirectoryThatGoesAndComesBack: somebody removes it under us.
func TestADirectoryThatGoesAndComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "journal")
	synctest.Test(t, func(t *testing.T) {
		d := start(t, directory(dir), Options{SegmentBytes: leastSegment, MaxBytes: 16 << 20})
		d.fill(1, 1500)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		d.fill(2000, 1500)
		if d.Stats().Dropped == 0 {
			t.Error("nothing is dropped")
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter + time.Second)
		d.fill(4000, 300)
		for p := range channel.Position(300) {
			d.story(channel.ID{Position: 4000 + p})
		}
		d.stop()
	})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil {
		t.Error("a file is taken for a directory")
	}
}
