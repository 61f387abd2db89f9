package memfs

const (
	pageSize  = 4096
	blockSize = 512
)

// content is the bytes of a file. Pages are replaced, never changed, so that
// copies of a content may share them; a nil page is zeros.
type content struct {
	pages []*[pageSize]byte
	size  int64
}

func (c *content) clone() content {
	return content{append([]*[pageSize]byte(nil), c.pages...), c.size}
}

// read fills b as far as the file goes and returns how far that was.
func (c *content) read(b []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	b = b[:min(int64(len(b)), c.size-off)]
	for n := 0; n < len(b); {
		at := off + int64(n)
		part := b[n:min(len(b), n+int(pageSize-at%pageSize))]
		if p := c.pages[at/pageSize]; p != nil {
			copy(part, p[at%pageSize:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(b)
}

// write puts b at off and makes the file long enough.
func (c *content) write(b []byte, off int64) {
	if end := off + int64(len(b)); end > c.size {
		c.resize(end)
	}
	for len(b) > 0 {
		p := new([pageSize]byte)
		if old := c.pages[off/pageSize]; old != nil {
			*p = *old
		}
		n := copy(p[off%pageSize:], b)
		c.pages[off/pageSize] = p
		b, off = b[n:], off+int64(n)
	}
}

// resize cuts the file or adds zeros. What was cut off does not come back.
func (c *content) resize(size int64) {
	n := int((size + pageSize - 1) / pageSize)
	if size < c.size {
		c.pages = c.pages[:n:n]
		if rest := size % pageSize; rest > 0 && c.pages[n-1] != nil {
			p := *c.pages[n-1]
			clear(p[rest:])
			c.pages[n-1] = &p
		}
	}
	for len(c.pages) < n {
		c.pages = append(c.pages, nil)
	}
	c.size = size
}

// block copies one block from another content, as far as both have it.
func (c *content) block(from *content, number int64) {
	var b [blockSize]byte
	off := number * blockSize
	if off >= c.size {
		return
	}
	from.read(b[:], off)
	c.write(b[:min(blockSize, c.size-off)], off)
}
