package dedup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/channel"
)

const (
	tableSuffix   = ".set"
	journalSuffix = ".log"
	scanBatch     = 64 // records read from the log at once
)

// keys holds the key of all hashes of a folder, which lies in it. Who does not
// have it cannot make two events that look like one.
type keys struct {
	dir string

	mu     sync.Mutex
	hasher *hasher
	mark   uint64
}

func (k *keys) load() (*hasher, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.hasher != nil {
		return k.hasher, k.mark, nil
	}
	key, err := k.read()
	if err != nil {
		return nil, 0, err
	}
	h, err := newHasher(key)
	if err != nil {
		return nil, 0, err
	}
	var mark hash
	h.block.Encrypt(mark[:], mark[:])
	k.hasher, k.mark = h, binary.LittleEndian.Uint64(mark[:])
	return k.hasher, k.mark, nil
}

// read reads the key, or makes one. One that is damaged is replaced: what was
// known with it is then known no longer, and recognised as such by its mark.
func (k *keys) read() ([]byte, error) {
	if k.dir == "" {
		return newKey(), nil
	}
	path := filepath.Join(k.dir, "key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) == keySize {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, err
	}
	key = newKey()
	return key, replace(path, func(f *os.File) error {
		_, err := f.Write(key)
		return err
	})
}

func newKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// replace makes a file durably whole: it has what it had, or all that is new.
func replace(path string, write func(*os.File) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrPermission) {
		err = nil // not every system syncs folders
	}
	return errors.Join(err, d.Close())
}

// folder is the name of a Broker's folder: a uid may hold what a name must not.
func folder(uid channel.UID) string {
	sum := sha256.Sum256([]byte(uid))
	return hex.EncodeToString(sum[:16])
}

// Keep removes what belongs to none of these Brokers. It is for the start.
func (a *Appender) Keep(uids []channel.UID) error {
	if a.o.Dir == "" {
		return nil
	}
	keep := make(map[string]bool, len(uids))
	for _, uid := range uids {
		keep[folder(uid)] = true
	}
	entries, err := os.ReadDir(a.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && len(e.Name()) == 32 && !keep[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(a.o.Dir, e.Name())))
		}
	}
	return err
}

// forget removes what is known of a Broker.
func (a *Appender) forget(uid channel.UID, s *set) error {
	if known, ok := (*a.sets.Load())[uid]; ok && known == nil {
		return nil // there is nothing
	}
	if s != nil {
		s.end()
	}
	if a.o.Dir == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(a.o.Dir, folder(uid)))
}

// open reads what is known of a Broker's events, from its files and then from
// the log what they do not cover.
func (a *Appender) open(ctx context.Context, b Broker) (*set, error) {
	h, mark, err := a.keys.load()
	if err != nil {
		return nil, err
	}
	s := &set{a: a, uid: b.UID, name: b.Name, log: b.Log, hasher: h, mark: mark, pending: make(map[hash]*call), covered: covered{}, sayIt: rate.Sometimes{First: 1, Interval: time.Minute}}
	s.window.Store(int64(b.Window))
	damaged := false
	if a.o.Dir != "" {
		s.dir = filepath.Join(a.o.Dir, folder(b.UID))
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return nil, err
		}
		if damaged, err = s.load(); err != nil {
			s.end()
			return nil, err
		}
	}
	if s.active == nil {
		s.active = newGeneration(s.next)
		s.next++
	}
	for shard, position := range s.top() {
		if _, next := b.Log.Range(shard); position >= next {
			// Another log than these files know of. What they know may be in none.
			a.log.Warn("what is known of events belongs to another log and is forgotten", "broker", b.Name)
			s.end()
			if err := os.RemoveAll(s.dir); err != nil {
				return nil, err
			}
			return a.open(ctx, b)
		}
	}
	if err := s.scan(ctx, damaged); err != nil {
		s.end()
		return nil, err
	}
	s.flush()
	return s, nil
}

// top is the highest position that is known in each shard.
func (s *set) top() covered {
	top := covered{}
	for _, t := range s.tables {
		top.merge(t.top)
	}
	for _, g := range append(slices.Clone(s.frozen), s.active) {
		for _, k := range g.entries {
			top[k.shard] = max(top[k.shard], k.position)
		}
	}
	return top
}

// load reads the files. What cannot be read is removed: it says nothing that
// the log does not say better.
func (s *set) load() (damaged bool, err error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return false, err
	}
	bad := func(path string, err error) {
		damaged = true
		s.a.log.Warn("a file of known events cannot be read and is removed, some may be stored twice", "broker", s.name, "file", path, "error", err)
		_ = os.Remove(path)
	}
	var journals []uint64
	for _, f := range files { // by name: by number, then by level
		path := filepath.Join(s.dir, f.Name())
		number, level, kind, ok := parseName(f.Name())
		switch {
		case !ok:
			_ = os.Remove(path) // half written
		case kind == journalSuffix:
			journals = append(journals, number)
		default:
			t, err := openTableFile(path, number)
			if err == nil && (t.key != s.mark || t.level != level) {
				t.release()
				err = errors.New("it was made with another key")
			}
			if err != nil {
				bad(path, err)
				continue
			}
			if n := len(s.tables); n > 0 && s.tables[0].number == number { // merged into this one
				_ = os.Remove(s.tables[0].path)
				s.bytes -= s.tables[0].bytes
				s.tables[0].release()
				s.tables = s.tables[1:]
			}
			s.tables = append([]*table{t}, s.tables...)
			s.bytes += t.bytes
			s.covered.merge(t.covered)
		}
	}
	if len(s.tables) > 0 {
		s.next = s.tables[0].number + 1
	}
	for _, number := range journals {
		path := s.journalPath(number)
		if len(s.tables) > 0 && number <= s.tables[0].number {
			_ = os.Remove(path) // it has become a table
			continue
		}
		g := newGeneration(number)
		if g.journal, err = openJournal(path, s.mark, s.covered, g.add); err != nil {
			bad(path, err)
			continue
		}
		if g.journal.end == 0 {
			damaged = true // it was lost with the power, or has another key
		}
		if s.active != nil {
			s.frozen = append(s.frozen, s.active)
		}
		s.active = g
		s.next = number + 1
	}
	return damaged, nil
}

func (s *set) journalPath(number uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x%s", number, journalSuffix))
}

func (s *set) tablePath(number uint64, level int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x-%02x%s", number, level, tableSuffix))
}

// parseName reads what journalPath and tablePath wrote.
func parseName(name string) (number uint64, level int, kind string, ok bool) {
	kind = filepath.Ext(name)
	base, merges, isTable := strings.Cut(strings.TrimSuffix(name, kind), "-")
	number, err := strconv.ParseUint(base, 16, 64)
	if err != nil || len(base) != 16 || isTable != (kind == tableSuffix) || !isTable && kind != journalSuffix {
		return 0, 0, "", false
	}
	if isTable {
		n, err := strconv.ParseUint(merges, 16, 8)
		if err != nil {
			return 0, 0, "", false
		}
		level = int(n)
	}
	return number, level, kind, true
}

// scan reads from the log what the files do not cover. Where they were
// damaged, and nothing says how far they went, that is all the log has.
func (s *set) scan(ctx context.Context, damaged bool) error {
	buf := make([]channel.Record, 0, scanBatch)
	positions := make([]channel.Position, 0, scanBatch)
	reached := covered{}
	for _, shard := range s.log.Shards() {
		earliest, next := s.log.Range(shard)
		from, ok := s.covered[shard]
		switch {
		case ok:
			from = max(from, earliest)
		case damaged:
			from = earliest
		default:
			from = next // a Broker that had no window
		}
		reached[shard] = next
		for from < next {
			positions = positions[:0]
			for ; from < next && len(positions) < scanBatch; from++ {
				positions = append(positions, from)
			}
			records, err := s.log.Get(ctx, shard, positions, buf[:0])
			if gap := (*channel.GapError)(nil); errors.As(err, &gap) {
				s.a.log.Warn("events that cannot be read are not known, they may be stored twice", "broker", s.name, "error", err)
				err = nil
			}
			if err != nil {
				return err
			}
			for i := range records {
				s.learn(shard, &records[i])
			}
			clear(records)
			if len(s.frozen) > 1 {
				s.tidy(ctx)
			}
		}
	}
	s.covered, s.marks = reached, maps.Clone(reached)
	return nil
}

// learn makes a stored event known, unless it is: then its first copy counts.
func (s *set) learn(shard channel.ShardID, r *channel.Record) {
	c := &call{tables: s.tables}
	c.reset(1)
	h := &c.hashes[0]
	s.hasher.of(r.Event, h)
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.recall(h)
	if !ok {
		s.mu.Unlock()
		k, ok = s.search(c, h)
		s.mu.Lock()
	}
	if e := (&entry{*h, known{r.Position, shard, uint32(r.Time.Unix())}}); !ok || k.second < s.since(r.Time) {
		if e.second >= s.since(s.a.o.Now()) {
			s.add(*e)
		}
	}
	if len(s.active.entries) >= s.a.o.GenerationEntries {
		s.freeze()
	}
}

// end closes a set that is not used any more.
func (s *set) end() {
	s.gone.Store(true)
	s.work.Lock()
	defer s.work.Unlock()
	s.io.Lock()
	defer s.io.Unlock()
	s.mu.Lock()
	tables, generations := s.tables, append(slices.Clone(s.frozen), s.active)
	s.tables, s.frozen = nil, nil
	s.mu.Unlock()
	for _, t := range tables {
		t.release()
	}
	for _, g := range generations {
		if g != nil && g.journal != nil {
			_ = g.journal.close()
			g.journal = nil
		}
	}
}
