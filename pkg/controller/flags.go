package controller

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"knative.dev/eventing/pkg/apis/feature"
	eventingresolver "knative.dev/eventing/pkg/resolver"
	"knative.dev/pkg/apis"
)

// Flags are Knative's feature flags and reference mappings as they stand in
// its namespace. They are read from the informer's cache whenever they are
// asked for, so they are never older than the objects that are reconciled, and
// are Knative's defaults where the ConfigMaps are absent. It is the ConfigStore
// of the generated reconcilers.
//
// All methods may be called at once.
type Flags struct {
	configMaps corev1listers.ConfigMapLister
	namespace  string

	mu        sync.Mutex
	flagsOf   *corev1.ConfigMap // what flags was read from; nil: absent
	flags     feature.Flags
	mappingOf *corev1.ConfigMap
	mapping   map[schema.GroupVersionKind]*template.Template
}

// NewFlags reads the flags in Knative's namespace.
func NewFlags(configMaps corev1listers.ConfigMapLister, namespace string) *Flags {
	defaults, _ := feature.NewFlagsConfigFromMap(nil) // fails for no map
	return &Flags{configMaps: configMaps, namespace: namespace, flags: defaults}
}

// Concerns reports whether a ConfigMap, or the tombstone of one, is one that
// flags are read from.
func (f *Flags) Concerns(obj any) bool {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	cm, ok := obj.(*corev1.ConfigMap)
	return ok && cm.Namespace == f.namespace && (cm.Name == feature.FlagsConfigName || cm.Name == eventingresolver.ConfigMapName)
}

// Load is the flags at this moment. They must not be changed.
func (f *Flags) Load() feature.Flags {
	cm := f.read(feature.FlagsConfigName)
	f.mu.Lock()
	defer f.mu.Unlock()
	if cm != f.flagsOf {
		var data map[string]string
		if cm != nil {
			data = cm.Data
		}
		f.flags, _ = feature.NewFlagsConfigFromMap(data)
		f.flagsOf = cm
	}
	return f.flags
}

// ToContext puts the flags where Knative's own code looks for them.
func (f *Flags) ToContext(ctx context.Context) context.Context {
	return feature.ToContext(ctx, f.Load())
}

// Map resolves references that the operator has given a template for
// (kreference-mapping). It is a resolver.RefResolverFunc.
func (f *Flags) Map(ctx context.Context, ref *corev1.ObjectReference) (bool, *apis.URL, error) {
	if !feature.FromContext(ctx).IsEnabled(feature.KReferenceMapping) {
		return false, nil, nil
	}
	tmpl := f.templates()[ref.GroupVersionKind()]
	if tmpl == nil {
		return false, nil, nil
	}
	var out bytes.Buffer
	err := tmpl.Execute(&out, eventingresolver.MappingResolverTemplateValues{
		Name: ref.Name, Namespace: ref.Namespace, UID: ref.UID, SystemNamespace: f.namespace,
	})
	if err != nil {
		return true, nil, fmt.Errorf("template of ConfigMap %s: %w", eventingresolver.ConfigMapName, err)
	}
	url, err := apis.ParseURL(out.String())
	if err != nil || url.Host == "" {
		return true, nil, fmt.Errorf("template of ConfigMap %s for %s does not give a URL", eventingresolver.ConfigMapName, ref.Kind)
	}
	return true, url, nil
}

// templates parses the mapping when it has changed. A key that is not one, or
// a template that does not parse, is as if it were absent.
func (f *Flags) templates() map[schema.GroupVersionKind]*template.Template {
	cm := f.read(eventingresolver.ConfigMapName)
	f.mu.Lock()
	defer f.mu.Unlock()
	if cm == f.mappingOf {
		return f.mapping
	}
	f.mappingOf, f.mapping = cm, make(map[schema.GroupVersionKind]*template.Template)
	if cm == nil {
		return f.mapping
	}
	for key, text := range cm.Data {
		kind, core := schema.ParseKindArg(key)
		if kind == nil {
			// Kind.version of the core group reads as Kind.group.
			kind = &schema.GroupVersionKind{Kind: core.Kind, Version: core.Group}
		}
		if tmpl, err := template.New(key).Parse(text); err == nil {
			f.mapping[*kind] = tmpl
		}
	}
	return f.mapping
}

func (f *Flags) read(name string) *corev1.ConfigMap {
	cm, err := f.configMaps.ConfigMaps(f.namespace).Get(name)
	if err != nil {
		return nil // a lister fails with NotFound only
	}
	return cm
}
