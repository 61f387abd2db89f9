package file

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// plain reads documents in the form that Brokers and Triggers nearly always
// have: block mappings, lists of them, and on one line scalars and what stands in
// braces and brackets, in ASCII. It
// makes the nodes that the YAML library makes of them, at a twentieth of the
// cost. What it does not know for certain it refuses, and the library reads the
// document. FuzzPlain holds the two to each other.
//
// The nodes are good until the next call.
type plain struct {
	lines   []plainLine
	at      int
	nodes   []yaml.Node
	content []*yaml.Node // of which mappings and lists have their parts
	stack   []*yaml.Node // the parts of those that are not complete
}

// plainLine is a line that is neither blank nor a comment.
type plainLine struct {
	indent int
	text   string // without indent; without end
	number int
}

// document reads one document that begins on line first. known is false where
// it is for the library; nil is a document without contents.
func (p *plain) document(text string, first int) (n *yaml.Node, known bool) {
	if !p.split(text, first) {
		return nil, false
	}
	p.at, p.nodes, p.content, p.stack = 0, p.nodes[:0], p.content[:0], p.stack[:0]
	if len(p.lines) == 0 {
		return nil, true
	}
	n = p.mapping(0)
	return n, n != nil && p.at == len(p.lines)
}

// split takes the lines of a document and reports whether they may be plain.
func (p *plain) split(text string, first int) bool {
	p.lines = p.lines[:0]
	for number := first; text != ""; number++ {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		indent := 0
		for indent < len(line) && line[indent] == ' ' {
			indent++
		}
		line = line[indent:]
		for i := range len(line) {
			if line[i] < ' ' || line[i] > '~' {
				return false
			}
		}
		switch {
		case line == "" || line[0] == '#':
		case indent == 0 && strings.HasPrefix(line, "---"):
			if number != first || line != "---" {
				return false
			}
		case line[len(line)-1] == ' ':
			return false
		default:
			p.lines = append(p.lines, plainLine{indent, line, number})
		}
	}
	return true
}

// mapping reads a mapping whose keys stand at indent; nil is for the library.
func (p *plain) mapping(indent int) *yaml.Node {
	base, number := len(p.stack), p.lines[p.at].number
	for p.at < len(p.lines) && p.lines[p.at].indent == indent && !p.item() {
		line := p.lines[p.at]
		key, value, ok := plainKey(line.text)
		if !ok {
			return nil
		}
		p.at++
		p.stack = append(p.stack, p.node(yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: line.number}))
		var n *yaml.Node
		deeper := p.at < len(p.lines) && p.lines[p.at].indent > indent
		switch {
		case value != "" && deeper:
			return nil // a scalar that goes on, or a mistake
		case value != "":
			n = p.scalar(value, line.number)
		case deeper && p.item():
			n = p.list(p.lines[p.at].indent)
		case deeper:
			n = p.mapping(p.lines[p.at].indent)
		case p.at < len(p.lines) && p.lines[p.at].indent == indent && p.item():
			n = p.list(indent)
		default:
			n = p.node(yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: line.number})
		}
		if n == nil {
			return nil
		}
		p.stack = append(p.stack, n)
	}
	if p.at < len(p.lines) && p.lines[p.at].indent > indent || len(p.stack) == base {
		return nil
	}
	return p.node(yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: p.parts(base), Line: number})
}

// item reports whether the line at hand is an item of a list.
func (p *plain) item() bool { return p.lines[p.at].text[0] == '-' }

// list reads a list of mappings whose hyphens stand at indent.
func (p *plain) list(indent int) *yaml.Node {
	base, number := len(p.stack), p.lines[p.at].number
	for p.at < len(p.lines) && p.lines[p.at].indent == indent && p.item() {
		line := &p.lines[p.at]
		if !strings.HasPrefix(line.text, "- ") || line.text[2] == '-' {
			return nil
		}
		if line.text[2] == '{' {
			n := p.scalar(line.text[2:], line.number)
			p.at++
			if n == nil || p.at < len(p.lines) && p.lines[p.at].indent > indent {
				return nil
			}
			p.stack = append(p.stack, n)
			continue
		}
		// The rest of the line is the first of the item's own.
		line.indent, line.text = indent+2, line.text[2:]
		n := p.mapping(indent + 2)
		if n == nil {
			return nil
		}
		p.stack = append(p.stack, n)
	}
	return p.node(yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: p.parts(base), Line: number})
}

// scalar reads a value that is a string beyond doubt, or a small number; or a
// mapping or list on one line.
func (p *plain) scalar(text string, number int) *yaml.Node {
	if text[0] == '{' || text[0] == '[' {
		n, rest := p.flow(text, number, 0)
		if rest != "" {
			return nil
		}
		return n
	}
	n := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: number}
	switch c := text[0]; {
	case c == '"' || c == '\'':
		inner := text[1:]
		if end := strings.IndexByte(inner, c); end < 0 || end != len(inner)-1 || c == '"' && strings.IndexByte(inner, '\\') >= 0 {
			return nil
		}
		n.Value = inner[:len(inner)-1]
		if n.Style = yaml.SingleQuotedStyle; c == '"' {
			n.Style = yaml.DoubleQuotedStyle
		}
	case isLetter(c) || c == '/':
		if plainWords[text] {
			return nil
		}
		for i := range len(text) {
			if text[i] == '#' || text[i] == ':' && (i+1 == len(text) || text[i+1] == ' ') {
				return nil
			}
		}
	default:
		if len(text) > 9 || text[0] == '0' && len(text) > 1 || strings.Trim(text, "0123456789") != "" {
			return nil
		}
		n.Tag = "!!int"
	}
	return p.node(n)
}

// flow reads a value inside braces or brackets, and returns what comes after it.
func (p *plain) flow(text string, number, depth int) (n *yaml.Node, rest string) {
	if text == "" || depth > maxDepth {
		return nil, ""
	}
	switch c := text[0]; {
	case c == '{' || c == '[':
		return p.flowParts(text, number, depth)
	case c == '"' || c == '\'':
		end := strings.IndexByte(text[1:], c) + 2
		if end < 2 || end < len(text) && text[end] == c {
			return nil, ""
		}
		return p.scalar(text[:end], number), text[end:]
	}
	end := 0
	for end < len(text) && (plainByte(text[end]) || text[end] == ':' && end+1 < len(text) && plainByte(text[end+1])) {
		end++
	}
	if end == 0 {
		return nil, ""
	}
	return p.scalar(text[:end], number), text[end:]
}

// flowParts reads a mapping or a list.
func (p *plain) flowParts(text string, number, depth int) (n *yaml.Node, rest string) {
	base := len(p.stack)
	mapping := text[0] == '{'
	made := yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle, Line: number}
	end := byte(']')
	if mapping {
		made.Kind, made.Tag, end = yaml.MappingNode, "!!map", '}'
	}
	text = strings.TrimLeft(text[1:], " ")
	for text == "" || text[0] != end {
		if mapping {
			key, value, ok := plainKey(text)
			if !ok {
				return nil, ""
			}
			p.stack = append(p.stack, p.node(yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: number}))
			text = value
		}
		n, rest := p.flow(text, number, depth+1)
		if n == nil {
			return nil, ""
		}
		p.stack = append(p.stack, n)
		text = strings.TrimLeft(rest, " ")
		if more, ok := strings.CutPrefix(text, ","); ok {
			if text = strings.TrimLeft(more, " "); text == "" || text[0] == end {
				return nil, ""
			}
		} else if text == "" || text[0] != end {
			return nil, ""
		}
	}
	made.Content = p.parts(base)
	return p.node(made), text[1:]
}

// plainByte is what words inside braces and brackets are made of.
func plainByte(c byte) bool {
	return isLetter(c) || '0' <= c && c <= '9' || strings.IndexByte("-_./", c) >= 0
}

// plainWords are words that stand for something else than themselves.
var plainWords = map[string]bool{
	"null": true, "Null": true, "NULL": true, "true": true, "True": true, "TRUE": true, "false": true, "False": true, "FALSE": true,
}

// plainKey cuts a line into a key, which is a plain word, and its value.
func plainKey(line string) (key, value string, ok bool) {
	const longest = 256 // far below what YAML allows a key
	i := 0
	for i < len(line) && i < longest && (isLetter(line[i]) || i > 0 && plainByte(line[i])) {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' || plainWords[line[:i]] {
		return "", "", false
	}
	key, value = line[:i], line[i+1:]
	if value != "" && value[0] != ' ' {
		return "", "", false
	}
	return key, strings.TrimLeft(value, " "), true
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// node keeps a node. Where the memory for them ends there is more; nodes that
// were handed out stay where they are.
func (p *plain) node(n yaml.Node) *yaml.Node {
	if len(p.nodes) == cap(p.nodes) {
		p.nodes = make([]yaml.Node, 0, max(64, 2*cap(p.nodes)))
	}
	p.nodes = append(p.nodes, n)
	return &p.nodes[len(p.nodes)-1]
}

// parts takes what is on the stack above base.
func (p *plain) parts(base int) []*yaml.Node {
	parts := p.stack[base:]
	if len(p.content)+len(parts) > cap(p.content) {
		p.content = make([]*yaml.Node, 0, max(64, 2*cap(p.content), len(parts)))
	}
	from := len(p.content)
	p.content = append(p.content, parts...)
	p.stack = p.stack[:base]
	return p.content[from:len(p.content):len(p.content)]
}
