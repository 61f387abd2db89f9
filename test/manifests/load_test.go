package manifests

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
)

// root of the repository.
var root = filepath.Join("..", "..")

// object is one document of a manifest.
type object struct {
	file  string
	kind  schema.GroupVersionKind
	meta  *unstructured.Unstructured
	typed runtime.Object // nil for kinds that are not Kubernetes' own
}

func (o object) String() string { return o.file + ": " + o.kind.Kind + " " + o.meta.GetName() }

// foreign are the kinds of others that our overlays use.
var foreign = []string{"networking.istio.io", "security.istio.io", "keda.sh", "monitoring.coreos.com"}

// parse reads the documents of one manifest strictly: a field that Kubernetes
// does not know, or that is there twice, is an error.
func parse(t *testing.T, file string, text []byte) []object {
	t.Helper()
	strict := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, kjson.SerializerOptions{Yaml: true, Strict: true})
	var all []object
	for _, doc := range documents(t, file, text) {
		plain := &unstructured.Unstructured{}
		if err := yamlv3.Unmarshal(doc, &plain.Object); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		o := object{file: file, kind: plain.GroupVersionKind(), meta: plain}
		if o.kind.Kind == "" {
			t.Errorf("%s: a document has no kind", file)
			continue
		}
		if !slices.Contains(foreign, o.kind.Group) {
			typed, _, err := strict.Decode(doc, nil, nil)
			if err != nil {
				t.Errorf("%v: %v", o, err)
				continue
			}
			o.typed = typed
		}
		all = append(all, o)
	}
	return all
}

func documents(t *testing.T, file string, text []byte) [][]byte {
	t.Helper()
	var all [][]byte
	for dec := yamlv3.NewDecoder(bytes.NewReader(text)); ; {
		var node yamlv3.Node
		if err := dec.Decode(&node); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		doc, err := yamlv3.Marshal(&node)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, doc)
	}
}

// folder reads what `kubectl apply -f` would of a folder: its YAML files, in
// the order of their names, and nothing below.
func folder(t *testing.T, parts ...string) []object {
	t.Helper()
	dir := filepath.Join(append([]string{root}, parts...)...)
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no YAML: %v", dir, err)
	}
	slices.Sort(files)
	var all []object
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(root, f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parse(t, name, text)...)
	}
	return all
}

// applied are the folders that `ko apply -f` is for.
var applied = []string{"config", "deploy/autoscaling", "deploy/backup", "deploy/backup/restore", "deploy/istio", "deploy/keda",
	"deploy/network-policy", "deploy/standalone"}

// rendered is what `kubectl kustomize` makes of an overlay.
func rendered(t *testing.T, dir string) []object {
	t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("SKIPPED: kubectl is not here, so overlays are not rendered")
	}
	cmd := exec.Command(kubectl, "kustomize", filepath.Join(root, filepath.FromSlash(dir)))
	var errOut strings.Builder
	cmd.Stderr = &errOut
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v\n%s", dir, err, errOut.String())
	}
	return parse(t, dir, text)
}

// every returns the objects of a type.
func every[T runtime.Object](objects []object) []T {
	var all []T
	for _, o := range objects {
		if typed, ok := o.typed.(T); ok {
			all = append(all, typed)
		}
	}
	return all
}
