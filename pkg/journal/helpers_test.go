package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// desk is one journal under test, and what is written into it.
type desk struct {
	*Journal
	t    testing.TB
	stop func()
	log  *bytes.Buffer
	shop *Broker
	mail *Trigger
	bill *Trigger
}

// start opens a journal over a store and runs it. It is inside a bubble.
func start(t testing.TB, s store, o Options) *desk {
	t.Helper()
	d := &desk{t: t, log: &bytes.Buffer{}}
	o.Logger = slog.New(slog.NewTextHandler(d.log, nil))
	_, inMemory := s.(*memory)
	j, err := open(s, o.withDefaults(inMemory))
	if err != nil {
		t.Fatal(err)
	}
	d.Journal = j
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := j.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	d.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(d.stop)
	d.handles(j)
	return d
}

func (d *desk) handles(j *Journal) {
	d.shop = j.Broker("uid-shop", "shop/default")
	d.mail = d.shop.Trigger("uid-mail", "shop/mail")
	d.bill = d.shop.Trigger("uid-bill", "shop/bill")
}

// settle lets the writer write what it has.
func (d *desk) settle() {
	time.Sleep(flushAfter)
	synctest.Wait()
}

// everywhere runs a test over a journal in memory and one on disk.
func everywhere(t *testing.T, test func(t *testing.T, s store)) {
	t.Run("disk", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) { test(t, directory(dir)) })
	})
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newMemory()) })
	})
}

func order(t testing.TB, id string, more ...string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set(event.AttrID, id).Set(event.AttrSource, "/shop/orders").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "order.placed")
	for i := 0; i+1 < len(more); i += 2 {
		b.Set(more[i], more[i+1])
	}
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// accept records an event for both triggers.
func (d *desk) accept(p channel.Position, e event.Event) channel.ID {
	d.shop.Matched(0, &channel.Record{Position: p, Time: time.Now(), Event: e}, []*Trigger{d.mail, d.bill})
	return channel.ID{Position: p}
}

// fill records n events with an attempt each, in as many writes as they need.
func (d *desk) fill(from channel.Position, n int) {
	for i := range n {
		id := d.accept(from+channel.Position(i), order(d.t, fmt.Sprintf("order-%d", int(from)+i)))
		d.mail.Attempt(id, Attempt{Number: 1, Start: time.Now(), Duration: time.Millisecond, Status: 200, Final: Delivered})
		if i%100 == 99 {
			d.settle()
		}
	}
	d.settle()
}

func (d *desk) story(id channel.ID) Story {
	d.t.Helper()
	s, err := d.Story(context.Background(), "uid-shop", id)
	if err != nil {
		d.t.Fatalf("story of %s: %v", id, err)
	}
	return s
}

func (d *desk) find(q Query) Page {
	d.t.Helper()
	p, err := d.Find(context.Background(), q)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// all follows the cursor to the end.
func (d *desk) all(q Query) (events []Entry) {
	d.t.Helper()
	for range 10_000 {
		p := d.find(q)
		events = append(events, p.Events...)
		if q.Cursor = p.Next; p.Next == "" {
			return events
		}
	}
	d.t.Fatal("no end")
	return nil
}

func (d *desk) segments() int {
	d.tail.RLock()
	defer d.tail.RUnlock()
	return len(d.sealed)
}

// used is what the files really take.
func used(t testing.TB, s store) (sum int64) {
	t.Helper()
	names, err := s.list()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := s.open(name, false)
		if err != nil {
			t.Fatal(err)
		}
		n, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		sum += n
	}
	return sum
}

// copyOf is the directory as a kill would leave it at this moment.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // renamed or removed meanwhile
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// faulty is a store whose disk fails, hangs and counts when told to.
type faulty struct {
	store
	fault atomic.Pointer[error] // of creating and writing
	short atomic.Bool           // half of the bytes are written before it
	hang  atomic.Pointer[chan struct{}]
	pages atomic.Int64 // reads of indexes
	reads atomic.Int64 // of segments
}

func (f *faulty) breaks(err error) { f.fault.Store(&err) }
func (f *faulty) mends()           { f.fault.Store(nil) }

func (f *faulty) create(name string) (file, error) {
	if err := f.fault.Load(); err != nil && !f.short.Load() {
		return nil, *err
	}
	inner, err := f.store.create(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{inner, f, strings.HasSuffix(name, indexSuffix)}, nil
}

func (f *faulty) open(name string, write bool) (file, error) {
	inner, err := f.store.open(name, write)
	if err != nil {
		return nil, err
	}
	return &faultyFile{inner, f, strings.HasSuffix(name, indexSuffix)}, nil
}

type faultyFile struct {
	file
	f     *faulty
	index bool
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if c := f.f.hang.Load(); c != nil {
		<-*c
	}
	if err := f.f.fault.Load(); err != nil {
		n := 0
		if f.f.short.Load() {
			n, _ = f.file.WriteAt(p[:len(p)/2], off)
		}
		return n, *err
	}
	return f.file.WriteAt(p, off)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if f.index {
		f.f.pages.Add(1)
	} else {
		f.f.reads.Add(1)
	}
	return f.file.ReadAt(p, off)
}
