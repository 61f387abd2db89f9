package file

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/pkg/config"
)

const (
	// maxDepth bounds nesting; maxNodes bounds what one file may come to once
	// its aliases are followed, so that a few lines cannot stand for billions.
	maxDepth = 100
	maxNodes = 2_000_000

	// maxFaults is how many faults of one object are told, maxLines how many of
	// its fields have their line known.
	maxFaults = 20
	maxLines  = 2_000
)

// decoder turns YAML nodes into an object, strictly: what it does not know or
// what has the wrong type becomes a fault of the object.
type decoder struct {
	object *config.Object
	reason string // of the faults found now
	budget *int   // nodes that may still be visited
	paths  *paths
	lines  []config.FieldLine // of the object's fields, by line in the file
}

// fields are the keys that a mapping may have. Of ignored ones the value is
// not looked at. They never change.
type fields struct {
	names   []string
	ignored []string
}

// all is what a message lists.
func (f *fields) all() []string {
	return slices.Sorted(slices.Values(append(slices.Clone(f.names), f.ignored...)))
}

func (d *decoder) fault(n *yaml.Node, path, format string, args ...any) {
	if len(d.object.Faults) == maxFaults {
		return
	}
	d.mark(n, path)
	d.object.Faults = append(d.object.Faults, config.Fault{Field: path, Reason: d.reason, Text: fmt.Sprintf(format, args...)})
}

// mark notes the line of a field.
func (d *decoder) mark(n *yaml.Node, path string) {
	if len(d.lines) < maxLines {
		d.lines = append(d.lines, config.FieldLine{Field: path, Line: n.Line})
	}
}

// follow resolves an alias and takes a node from the budget.
func (d *decoder) follow(n *yaml.Node) *yaml.Node {
	for range maxDepth {
		if *d.budget--; *d.budget < 0 {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
		}
		if n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return n
}

// isNull reports an empty value. Kubernetes treats it as absent.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// pairs calls yield for each key of a mapping, those of a merge key (<<)
// included where the mapping does not have them itself. A key that stands
// twice goes to twice.
func (d *decoder) pairs(n *yaml.Node, twice func(key *yaml.Node), yield func(key, value *yaml.Node)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; i >= 2*manyKeys || key.Kind == yaml.AliasNode || key.Tag == "!!merge" {
			d.merged(n, twice, yield)
			return
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, again := d.follow(n.Content[i]), false
		for j := 0; j < i && !again; j += 2 {
			again = n.Content[j].Value == key.Value
		}
		if again {
			twice(key)
		} else {
			yield(key, n.Content[i+1])
		}
	}
}

// manyKeys is beyond what is looked through for a key that stands twice.
const manyKeys = 16

// merged is pairs for mappings that are large or hold others.
func (d *decoder) merged(n *yaml.Node, twice func(key *yaml.Node), yield func(key, value *yaml.Node)) {
	seen := make(map[string]bool, len(n.Content)/2)
	var walk func(n *yaml.Node, merged bool, depth int)
	walk = func(n *yaml.Node, merged bool, depth int) {
		var merges []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := d.follow(n.Content[i]), n.Content[i+1]
			switch {
			case key.Tag == "!!merge":
				merges = append(merges, value)
			case seen[key.Value]:
				if !merged {
					twice(key)
				}
			default:
				seen[key.Value] = true
				yield(key, value)
			}
		}
		for _, m := range merges {
			m = d.follow(m)
			from := []*yaml.Node{m}
			if m.Kind == yaml.SequenceNode {
				from = m.Content
			}
			for _, f := range from {
				if f = d.follow(f); f.Kind == yaml.MappingNode && depth < maxDepth {
					walk(f, true, depth+1)
				}
			}
		}
	}
	walk(n, false, 0)
}

// mapping calls read for each field of a mapping that is known and has a
// value. Null is an empty mapping.
func (d *decoder) mapping(n *yaml.Node, path string, known *fields, read func(name string, n *yaml.Node, path string)) {
	n = d.follow(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "is %s: want fields below it (%s)", kindOf(n), strings.Join(known.all(), ", "))
		return
	}
	twice := func(key *yaml.Node) {
		d.fault(key, d.paths.join(path, key.Value), "stands here twice: remove one")
	}
	d.pairs(n, twice, func(key, value *yaml.Node) {
		switch {
		case slices.Contains(known.names, key.Value):
			if isNull(d.follow(value)) {
				return
			}
			at := d.paths.join(path, key.Value)
			d.mark(key, at)
			read(key.Value, value, at)
		case !slices.Contains(known.ignored, key.Value):
			names := known.all()
			text := config.Suggest(key.Value, names)
			if text == "" {
				text = ": known here are " + strings.Join(names, ", ")
			}
			d.fault(key, d.paths.join(path, show(key.Value)), "unknown field%s", text)
		}
	})
}

// text reads a string. A bare number, true or false is refused as Kubernetes
// refuses it, rather than guessed at: 1.10 and 0123 would change on the way.
func (d *decoder) text(n *yaml.Node, path string, to *string) {
	n = d.follow(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fault(n, path, "is %s: want a string", kindOf(n))
	case n.Tag == "!!str" || n.Tag == "!!timestamp":
		*to = n.Value
	case isNull(n):
	default:
		d.fault(n, path, "is %s: want a string: write it in quotes, as in %q", kindOf(n), clip(n.Value))
	}
}

// optional reads a string into a pointer that tells given from not given.
func (d *decoder) optional(n *yaml.Node, path string, to **string) {
	s := new(string)
	before := len(d.object.Faults)
	d.text(n, path, s)
	if len(d.object.Faults) == before {
		*to = s
	}
}

// number reads a whole number.
func (d *decoder) number(n *yaml.Node, path string, to **int) {
	n = d.follow(n)
	var i int
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Decode(&i) != nil {
		d.fault(n, path, "is %s: want a whole number, as in %s: 5", describe(n), last(path))
		return
	}
	*to = &i
}

// strings reads a mapping of strings with free keys.
func (d *decoder) strings(n *yaml.Node, path string, to *map[string]string) {
	n = d.follow(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "is %s: want name: value below it", kindOf(n))
		return
	}
	*to = make(map[string]string, len(n.Content)/2)
	twice := func(key *yaml.Node) {
		d.fault(key, d.paths.entry(path, key.Value), "stands here twice: remove one")
	}
	d.pairs(n, twice, func(key, value *yaml.Node) {
		at := d.paths.entry(path, key.Value)
		d.mark(key, at)
		// No value is not the same as "", which in filter.attributes stands for any.
		if value = d.follow(value); isNull(value) {
			d.fault(value, at, `is empty: give a value, or "" if that is meant`)
			return
		}
		var s string
		before := len(d.object.Faults)
		if d.text(value, at, &s); len(d.object.Faults) == before {
			(*to)[key.Value] = s
		}
	})
}

func last(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' {
			return path[i+1:]
		}
	}
	return path
}

// show is a key as a message shows it: plain if it is plain.
func show(key string) string {
	key = clip(key)
	if q := strconv.Quote(key); q != `"`+key+`"` {
		return q
	}
	return key
}

func clip(s string) string {
	const longest = 100
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "empty"
	case "!!str":
		return "a string"
	}
	return "a value of type " + show(n.Tag)
}

// describe shows a scalar by its text, anything else by its kind.
func describe(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return strconv.Quote(clip(n.Value))
	}
	return kindOf(n)
}
