package dedup

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/channel"
)

const (
	// A window is kept in eight parts or so, of which the oldest goes as a whole.
	slicesOf = 8
	minSlice = 30 * time.Second
)

// set is what is known of one Broker's events: a generation that grows, those
// that wait to become tables, and tables.
type set struct {
	a      *Appender
	uid    channel.UID
	name   string
	dir    string // "" in memory
	log    channel.BrokerLog
	hasher *hasher
	mark   uint64       // of the key
	window atomic.Int64 // time.Duration

	mu      sync.Mutex
	pending map[hash]*call // being appended
	active  *generation
	frozen  []*generation // the newest last
	lost    []*generation // forgotten, and still with a journal
	tables  []*table      // the newest first; replaced, never changed
	bytes   int64         // of tables
	floor   uint32        // what was stored up to this second may have been forgotten early
	told    bool          // that the window is shorter
	next    uint64        // number of the next generation

	// What the log holds below covered is in here, or need not be. Appends are
	// counted by epoch; marks are where the log stood when the epoch began, and
	// are covered when all appends of the epochs before have ended.
	covered covered
	marks   covered
	epoch   uint64
	flying  [2]int // appends of this epoch and the one before, by its parity
	stuck   bool   // an outcome was unknown: only a restart finds out

	io    sync.Mutex // one at a time writes journals, or makes tables of them
	work  sync.Mutex // one at a time makes and merges tables
	gone  atomic.Bool
	sayIt rate.Sometimes
}

// generation is a part of what is known that is in memory, and in a journal.
type generation struct {
	number         uint64
	entries        map[hash]known
	oldest, newest uint32
	fresh          []entry  // not in the journal yet
	journal        *journal // nil before the first write; under set.io
	covered        covered  // of the set, when this was frozen
}

func newGeneration(number uint64) *generation {
	return &generation{number: number, entries: make(map[hash]known)}
}

func (g *generation) add(e *entry) {
	if len(g.entries) == 0 {
		g.oldest, g.newest = e.second, e.second
	}
	g.oldest, g.newest = min(g.oldest, e.second), max(g.newest, e.second)
	g.entries[e.hash] = e.known
}

func (s *set) span() time.Duration {
	return max(time.Duration(s.window.Load())/slicesOf, minSlice)
}

// since is the second before which nothing is known any more.
func (s *set) since(now time.Time) uint32 {
	return uint32(max(0, now.Add(-time.Duration(s.window.Load())).Unix()-1))
}

// reserve takes for a call all its events that are not known from memory, or
// none where one of them is being appended by another: then it returns what
// to wait for.
func (s *set) reserve(c *call) (busy <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range c.hashes {
		if other := s.pending[c.hashes[i]]; other != nil && c.same[i] < 0 {
			if other.wait == nil {
				other.wait = make(chan struct{})
			}
			return other.wait
		}
	}
	for i := range c.hashes {
		c.own[i] = false
		if c.same[i] >= 0 {
			continue
		}
		if k, ok := s.recall(&c.hashes[i]); ok && s.holds(k) {
			c.know(i, k)
			continue
		}
		c.own[i] = true
		s.pending[c.hashes[i]] = c
	}
	c.tables = s.tables
	c.epoch = s.epoch
	s.flying[c.epoch&1]++
	s.a.stir()
	return nil
}

// recall finds an event in memory. It is called with s.mu held.
func (s *set) recall(h *hash) (known, bool) {
	if k, ok := s.active.entries[*h]; ok {
		return k, true
	}
	for i := len(s.frozen) - 1; i >= 0; i-- {
		if k, ok := s.frozen[i].entries[*h]; ok {
			return k, true
		}
	}
	return known{}, false
}

// holds reports whether what is known is within the window. (Who finds nothing
// need not look at the clock.)
func (s *set) holds(k known) bool {
	return k.within(time.Duration(s.window.Load()), s.a.o.Now())
}

// know notes that an event of the call is a duplicate.
func (c *call) know(i int, k known) {
	if cap(c.out) < len(c.hashes) {
		c.out = make([]channel.Stored, len(c.hashes))
	}
	c.out = c.out[:len(c.hashes)]
	c.out[i] = channel.Stored{ID: k.id(), Duplicate: true}
}

// look finds in tables what a call has reserved and is known. No lock is held
// while a file is read.
func (s *set) look(c *call) {
	for i := range c.hashes {
		if !c.own[i] {
			continue
		}
		if k, ok := s.search(c, &c.hashes[i]); ok && s.holds(k) {
			c.know(i, k)
			c.own[i] = false
			s.mu.Lock()
			delete(s.pending, c.hashes[i])
			s.mu.Unlock()
		}
	}
}

// search goes through the tables from the newest on.
func (s *set) search(c *call, h *hash) (known, bool) {
again:
	for _, t := range c.tables {
		if !t.bits.may(h) {
			continue
		}
		if !t.acquire() { // it was merged or has expired meanwhile
			s.mu.Lock()
			c.tables = s.tables
			s.mu.Unlock()
			goto again
		}
		k, ok, err := t.find(h, &c.page)
		t.release()
		if err != nil {
			s.wrong("what is known of events cannot be read, some may be stored twice", err)
		}
		if ok {
			return k, true
		}
	}
	return known{}, false
}

// settle ends a call: what it has stored is known from here on, and who waits
// looks again.
func (s *set) settle(c *call, answer []channel.Stored, err error) {
	now := uint32(s.a.o.Now().Unix())
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range c.hashes {
		if !c.own[i] {
			continue
		}
		delete(s.pending, c.hashes[i])
		if err == nil {
			s.add(entry{c.hashes[i], known{answer[i].Position, answer[i].Shard, now}})
		}
	}
	s.flying[c.epoch&1]--
	if err != nil && !refusal(err) {
		s.stuck = true
	}
	if c.wait != nil {
		close(c.wait)
	}
	if len(s.active.entries) >= s.a.o.GenerationEntries {
		s.freeze()
	}
}

// add makes an event known. It is called with s.mu held.
func (s *set) add(e entry) {
	s.active.add(&e)
	if s.dir != "" {
		s.active.fresh = append(s.active.fresh, e)
	}
}

// freeze begins another generation. It is called with s.mu held.
func (s *set) freeze() {
	waiting := len(s.active.entries)
	for _, g := range s.frozen {
		waiting += len(g.entries)
	}
	for len(s.frozen) > 0 && waiting > s.a.o.MaxUnwritten {
		waiting -= len(s.frozen[0].entries)
		s.shorten(s.frozen[0].newest)
		s.lost = append(s.lost, s.frozen[0])
		s.frozen = s.frozen[1:]
	}
	s.active.covered = s.covered
	s.frozen = append(s.frozen[:len(s.frozen):len(s.frozen)], s.active)
	s.active = newGeneration(s.next)
	s.next++
	select {
	case s.a.frozen <- struct{}{}:
	default:
	}
}

// shorten notes that what was stored up to a second is forgotten before its
// time. It is called with s.mu held.
func (s *set) shorten(newest uint32) {
	s.floor = max(s.floor, newest)
	if !s.told {
		s.told = true
		s.a.log.Warn("a bound is reached: events are known for a shorter time than the dedup window asks for",
			"broker", s.name, "window", time.Duration(s.window.Load()), "known", s.inForce(s.a.o.Now()), "max bytes", s.a.o.MaxBytes)
	}
}

// inForce is how long an event is known for certain. It is called with s.mu held.
func (s *set) inForce(now time.Time) time.Duration {
	window := time.Duration(s.window.Load())
	if s.floor > 0 {
		window = min(window, max(0, now.Sub(time.Unix(int64(s.floor)+1, 0))))
	}
	return window
}

func (s *set) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{UID: s.uid, Name: s.name, Bytes: s.bytes, Window: s.inForce(s.a.o.Now()), Entries: len(s.active.entries)}
	for _, g := range s.frozen {
		st.Entries += len(g.entries)
	}
	for _, t := range s.tables {
		st.Entries += t.count
	}
	return st
}

// wrong logs an error of our files, now and then.
func (s *set) wrong(what string, err error) {
	if !s.gone.Load() {
		s.sayIt.Do(func() { s.a.log.Error(what, "broker", s.name, "error", err) })
	}
}
