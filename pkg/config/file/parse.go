package file

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/pkg/config"
)

// DefaultNamespace is that of an object which names none.
const DefaultNamespace = "default"

// contents are what one file declares.
type contents struct {
	objects   []*config.Object
	settings  map[settingsKey]map[string]string // data of its ConfigMaps
	problems  []config.Problem
	documents map[[sha256.Size]byte]document // those that need not be read again
}

type settingsKey struct{ namespace, name string }

// document is one that declares an object and nothing else, and has no problem.
type document struct {
	object *config.Object
	line   int // on which the document begins
	cost   int // nodes visited
}

// parse reads the documents of one file. An error means that the file is not
// YAML or beyond a bound, and nothing of it can be trusted; whatever is wrong
// with a single document is a fault or a problem and leaves the others alone.
// before is what the file held the last time, or nil: of a document that stands
// in it byte for byte the object is taken from there.
func parse(path string, data []byte, before *contents) (*contents, error) {
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%s: %d bytes: a file may have at most %d MiB: split it", path, len(data), MaxFileBytes>>20)
	}
	p := newParser(path)
	if !separable(data) || !p.documents(data, before) {
		// As one stream, to the library: what is wrong is then told by it alone.
		p = newParser(path)
		if err := p.stream(data); err != nil {
			return nil, err
		}
	}
	if p.budget < 0 {
		return nil, fmt.Errorf("%s: comes to more than %d values once its aliases are followed: write it without them", path, maxNodes)
	}
	return p.out, nil
}

// stream reads all documents with the library.
func (p *parser) stream(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return syntaxError(p.path, err)
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			p.document(doc.Content[0], 0)
		}
	}
}

// yamlLine finds the line in an error of the YAML library, which has no field for it.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func syntaxError(path string, err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if text = m[2]; m[1] != "" {
			path += ":" + m[1]
		}
	}
	return fmt.Errorf("%s: not YAML: %s: correct the line, or the one before it", path, clip(text))
}

type parser struct {
	path   string
	budget int
	paths  paths
	lines  []config.FieldLine // of the object at hand
	plain  plain
	out    *contents
}

func newParser(path string) *parser {
	return &parser{path: path, budget: maxNodes, paths: newPaths(), out: &contents{settings: make(map[settingsKey]map[string]string)}}
}

func (p *parser) problem(n *yaml.Node, format string, args ...any) {
	p.out.problems = append(p.out.problems, config.Problem{
		Origin:  fmt.Sprintf("%s:%d", p.path, n.Line),
		Message: fmt.Sprintf(format, args...),
	})
}

// document reads one document, or one item of a List.
func (p *parser) document(n *yaml.Node, depth int) {
	d := &decoder{budget: &p.budget, paths: &p.paths, lines: p.lines[:0], reason: config.ReasonSpecInvalid}
	if n = d.follow(n); isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.problem(n, "is %s, not an object: want apiVersion, kind, metadata and spec", kindOf(n))
		return
	}
	var apiVersion, kind string
	var items *yaml.Node
	d.pairs(n, func(*yaml.Node) {}, func(key, value *yaml.Node) {
		value = d.follow(value)
		switch key.Value {
		case "apiVersion":
			apiVersion = value.Value
		case "kind":
			kind = value.Value
		case "items":
			items = value
		}
	})

	group, version, grouped := strings.Cut(apiVersion, "/")
	switch {
	case kind == "":
		p.problem(n, "kind: missing: every document needs apiVersion and kind")
	case apiVersion == "v1" && strings.HasSuffix(kind, "List"), grouped && group == "eventing.knative.dev" && strings.HasSuffix(kind, "List"):
		p.list(items, depth)
	case apiVersion == "v1" && kind == "ConfigMap":
		p.configMap(d, n)
	case kind != config.KindBroker && kind != config.KindTrigger:
		p.problem(n, "%s %s is ignored: only Brokers and Triggers are read%s", show(apiVersion), show(kind), config.Suggest(kind, []string{config.KindBroker, config.KindTrigger}))
	case group != "eventing.knative.dev":
		p.problem(n, "apiVersion: %q is not that of a %s, which is ignored: write eventing.knative.dev/v1", clip(apiVersion), kind)
	default:
		switch version {
		case "v1":
		case "v1beta1", "v1alpha1":
			p.problem(n, "apiVersion: %s is read as eventing.knative.dev/v1: change it to that", apiVersion)
		default:
			p.problem(n, "apiVersion: %q is not known, the %s is ignored: write eventing.knative.dev/v1", clip(apiVersion), kind)
			return
		}
		p.object(d, n, kind)
	}
}

func (p *parser) list(items *yaml.Node, depth int) {
	if items == nil || isNull(items) {
		return
	}
	if items.Kind != yaml.SequenceNode || depth > 0 {
		p.problem(items, "items: want a list of objects, and no List inside it")
		return
	}
	for _, item := range items.Content {
		p.document(item, depth+1)
	}
}

// object reads a Broker or a Trigger.
func (p *parser) object(d *decoder, n *yaml.Node, kind string) {
	o := &config.Object{Kind: kind, Namespace: DefaultNamespace, File: p.path, Line: n.Line}
	d.object = o
	spec := d.trigger
	if kind == config.KindBroker {
		o.Broker, spec = new(config.BrokerSpec), d.broker
	} else {
		o.Trigger = new(config.TriggerSpec)
	}
	d.mapping(n, "", &objectFields, func(name string, n *yaml.Node, path string) {
		if name == "metadata" {
			d.metadata(n, path)
		} else {
			spec(n, path)
		}
	})
	o.Lines, p.lines = p.paths.lines(d.lines, o.Line), d.lines
	if err := config.CheckName(o.Namespace, o.Name); err != nil {
		p.problem(n, "%s is ignored: %v", kind, err)
		return
	}
	if class, other := o.OtherClass(); other {
		p.problem(n, "Broker %s is ignored: its class is %q: it is served here with %s: %s, or without the annotation", o.FullName(), clip(class), config.ClassAnnotation, config.BrokerClass)
		return
	}
	p.out.objects = append(p.out.objects, o)
}

// configMap keeps the data of a ConfigMap, in case a Broker's spec.config names it.
func (p *parser) configMap(d *decoder, n *yaml.Node) {
	d.object = &config.Object{Kind: "ConfigMap", Namespace: DefaultNamespace}
	data := map[string]string{}
	d.mapping(n, "", &configMapFields, func(name string, n *yaml.Node, path string) {
		if name == "metadata" {
			d.metadata(n, path)
		} else {
			d.strings(n, path, &data)
		}
	})
	for _, f := range d.object.Faults {
		p.problem(n, "ConfigMap %s: %s: %s", show(d.object.FullName()), f.Field, f.Text)
	}
	p.out.settings[settingsKey{d.object.Namespace, d.object.Name}] = data
}
