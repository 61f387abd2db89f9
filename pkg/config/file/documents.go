package file

import (
	"bytes"
	"crypto/sha256"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/pkg/config"
)

// separable reports whether each document of a file can be read by itself: no
// anchor, which the library lets other documents refer to, no directive or
// explicit end, and bytes and lines as documents in UTF-8 have them.
func separable(data []byte) bool {
	if bytes.IndexByte(data, '\r') >= 0 || bytes.IndexByte(data, 0) >= 0 {
		return false
	}
	if len(data) > 0 && data[0] >= 0x80 {
		return false // a byte order mark
	}
	for rest := data; ; {
		i := bytes.IndexByte(rest, '&')
		if i < 0 {
			break
		}
		if i == 0 || !isLetter(rest[i-1]) && (rest[i-1] < '0' || rest[i-1] > '9') {
			return false
		}
		// What follows a letter or digit is in the middle of a scalar.
		rest = rest[i+1:]
	}
	for _, mark := range []string{"...", "%"} {
		if bytes.HasPrefix(data, []byte(mark)) || bytes.Contains(data, []byte("\n"+mark)) {
			return false
		}
	}
	// Line ends that only YAML knows, which would put its count of lines off ours.
	for _, end := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(data, []byte(end)) {
			return false
		}
	}
	return true
}

// documents reads them one by one. false means that something is wrong with
// one of them: what was read is to be forgotten.
func (p *parser) documents(data []byte, before *contents) bool {
	n := min(bytes.Count(data, []byte("\n---"))+1, config.MaxObjects)
	p.out.objects = make([]*config.Object, 0, n)
	p.out.documents = make(map[[sha256.Size]byte]document, n)
	for line := 1; len(data) > 0; {
		end := nextDocument(data)
		if !p.piece(data[:end], line, before) {
			return false
		}
		line += bytes.Count(data[:end], []byte{'\n'})
		data = data[end:]
	}
	return true
}

// nextDocument is where the first document of data ends: before the next line
// that begins with three hyphens and has nothing or a blank after them.
func nextDocument(data []byte) int {
	const mark = "\n---"
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte(mark))
		if i < 0 {
			return len(data)
		}
		at += i + 1
		after := at + len(mark) - 1
		if after == len(data) || data[after] == '\n' || data[after] == ' ' || data[after] == '\t' {
			return at
		}
	}
}

// piece reads one document, or takes over what it declared before.
func (p *parser) piece(data []byte, line int, before *contents) bool {
	sum := sha256.Sum256(data)
	if before != nil {
		if d, ok := before.documents[sum]; ok {
			p.again(sum, d, line)
			return true
		}
	}
	objects, problems, settings, budget := len(p.out.objects), len(p.out.problems), len(p.out.settings), p.budget
	// Of its own, so that what is kept of one document keeps no other.
	text := string(data)
	n, known := p.plain.document(text, line)
	if !known {
		var doc, more yaml.Node
		dec := yaml.NewDecoder(bytes.NewReader(data))
		switch err := dec.Decode(&doc); {
		case err == io.EOF:
		case err != nil, dec.Decode(&more) != io.EOF:
			return false
		case doc.Kind == yaml.DocumentNode && len(doc.Content) == 1:
			n = doc.Content[0]
			lower(n, line-1)
		}
	}
	if n != nil {
		p.document(n, 0)
	}
	if len(p.out.objects) == objects+1 && len(p.out.problems) == problems && len(p.out.settings) == settings {
		p.out.documents[sum] = document{object: p.out.objects[objects], line: line, cost: budget - p.budget}
	}
	return true
}

// again takes over a document, wherever in the file it stands now.
func (p *parser) again(sum [sha256.Size]byte, d document, line int) {
	if d.line != line {
		o := new(config.Object)
		*o = *d.object
		o.Line += line - d.line
		d.object, d.line = o, line
	}
	p.budget -= d.cost
	p.out.objects = append(p.out.objects, d.object)
	p.out.documents[sum] = d
}

// lower moves nodes down by some lines. There is no alias among them.
func lower(n *yaml.Node, by int) {
	n.Line += by
	for _, kid := range n.Content {
		lower(kid, by)
	}
}
