package simulation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/memhttp"
)

const (
	front   = "penstock" // the broker's host
	dataDir = "/data"
)

// world is everything around the broker, and the broker's present life.
type world struct {
	t       *testing.T
	rng     *rand.Rand // of crash images, under mu; the script is drawn before
	moods   *rand.Rand // of subscribers; a crash beside the script must not share it
	events  *rand.Rand // of what a story sends
	net     *memhttp.Net
	rec     *history.Recorder
	written bytes.Buffer // the history
	start   time.Time
	mutant  mutant
	drain   time.Duration // of a graceful stop

	wall     atomic.Int64 // how far the wall clock has been set off, ns
	slow     atomic.Int64 // what each change of the disk takes, ns
	stall    atomic.Int64 // until when, since the start, no operation of the disk ends, ns
	failSync atomic.Bool  // the next sync fails
	volume   int64        // the size of the disk
	tight    bool         // nothing more fits on it

	mu       sync.Mutex
	objects  []*config.Object
	removed  []config.Removed
	policies map[channel.UID]deliver.Policy
	scales   map[channel.UID]bool
	routed   []func() // the changes of trigger sets that are not in force yet
	fs       *memfs.FS
	life     *process // nil while there is none
	lives    int64
	refusal  error // why the broker does not start any more

	subscribers map[string]*subscriber
	senders     map[string]*history.Sender
	sink        *http.Server   // of dead letters; nil where a story needs none
	busy        sync.WaitGroup // senders and what else must end by itself
	ghosts      sync.WaitGroup // lives that are over and do not know it yet
}

// mutant breaks one promise of the broker.
type mutant struct {
	log    func(channel.Log) channel.Log
	sender func(dispatch.Sender) dispatch.Sender
	noSync bool
}

// inWorld plays a story in virtual time and returns what the checker says of
// it. The error is a broker that refuses what is on its disk.
func inWorld(t *testing.T, seed uint64, m mutant, story func(w *world)) (verdict *history.Verdict, refusal error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, rng: rand.New(rand.NewPCG(seed, 1)), events: rand.New(rand.NewPCG(seed, 2)), moods: rand.New(rand.NewPCG(seed, 3)), net: memhttp.New(), start: time.Now(), mutant: m,
			volume: 4 << 20, drain: 5 * time.Second, subscribers: map[string]*subscriber{}, policies: map[channel.UID]deliver.Policy{}, scales: map[channel.UID]bool{},
			senders: map[string]*history.Sender{},
		}
		w.rec = history.NewRecorder(&w.written, history.Rules{}, nil)
		w.fs = memfs.New(memfs.Options{NoSync: m.noSync})
		story(w)
		w.end()
		if err := w.rec.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if verdict, err = history.Check(bytes.NewReader(w.written.Bytes())); err != nil {
			t.Fatal(err)
		}
		w.keep()
		refusal = w.refusal
	})
	return verdict, refusal
}

// keep leaves the history where somebody wants to have it.
func (w *world) keep() {
	dir := os.Getenv("PENSTOCK_HISTORY")
	if dir == "" {
		return
	}
	name := filepath.Join(dir, strings.ReplaceAll(w.t.Name(), "/", "-")+".jsonl")
	if err := os.WriteFile(name, w.written.Bytes(), 0o600); err != nil {
		w.t.Error(err)
	}
}

// at waits for a moment of the story.
func (w *world) at(moment time.Duration) { time.Sleep(moment - time.Since(w.start)) }

// now is the wall clock, which somebody sets.
func (w *world) now() time.Time { return time.Now().Round(0).Add(time.Duration(w.wall.Load())) }

// jump sets the wall clock.
func (w *world) jump(d time.Duration) {
	heal := w.rec.Fault(history.Clock, d.String())
	w.wall.Add(int64(d))
	heal()
}

// delay is how long an operation of the disk takes.
func (w *world) delay(op memfs.Op) time.Duration {
	if !op.Kind.Changes() {
		return 0
	}
	return max(time.Duration(w.slow.Load()), time.Duration(w.stall.Load())-time.Since(w.start))
}

// fail decides whether an operation of the disk fails.
func (w *world) fail(op memfs.Op) error {
	if op.Kind == memfs.Datasync && w.failSync.CompareAndSwap(true, false) {
		w.rec.Fault(history.SyncError, op.Name)
		return syscall.EIO
	}
	return nil
}

// mount makes a file system the one of the next life.
func (w *world) mount(fs *memfs.FS) {
	fs.Hook(w.fail, w.delay)
	w.fs = fs
	w.resize()
}

// fill leaves no room on the disk, or makes room again.
func (w *world) fill(full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tight = full
	w.resize()
}

func (w *world) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tight
}

func (w *world) resize() {
	if w.fs == nil {
		return
	}
	if w.tight {
		w.fs.Resize(1)
	} else {
		w.fs.Resize(w.volume)
	}
}

// boot starts the broker on what is on the disk, and again every 5 seconds if
// it does not start.
func (w *world) boot() {
	for {
		w.mu.Lock()
		w.lives++
		w.mount(w.fs)
		p := &process{w: w, number: w.lives, fs: w.fs, host: w.net.Host(front), changed: make(chan struct{}, 1)}
		w.life = p
		w.mu.Unlock()

		err := p.begin()
		w.mu.Lock()
		killed := w.life != p
		if killed || err == nil {
			p.up = !killed
			w.mu.Unlock()
			return // who killed it stops it, and starts the next one
		}
		w.life = nil
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) {
			w.refusal = fmt.Errorf("at %v: the broker does not start: %w", time.Since(w.start), err)
		}
		refused := w.refusal != nil
		w.mu.Unlock()
		p.stop()
		if refused {
			return
		}
		time.Sleep(5 * time.Second)
	}
}

// take is the present life, which the caller ends; nil if there is none. One
// that is still starting can be killed, but not be stopped.
func (w *world) take(starting bool) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.life
	if p == nil || !p.up && !starting {
		return nil
	}
	w.life = nil
	return p
}

// crash ends the broker's life without a word, and starts another after a
// while. A kill leaves what was written; a power cut may leave less.
func (w *world) crash(kind history.Kind, down time.Duration) {
	p := w.take(true)
	if p == nil {
		return
	}
	w.rec.Fault(kind, front)
	p.host.Kill()
	w.mu.Lock()
	p.fs.CrashAt(1)
	if kind == history.PowerCut {
		w.mount(p.fs.Crash(w.rng))
	} else {
		w.mount(p.fs.Snapshot())
	}
	w.mu.Unlock()
	w.ghosts.Go(p.stop)
	w.later(down, w.boot)
}

// restart stops the broker in order and starts it again after a while.
func (w *world) restart(down time.Duration) {
	p := w.take(false)
	if p == nil {
		return
	}
	kind := history.Stop
	if w.slow.Load() > 0 || w.full() || p.log.Ready() != nil {
		kind = history.Kill // for the checker: it cannot save what it has come to
	}
	w.rec.Fault(kind, front)
	w.busy.Go(func() {
		p.stop()
		time.Sleep(down)
		w.boot()
	})
}

// later does something after a while.
func (w *world) later(d time.Duration, do func()) {
	w.busy.Go(func() {
		time.Sleep(d)
		do()
	})
}

// idle reports whether the broker runs, with all that was changed in force,
// and has nothing to deliver.
func (w *world) idle() bool {
	w.mu.Lock()
	p, ready := w.life, len(w.routed) == 0 && w.life != nil && w.life.up
	w.mu.Unlock()
	if !ready {
		return false
	}
	for _, lane := range p.dispatcher.Lanes(context.Background()) {
		if lane.Backlog > 0 {
			return false
		}
	}
	return p.scanned()
}

// settle waits until the backlog is gone, at most so long.
func (w *world) settle(limit time.Duration) {
	w.busy.Wait()
	until := time.Now().Add(limit)
	for time.Now().Before(until) && w.refusal == nil && !w.idle() {
		time.Sleep(time.Second)
	}
}

// end writes down what the broker says it did, stops it, and takes the world
// down.
func (w *world) end() {
	w.busy.Wait()
	if p := w.take(false); p != nil {
		p.account()
		p.stop()
	}
	w.ghosts.Wait()
	for _, s := range w.subscribers {
		s.down()
	}
	if w.sink != nil {
		w.sink.Close()
	}
	for _, s := range w.senders {
		s.Client.CloseIdleConnections()
	}
	time.Sleep(5 * time.Minute) // what is left on the network ends by its own timeouts
	synctest.Wait()
}
