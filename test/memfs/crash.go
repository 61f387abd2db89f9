package memfs

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// Crash is the file system that a power cut at this moment would leave: all
// that is durable and, as rng has it, nothing, everything, what came first, or
// any part of the rest. It has the same size and no hooks, nobody holds its
// locks, and f goes on undisturbed: CrashAt ends it.
func (f *FS) Crash(rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	luck := f.luck(rng)
	copies := make(map[*file]*file)
	next := f.successor()
	for _, path := range slices.Sorted(maps.Keys(f.dirs)) {
		d := f.dirs[path]
		names := maps.Clone(d.medium)
		ordered := rng.IntN(2) == 0
		for i := range d.pending {
			if luck.keeps(d.pending[i].op) {
				d.pending[i].apply(names)
			} else if ordered {
				break
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			old := names[name]
			if copies[old] == nil {
				left := old.survivor(luck)
				copies[old] = &file{number: old.number, path: filepath.Join(path, name), cached: left, medium: left.clone(), linked: true}
				next.reserve(copies[old], left.size)
			}
			names[name] = copies[old]
		}
		next.dirs[path] = &directory{path: path, cached: names, medium: maps.Clone(names)}
	}
	return next
}

// Snapshot is the file system that the end of a process leaves: this machine
// goes on and forgets nothing, and a later Crash may. Like Crash otherwise.
func (f *FS) Snapshot() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.successor()
	copies := make(map[*file]*file)
	same := func(old *file) *file {
		if old == nil {
			return nil
		}
		if copies[old] == nil {
			copies[old] = &file{
				number: old.number, path: old.path, cached: old.cached.clone(), medium: old.medium.clone(),
				pending: slices.Clone(old.pending), dirty: old.dirty, lost: maps.Clone(old.lost), linked: old.linked,
			}
			if old.linked { // the others are freed with their process
				copies[old].reserved = old.reserved
				next.used += old.reserved
			}
		}
		return copies[old]
	}
	for path, d := range f.dirs {
		c := &directory{path: path, cached: maps.Clone(d.cached), medium: maps.Clone(d.medium), pending: slices.Clone(d.pending)}
		for name, old := range c.cached {
			c.cached[name] = same(old)
		}
		for name, old := range c.medium {
			c.medium[name] = same(old)
		}
		for i := range c.pending {
			c.pending[i].file = same(c.pending[i].file)
		}
		next.dirs[path] = c
	}
	return next
}

// successor is an FS of the same kind without files. Operations go on where
// they were, for what is pending names them.
func (f *FS) successor() *FS {
	return &FS{
		o: Options{Size: f.o.Size, NoSync: f.o.NoSync}, ops: f.ops, chips: f.chips, files: f.files,
		dirs: make(map[string]*directory), locks: make(map[string]bool),
	}
}

// survivor is the file's content after a power cut.
func (n *file) survivor(luck *luck) content {
	left := n.medium.clone()
	length, cut := n.medium.size, false
	stale := make(map[int64]bool) // blocks that have missed a write
	for i := range n.pending {
		c := &n.pending[i]
		if c.size != length {
			length = c.size
			if cut = cut || !luck.keeps(c.op); !cut {
				left.resize(length)
			}
		}
		for block := c.off / blockSize; len(c.data) > 0 && block*blockSize < c.off+int64(len(c.data)); block++ {
			if stale[block] || !luck.keeps(c.op) {
				stale[block] = true
				continue
			}
			from := max(block*blockSize, c.off)
			to := min((block+1)*blockSize, c.off+int64(len(c.data)), left.size)
			if from < to {
				left.write(c.data[from-c.off:to-c.off], from)
			}
		}
	}
	return left
}

// luck decides what of the unsynced reaches the medium.
type luck struct {
	rng    *rand.Rand
	share  float64 // of what is kept, all over
	before int64   // operations before it are kept, and a part of itself
}

func (f *FS) luck(rng *rand.Rand) *luck {
	switch rng.IntN(8) {
	case 0:
		return &luck{rng: rng}
	case 1:
		return &luck{rng: rng, share: 1}
	case 2, 3:
		var ops []int64
		for _, d := range f.dirs {
			for i := range d.pending {
				ops = append(ops, d.pending[i].op)
			}
			for _, n := range d.cached {
				for i := range n.pending {
					ops = append(ops, n.pending[i].op)
				}
			}
		}
		if len(ops) == 0 {
			return &luck{rng: rng}
		}
		slices.SortFunc(ops, cmp.Compare)
		return &luck{rng: rng, before: ops[rng.IntN(len(ops))]}
	default:
		return &luck{rng: rng, share: rng.Float64()}
	}
}

func (l *luck) keeps(op int64) bool {
	switch {
	case l.before > 0:
		return op < l.before || op == l.before && l.rng.IntN(2) == 0
	case l.share == 0 || l.share == 1:
		return l.share == 1
	}
	return l.rng.Float64() < l.share
}
