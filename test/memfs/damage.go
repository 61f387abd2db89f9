package memfs

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// What follows changes files behind the back of their owner, on the medium
// and in memory at once, and counts as no operation. A file that is not there
// is a mistake of the test: a panic.

// Files names all files, in order.
func (f *FS) Files() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for path, d := range f.dirs {
		for name := range maps.Keys(d.cached) {
			names = append(names, filepath.Join(path, name))
		}
	}
	slices.Sort(names)
	return names
}

// Bytes is a copy of what reads of a file see.
func (f *FS) Bytes(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.must(name)
	b := make([]byte, n.cached.size)
	n.cached.read(b, 0)
	return b
}

// Flip changes one bit, counted from the beginning of the file.
func (f *FS) Flip(name string, bit int64) {
	f.edit(name, bit/8, 1, func(b []byte) { b[0] ^= 1 << (bit % 8) })
}

// Zero clears a part of a file.
func (f *FS) Zero(name string, off, size int64) {
	f.edit(name, off, size, func(b []byte) { clear(b) })
}

// Truncate cuts a file.
func (f *FS) Truncate(name string, size int64) {
	f.Replace(name, f.Bytes(name)[:size])
}

// Delete takes a file away.
func (f *FS) Delete(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.must(name)
	d, base, _ := f.find(filepath.Clean(name))
	d.change(f, entry{from: base})
	d.medium, d.pending = maps.Clone(d.cached), nil
}

// Replace gives a file other content, and makes one where there was none.
// Whoever has the old one open keeps it.
func (f *FS) Replace(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.find(filepath.Clean(name))
	if err != nil {
		panic(fmt.Sprintf("memfs: %s: %v", name, err))
	}
	f.files++
	n := &file{number: f.files}
	n.cached.write(b, 0)
	n.medium = n.cached.clone()
	d.change(f, entry{to: base, file: n})
	d.medium, d.pending = maps.Clone(d.cached), nil
	n.reserved = roundUp(n.cached.size) // also where there is no room: it is damage
	f.used += n.reserved
}

func (f *FS) edit(name string, off, size int64, edit func([]byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.must(name)
	for _, c := range []*content{&n.cached, &n.medium} {
		b := make([]byte, max(0, min(size, c.size-off)))
		c.read(b, off)
		if len(b) > 0 {
			edit(b)
			c.write(b, off)
		}
	}
}

func (f *FS) must(name string) *file {
	d, base, err := f.find(filepath.Clean(name))
	if err != nil || d.cached[base] == nil {
		panic(fmt.Sprintf("memfs: there is no file %s", name))
	}
	return d.cached[base]
}
