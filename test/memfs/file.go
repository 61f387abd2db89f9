package memfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"syscall"

	"github.com/penstock-events/penstock/pkg/channel/disk"
)

// file is one file, whatever its names. Guarded by FS.mu.
type file struct {
	number int64
	path   string  // its name, or the last it had
	cached content // what reads see
	medium content // what is there after a power cut, at least

	pending []change       // what the medium may not have yet, in order
	dirty   [2]int64       // the pages that pending touches: from, to
	lost    map[int64]bool // blocks that a failed sync has left behind

	reserved int64 // bytes of the volume
	linked   bool  // it has a name
	handles  int
}

// change is an unsynced write or, without data, a change of the length.
type change struct {
	op   int64
	off  int64
	data []byte
	size int64 // of the file afterwards
}

// note adds a change and the pages that it touches.
func (n *file) note(c change, from, to int64) {
	if len(n.pending) == 0 {
		n.dirty = [2]int64{from / pageSize, 0}
	}
	n.pending = append(n.pending, c)
	n.dirty[0] = min(n.dirty[0], from/pageSize)
	n.dirty[1] = max(n.dirty[1], (to+pageSize-1)/pageSize)
}

// flush makes everything durable but the blocks that an earlier sync has lost.
func (n *file) flush() {
	n.medium.resize(n.cached.size)
	for p := n.dirty[0]; p < min(n.dirty[1], int64(len(n.cached.pages))); p++ {
		if len(n.lost) == 0 {
			n.medium.pages[p] = n.cached.pages[p]
			continue
		}
		for b := p * (pageSize / blockSize); b < (p+1)*(pageSize/blockSize); b++ {
			if !n.lost[b] {
				n.medium.block(&n.cached, b)
			}
		}
	}
	n.pending, n.dirty = nil, [2]int64{}
}

// fail is a sync that fails: some blocks are written, the others forgotten.
// Lengths are the journal's matter, which tries again.
func (n *file) fail(rng *rand.Rand) {
	dirty := make(map[int64]bool)
	lengths := n.pending[:0]
	for _, c := range n.pending {
		for b := c.off / blockSize; b*blockSize < c.off+int64(len(c.data)); b++ {
			if dirty[b] {
				continue
			}
			dirty[b] = true
			if rng.IntN(2) == 0 {
				n.medium.block(&n.cached, b)
				continue
			}
			if n.lost == nil {
				n.lost = make(map[int64]bool)
			}
			n.lost[b] = true
		}
		c.data = nil
		lengths = append(lengths, c)
	}
	n.pending = lengths
}

// handle is one opening of a file.
type handle struct {
	fs     *FS
	node   *file
	closed bool
}

var _ disk.File = (*handle)(nil)

// open makes a handle. With the lock held.
func (f *FS) open(node *file) *handle {
	node.handles++
	return &handle{fs: f, node: node}
}

// do is FS.do on an open file.
func (h *handle) do(kind Kind, bytes int, change func(Op) error, failed func(Op, error)) error {
	h.fs.mu.Lock()
	name := h.node.path
	h.fs.mu.Unlock()
	return h.fs.do(Op{Kind: kind, Name: name, Bytes: bytes}, func(op Op) error {
		if h.closed {
			return fs.ErrClosed
		}
		return change(op)
	}, failed)
}

// ReadAt implements io.ReaderAt.
func (h *handle) ReadAt(b []byte, off int64) (n int, err error) {
	err = h.do(Read, len(b), func(Op) error {
		if off < 0 {
			return syscall.EINVAL
		}
		if n = h.node.cached.read(b, off); n < len(b) {
			return io.EOF
		}
		return nil
	}, nil)
	return n, err
}

// WriteAt implements io.WriterAt.
func (h *handle) WriteAt(b []byte, off int64) (n int, err error) {
	err = h.do(Write, len(b), func(op Op) error {
		if off < 0 {
			return syscall.EINVAL
		}
		n = len(b)
		if !h.fs.reserve(h.node, off+int64(n)) {
			n = int(min(max(h.node.reserved-off, 0), int64(n)))
		}
		h.node.write(op.N, b[:n], off)
		if n < len(b) {
			return syscall.ENOSPC
		}
		return nil
	}, func(op Op, err error) {
		if half := len(b) / 2; errors.Is(err, io.ErrShortWrite) && h.fs.reserve(h.node, off+int64(half)) {
			n = half
			h.node.write(op.N, b[:half], off)
		}
	})
	return n, err
}

func (n *file) write(op int64, b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	from, to := off, off+int64(len(b))
	n.cached.write(b, off)
	for block := from / blockSize; block*blockSize < to && len(n.lost) > 0; block++ {
		if n.lost[block] { // the block is dirty as a whole again, with what was forgotten of it
			delete(n.lost, block)
			from = min(from, block*blockSize)
			to = max(to, min((block+1)*blockSize, n.cached.size))
		}
	}
	data := make([]byte, to-from)
	n.cached.read(data, from)
	n.note(change{op: op, off: from, data: data, size: n.cached.size}, from, to)
}

// Close implements io.Closer.
func (h *handle) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return &fs.PathError{Op: "close", Path: h.node.path, Err: fs.ErrClosed}
	}
	h.closed = true
	h.node.handles--
	h.fs.free(h.node)
	return nil
}

// Size implements disk.File.
func (h *handle) Size() (size int64, err error) {
	err = h.do(Size, 0, func(Op) error {
		size = h.node.cached.size
		return nil
	}, nil)
	return size, err
}

// Allocate implements disk.File.
func (h *handle) Allocate(size int64) error {
	return h.do(Allocate, 0, func(op Op) error {
		if !h.fs.reserve(h.node, size) {
			return syscall.ENOSPC
		}
		if size > h.node.cached.size {
			h.node.cached.resize(size)
			h.node.note(change{op: op.N, size: size}, size, size)
		}
		return nil
	}, nil)
}

// Truncate implements disk.File.
func (h *handle) Truncate(size int64) error {
	return h.do(Truncate, 0, func(op Op) error {
		if size < 0 {
			return syscall.EINVAL
		}
		n := h.node
		if size == n.cached.size {
			return nil
		}
		old := n.cached.size
		if size < old {
			for block := range n.lost {
				if block*blockSize >= size {
					delete(n.lost, block)
				}
			}
			h.fs.used -= n.reserved - roundUp(size)
			n.reserved = roundUp(size)
		}
		n.cached.resize(size)
		n.note(change{op: op.N, size: size}, min(old, size), max(old, size))
		return nil
	}, nil)
}

// Datasync implements disk.File.
func (h *handle) Datasync() error { return h.sync(Datasync) }

// Sync implements disk.File.
func (h *handle) Sync() error { return h.sync(Sync) }

func (h *handle) sync(kind Kind) error {
	return h.do(kind, 0, func(Op) error {
		if !h.fs.o.NoSync {
			h.node.flush()
		}
		return nil
	}, func(Op, error) {
		h.node.fail(rand.New(&h.fs.chips))
	})
}

// Uncache implements disk.File.
func (h *handle) Uncache() error {
	return h.do(Uncache, 0, func(Op) error {
		for block := range h.node.lost {
			h.node.cached.block(&h.node.medium, block)
		}
		h.node.lost = nil
		return nil
	}, nil)
}

func roundUp(size int64) int64 { return (size + pageSize - 1) / pageSize * pageSize }

// reserve sees to it that a file may be size bytes long; false, and nothing
// changes, if the volume is too full.
func (f *FS) reserve(n *file, size int64) bool {
	more := roundUp(size) - n.reserved
	if more <= 0 {
		return true
	}
	if f.o.Size > 0 && f.used+more > f.o.Size {
		return false
	}
	n.reserved += more
	f.used += more
	return true
}

// free gives back the space of a file that nobody can reach any more.
func (f *FS) free(n *file) {
	if !n.linked && n.handles == 0 {
		f.used -= n.reserved
		n.reserved = 0
	}
}
