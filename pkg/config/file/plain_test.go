package file

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/test/crowd"
)

// show writes what the decoder looks at of a node and those below it.
func showNode(b *strings.Builder, n *yaml.Node, line int) {
	fmt.Fprintf(b, "(%d %s %q %d", n.Kind, n.Tag, n.Value, n.Line+line)
	for _, kid := range n.Content {
		showNode(b, kid, line)
	}
	b.WriteString(")")
}

// agree holds plain to the library for one document, and reports whether it
// read it at all.
func agree(t *testing.T, p *plain, text string, first int) bool {
	t.Helper()
	n, known := p.document(text, first)
	if !known {
		return false
	}
	var got, want strings.Builder
	if n != nil {
		showNode(&got, n, 0)
	}
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	switch {
	case err == io.EOF:
	case err != nil:
		t.Fatalf("the library refuses %q: %v; plain reads %s", text, err, got.String())
	case !isNull(doc.Content[0]):
		showNode(&want, doc.Content[0], first-1)
	}
	if got.String() != want.String() {
		t.Fatalf("of %q\nplain makes   %s\nthe library  %s", text, got.String(), want.String())
	}
	if err == nil && dec.Decode(&more) != io.EOF {
		t.Fatalf("%q is more than one document", text)
	}
	return true
}

func TestUsualTriggersAreReadWithoutTheLibrary(t *testing.T) {
	var p plain
	for i := range 100 {
		text := crowd.Document(i, crowd.Mixed(i), "http://sub.default.svc.cluster.local/path?x=1")
		if !agree(t, &p, text, 1+i) {
			t.Errorf("is left to the library:\n%s", text)
		}
	}
	for _, text := range []string{
		"", "\n", "# nothing\n", "---\n", "---\n# nothing\n\n",
		"a: b\n", "a: b", "---\na: b\n\n# more\nc: \"d # e\"\nf:\n  g: 'h: i'\n  j:\nk: 10\n",
		"filters:\n- exact:\n    type: a\n- not:\n    suffix:\n      type: b\n  x: y\nafter: c\n",
		"filters:\n  - all:\n      - exact:\n          type: a b, [c] {d} & e * f ! g ? h | i > j % k\nz: http://x:80/y\n",
		"metadata:\n  annotations:\n    penstock.dev/rate: \"10\"\n  name: a\n",
		"a:\n  - b: 0\n    c:\n    - d: e\n    f: g\n",
		"metadata: {name: t00001}\nspec:\n  broker: default\n  filter: {attributes: {type: com.example.a}}\n  subscriber: {uri: \"http://a:80/b?c\"}\n",
		"filters:\n  - {exact: {type: a, source: '/b, c'}}\n  - any: [{prefix: {type: a.}}, { suffix: { type: b-c } }]\n  - x: []\n    y: {}\nurl: {uri: http://a:80/b}\n",
	} {
		if !agree(t, &p, text, 1) {
			t.Errorf("is left to the library: %q", text)
		}
	}
}

// FuzzPlain looks for a document that plain reads otherwise than the library.
func FuzzPlain(f *testing.F) {
	for _, text := range []string{
		"a: b\n c: d\n", "a:\n b\n", "a: b\n\n  c\n", "a: - b\n", "a: 1e3\nb: 0x1\nc: 2020-01-02\nd: 1_0\ne: 00\nf: ~\n", "yes: no\non: off\ny: n\n",
		"a: true\n", "null: a\n", "a: b: c\n", "a: b:\n", "a: b #c\n", "a: \"b\\\"\"\n", "a: 'b''c'\n", "- a: b\n", "a:\n- b\n", "a:\n-  b: c\n", "a:\n- - b: c\n",
		"a:\n  b: c\n d: e\n", "a:\n    b: c\n  d: e\n", "a:\n- b: c\n d: e\n", "a:\n- b: c\n   d: e\n", "a:\n  - b: c\nd:\n- e: f\n  g: h\n", "---\na: b\n---\n", "--- \n", "----: a\n", "a: b\n...\n",
		"%YAML 1.1\n---\na: b\n", "a: |\n  b\n", "a: &b c\n", "a: <<\n<<: b\n", "a: inf\nb: NaN\nc: .inf\n", "a:  b\n", "a:\tb\n", "a : b\n", "a: \n", "? a\n: b\n", "a: ''\nb: \"\"\n", "a: b\na: c\n",
		"a:\n# c\n  # d\n  b: c\n# e\n  d: e\n", "a: b\n# c\n  d\n", "a: Yes\nb: ON\nc: /x\nd: x/y#z\n",
		"a: {b}\n", "a: {b:c}\n", "a: {b: }\n", "a: {b: c,}\n", "a: {,}\n", "a: [b: c]\n", "a: {b: c d}\n", "a: {b: \"c\"d}\n", "a: {\"b\":c}\n", "a: {b: {c: d}\n", "a: {b: c}}\n", "a: {b: c} #d\n", "a: {b: c}#d\n",
		"a: {b: c}\n d: e\n", "- {a: b}\n", "a:\n- {b: c}\n  d: e\n", "a: [1, -2, .5, b:c, d:]\n", "a: {b: 'c''d'}\n", "a: [a, b\n, c]\n", "a: { b: c , d: e }\n", "a: {b: ...}\n", "a: {b: -}\n", "a: [---, ...]\n", "{a: b}\n", "a: {b: true}\n", "a: {true: b}\n",
	} {
		f.Add([]byte(text))
	}
	for _, pattern := range []string{"testdata/*.yaml", "testdata/problems/*.yaml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			for doc := range bytes.SplitSeq(data, []byte("---\n")) {
				f.Add(doc)
			}
		}
	}
	for i := range 100 {
		f.Add([]byte(crowd.Document(i, crowd.Mixed(i), "http://a")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p plain
		agree(t, &p, string(data), 7)
	})
}

// What goes wrong in YAML goes wrong with indents: documents of lines that are
// each fine by themselves.
func TestRandomLinesAreReadAsTheLibraryReadsThem(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	lines := []string{"a: b", "a:", "- a: b", "- a:", "b: \"c\"", "- b: 'c'", "c: 1", "# d", "", "d: e f", "- e", "f", "a: {b: c, d: [1, \"e\"]}", "- {a: b}", "- [a]", "b: [c, {d: e}]"}
	var p plain
	read := 0
	for range 30_000 {
		var b strings.Builder
		for range 1 + r.IntN(7) {
			b.WriteString(strings.Repeat(" ", r.IntN(4)*r.IntN(3)) + lines[r.IntN(len(lines))] + "\n")
		}
		if agree(t, &p, b.String(), 1) {
			read++
		}
	}
	if read < 1_500 {
		t.Errorf("plain has read %d documents: too few to tell anything", read)
	}
}
