package file

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/penstock-events/penstock/pkg/config"
)

// paths makes the names of fields, and the lists of their lines, once for all
// objects of one file: nearly all have the same.
type paths struct {
	known  map[step]string
	shapes map[string][]config.FieldLine
	key    []byte
}

// step leads from a field to one inside it.
type step struct {
	path, key string
	list      int // place in a list; with key "" only
	entry     bool
}

// maxPaths bounds how many names and shapes are remembered. Beyond it each is
// made again.
const maxPaths = 10_000

func newPaths() paths {
	return paths{known: make(map[step]string), shapes: make(map[string][]config.FieldLine)}
}

// join is a field of a field: spec and broker are spec.broker.
func (p *paths) join(path, key string) string { return p.to(step{path: path, key: key}) }

// entry is an entry with a free key: metadata.annotations[a.b/c].
func (p *paths) entry(path, key string) string { return p.to(step{path: path, key: key, entry: true}) }

// item is an item of a list: spec.filters[0].
func (p *paths) item(path string, i int) string { return p.to(step{path: path, list: i, entry: true}) }

func (p *paths) to(s step) string {
	if path, ok := p.known[s]; ok {
		return path
	}
	// The key is part of a document's text, which a path must not keep in memory.
	s.key = strings.Clone(s.key)
	var path string
	switch {
	case s.entry && s.key == "":
		path = s.path + "[" + strconv.Itoa(s.list) + "]"
	case s.entry:
		path = s.path + "[" + show(s.key) + "]"
	case s.path == "":
		path = s.key
	default:
		path = s.path + "." + s.key
	}
	if len(p.known) < maxPaths {
		p.known[s] = path
	}
	return path
}

// lines is what an Object keeps of the lines of its fields, given as lines of
// the file.
func (p *paths) lines(lines []config.FieldLine, from int) []config.FieldLine {
	key := p.key[:0]
	for _, l := range lines {
		key = binary.AppendVarint(key, int64(l.Line-from))
		key = binary.AppendUvarint(key, uint64(len(l.Field)))
		key = append(key, l.Field...)
	}
	p.key = key
	if shape, ok := p.shapes[string(key)]; ok {
		return shape
	}
	shape := make([]config.FieldLine, len(lines))
	for i, l := range lines {
		shape[i] = config.FieldLine{Field: l.Field, Line: l.Line - from}
	}
	if len(p.shapes) < maxPaths {
		p.shapes[string(key)] = shape
	}
	return shape
}
