package file

import (
	"bytes"
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
	objects  []*config.Object
	settings map[settingsKey]map[string]string // data of its ConfigMaps
	problems []config.Problem
}

type settingsKey struct{ namespace, name string }

// parse reads the documents of one file. An error means that the file is not
// YAML or beyond a bound, and nothing of it can be trusted; whatever is wrong
// with a single document is a fault or a problem and leaves the others alone.
func parse(path string, data []byte) (*contents, error) {
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%s: %d bytes: a file may have at most %d MiB: split it", path, len(data), MaxFileBytes>>20)
	}
	p := parser{path: path, budget: maxNodes, intern: make(map[string]string), out: &contents{settings: make(map[settingsKey]map[string]string)}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxError(path, err)
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			p.document(doc.Content[0], 0)
		}
	}
	if p.budget < 0 {
		return nil, fmt.Errorf("%s: comes to more than %d values once its aliases are followed: write it without them", path, maxNodes)
	}
	return p.out, nil
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
	intern map[string]string
	out    *contents
}

func (p *parser) problem(n *yaml.Node, format string, args ...any) {
	p.out.problems = append(p.out.problems, config.Problem{
		Origin:  fmt.Sprintf("%s:%d", p.path, n.Line),
		Message: fmt.Sprintf(format, args...),
	})
}

// document reads one document, or one item of a List.
func (p *parser) document(n *yaml.Node, depth int) {
	d := &decoder{budget: &p.budget, intern: p.intern, reason: config.ReasonSpecInvalid}
	if n = d.follow(n); isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.problem(n, "is %s, not an object: want apiVersion, kind, metadata and spec", kindOf(n))
		return
	}
	var apiVersion, kind string
	top := make(map[string]*yaml.Node)
	d.pairs(n, func(*yaml.Node) {}, func(key, value *yaml.Node) { top[key.Value] = d.follow(value) })
	if v := top["apiVersion"]; v != nil {
		apiVersion = v.Value
	}
	if v := top["kind"]; v != nil {
		kind = v.Value
	}

	group, version, grouped := strings.Cut(apiVersion, "/")
	switch {
	case kind == "":
		p.problem(n, "kind: missing: every document needs apiVersion and kind")
	case apiVersion == "v1" && strings.HasSuffix(kind, "List"), grouped && group == "eventing.knative.dev" && strings.HasSuffix(kind, "List"):
		p.list(top["items"], depth)
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
	d.mapping(n, "", field{
		"apiVersion": nil,
		"kind":       nil,
		"metadata":   func(n *yaml.Node, path string) { d.metadata(n, path) },
		"spec":       spec,
		"status":     nil,
	})
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

// metadata reads name, namespace and annotations. What Kubernetes writes into
// an object that somebody exported from a cluster is accepted and has no meaning.
func (d *decoder) metadata(n *yaml.Node, path string) {
	known := field{
		"name":        d.text(&d.object.Name),
		"namespace":   d.text(&d.object.Namespace),
		"annotations": d.strings(&d.object.Annotations),
	}
	for _, ignored := range []string{
		"labels", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
		"managedFields", "ownerReferences", "finalizers", "selfLink", "generateName",
	} {
		known[ignored] = nil
	}
	d.mapping(n, path, known)
}

// configMap keeps the data of a ConfigMap, in case a Broker's spec.config names it.
func (p *parser) configMap(d *decoder, n *yaml.Node) {
	d.object = &config.Object{Kind: "ConfigMap", Namespace: DefaultNamespace}
	data := map[string]string{}
	d.mapping(n, "", field{
		"apiVersion": nil,
		"kind":       nil,
		"metadata":   func(n *yaml.Node, path string) { d.metadata(n, path) },
		"data":       d.strings(&data),
		"binaryData": nil,
		"immutable":  nil,
	})
	for _, f := range d.object.Faults {
		p.problem(n, "ConfigMap %s: %s: %s", show(d.object.FullName()), f.Field, f.Text)
	}
	p.out.settings[settingsKey{d.object.Namespace, d.object.Name}] = data
}
