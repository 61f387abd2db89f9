package disk

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/test/proof"
)

// scrubs counts what a scrubber tells.
type scrubs struct {
	mu        sync.Mutex
	bytes     int64
	damaged   int
	completed []time.Time
}

func (s *scrubs) Scrubbed(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += n
}

func (s *scrubs) Damaged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged++
}

func (s *scrubs) Completed(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.completed = append(s.completed, at)
}

func (s *scrubs) counts() (bytes int64, damaged, completed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, s.damaged, len(s.completed)
}

// scrubbed is a running log with some segments sealed, and what its scrubber told.
func scrubbed(t *testing.T, o Options) (*running, *scrubs, int64) {
	t.Helper()
	told := new(scrubs)
	o.ScrubObserver = told
	r := start(t, t.TempDir(), o)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 2})
	fill(r, 100, 2, 4000)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r, told, r.sealedBytes
}

// sealedName is the file of the n-th sealed segment.
func (r *running) sealedName(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return segmentName(r.dir, r.segments[n].number)
}

func TestScrubberReadsAtItsRateAndRestsBetweenPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		o.ScrubRate, o.ScrubEvery = 10_000, time.Hour
		r, told, sealed := scrubbed(t, o)
		takes := time.Duration(sealed) * time.Second / 10_000
		time.Sleep(scrubStart + takes/2)
		if bytes, _, completed := told.counts(); completed != 0 || bytes < sealed*4/10 || bytes > sealed*6/10 {
			t.Errorf("half way %d of %d bytes are read, %d passes complete", bytes, sealed, completed)
		}
		time.Sleep(takes/2 + 10*time.Second)
		if bytes, damaged, completed := told.counts(); completed != 1 || damaged != 0 || bytes < sealed*99/100 {
			t.Errorf("%d of %d bytes are read, %d passes complete, %d segments damaged", bytes, sealed, completed, damaged)
		}
		time.Sleep(50 * time.Minute)
		if _, _, completed := told.counts(); completed != 1 {
			t.Errorf("%d passes within an hour", completed)
		}
		time.Sleep(20 * time.Minute)
		if bytes, _, completed := told.counts(); completed != 2 || bytes < sealed*198/100 {
			t.Errorf("after an hour %d passes, %d bytes", completed, bytes)
		}
		if h := r.Health().Scrub; h.Complete.IsZero() || h.Bytes == 0 || h.Off {
			t.Errorf("health says %+v", h)
		}
		r.stop()
	})
}

func TestScrubberThatIsOffReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		o.ScrubRate, o.ScrubEvery = -1, time.Minute
		r, told, _ := scrubbed(t, o)
		time.Sleep(time.Hour)
		if bytes, _, completed := told.counts(); bytes != 0 || completed != 0 || !r.Health().Scrub.Off {
			t.Errorf("%d bytes are read, %d passes, health %+v", bytes, completed, r.Health().Scrub)
		}
		r.stop()
	})
}

func TestScrubberFindsDamageThatNobodyReadsAndTellsItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		o := tiny
		o.ScrubEvery = time.Hour
		o.Logger = textLogger(&log)
		r, told, _ := scrubbed(t, o)
		flip(t, r.sealedName(1), 5000, 4)
		time.Sleep(5 * time.Hour)
		_, damaged, completed := told.counts()
		if damaged != 1 || completed < 4 {
			t.Errorf("%d damaged segments in %d passes, want 1", damaged, completed)
		}
		if h := r.Health().Scrub; len(h.Damaged) != 1 || h.Damaged[0] != 2 {
			t.Errorf("health says %+v", h)
		}
		r.stop()
		if n := strings.Count(log.String(), "not as it was written"); n != 1 || !strings.Contains(log.String(), "segment=2") {
			t.Errorf("it is logged %d times:\n%s", n, log.String())
		}
	})
}

func TestSegmentThatCannotBeSetAsideIsToldOnce(t *testing.T) {
	o := tiny
	o.ScrubRate = -1
	r, told, _ := scrubbed(t, o)
	sc := &scrubber{log: r.Log, told: make(map[uint64]bool)}
	sc.tell(1, errors.New("damaged"))
	sc.tell(1, errors.New("damaged"))
	sc.tell(1<<40, errors.New("it was dropped meanwhile"))
	sc.tell(2, syscall.EMFILE)
	if _, damaged, _ := told.counts(); damaged != 1 || len(r.Health().Scrub.Damaged) != 1 {
		t.Errorf("told %d times, health %+v", damaged, r.Health().Scrub)
	}
}

// weakFS fails some reads of segments.
type weakFS struct {
	quickFS
	left *atomic.Int64 // reads to fail
}

type weakFile struct {
	File
	fs weakFS
}

func (f weakFS) Open(name string) (File, error) {
	file, err := f.quickFS.Open(name)
	if err != nil {
		return nil, err
	}
	return weakFile{file, f}, nil
}

func (f weakFS) Create(name string) (File, error) {
	file, err := f.quickFS.Create(name)
	if err != nil {
		return nil, err
	}
	return weakFile{file, f}, nil
}

func (f weakFile) ReadAt(b []byte, off int64) (int, error) {
	if f.fs.left.Add(-1) >= 0 {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(b, off)
}

func TestReadThatFailsOnceIsNoDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		fs := weakFS{left: new(atomic.Int64)}
		o.FS = fs
		o.ScrubEvery = time.Hour
		r, told, _ := scrubbed(t, o)
		fs.left.Store(1)
		time.Sleep(90 * time.Minute)
		if _, damaged, completed := told.counts(); damaged != 0 || completed < 1 || fs.left.Load() >= 0 {
			t.Errorf("%d damaged segments in %d passes", damaged, completed)
		}
		fs.left.Store(1 << 40)
		time.Sleep(time.Hour)
		if _, damaged, _ := told.counts(); damaged == 0 {
			t.Error("a disk that reads nothing any more goes unnoticed")
		}
		r.stop()
	})
}

func TestScrubberGoesOnWhileSegmentsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		o.ScrubEvery, o.ScrubRate = time.Second, 200_000
		r, told, _ := scrubbed(t, o)
		b := r.Log.broker("b")
		for range 30 {
			fill(r, 10, 2, 4000)
			time.Sleep(6 * time.Second)
			for shard := range channel.ShardID(2) { // all is settled, and goes
				_, next := b.Range(shard)
				if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: shard, Scanned: next}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, damaged, completed := told.counts(); damaged != 0 || completed < 10 {
			t.Errorf("%d damaged segments in %d passes", damaged, completed)
		}
		r.stop()
	})
}

// Any bit of a sealed segment, whatever frame it is in, and of none.
func TestWalkMissesNoFlippedBit(t *testing.T) {
	o := tiny
	o.ScrubRate = -1
	r, _, _ := scrubbed(t, o)
	r.mu.Lock()
	g := r.segments[1]
	r.mu.Unlock()
	r.stop()
	name := segmentName(r.dir, g.number)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if bytes, damage := walkBytes(t, whole, g); damage != nil || bytes != g.size-segmentHeader {
		t.Fatalf("a good segment: %v, %d of %d bytes are frames", damage, bytes, g.size)
	}
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 2000) {
		rng := proof.Rand(seed, n)
		b := append([]byte(nil), whole...)
		at, bit := rng.IntN(len(b)), byte(1)<<rng.IntN(8)
		b[at] ^= bit
		good, damage := walkBytes(t, b, g)
		if damage == nil {
			t.Fatalf("bit %d at %d is not found", bit, at)
		}
		if lost := g.size - segmentHeader - good; lost > 5000 && int64(at) < g.size-5000 {
			t.Fatalf("bit %d at %d costs %d bytes: the walk does not find its way back", bit, at, lost)
		}
	}
}

// memFile is a file that is only read.
type memFile struct {
	*strings.Reader
	File
}

func (m memFile) ReadAt(b []byte, off int64) (int, error) { return m.Reader.ReadAt(b, off) }
func (m memFile) Size() (int64, error)                    { return m.Reader.Size(), nil }

var _ io.ReaderAt = memFile{}

// walkBytes walks over a segment in memory: the first damage, and how many
// bytes are good frames.
func walkBytes(t *testing.T, b []byte, g *segment) (good int64, damage error) {
	t.Helper()
	next := int64(segmentHeader)
	err := walk(memFile{Reader: strings.NewReader(string(b))}, "segment", g, func(w walked) error {
		if w.size > 0 && w.off > 0 {
			if w.off != next {
				t.Fatalf("a step begins at %d, the one before ended at %d", w.off, next)
			}
			next += w.size
		}
		if w.damage == nil {
			good += w.size
		} else if damage == nil {
			damage = w.damage
		}
		return nil
	})
	if err != nil || next != g.size {
		t.Fatalf("the walk ends at %d of %d: %v", next, g.size, err)
	}
	return good, damage
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
