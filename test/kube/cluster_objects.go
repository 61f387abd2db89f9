package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// SetFlag sets a feature flag of Knative for the rest of the test. Tests that
// use it do not run in parallel: flags are the cluster's.
func (s *Space) SetFlag(name, value string) {
	s.t.Helper()
	maps := s.Kube.CoreV1().ConfigMaps(Knative)
	before, err := maps.Get(s.ctx, "config-features", metav1.GetOptions{})
	if err != nil {
		s.t.Skipf("no feature flags on this cluster: %v", err)
	}
	set := func(to any) error {
		patch, err := json.Marshal(map[string]any{"data": map[string]any{name: to}})
		if err != nil {
			return err
		}
		_, err = maps.Patch(s.ctx, "config-features", types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	if err := set(value); err != nil {
		s.t.Fatalf("set the flag %s: %v", name, err)
	}
	s.t.Cleanup(func() {
		// Objects that only the flag allows cannot be written to after it.
		if err := s.Eventing.EventingV1().Triggers(s.Name).DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			s.t.Errorf("remove the Triggers: %v", err)
		}
		var old any // null removes
		if was, present := before.Data[name]; present {
			old = was
		}
		if err := set(old); err != nil {
			s.t.Errorf("put the flag %s back: %v", name, err)
		}
	})
}

// CRDs is the resource of CustomResourceDefinitions.
var CRDs = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// Define makes the CustomResourceDefinitions in a file, those that are not
// there, and removes at the end of the test what it made.
func (s *Space) Define(path string) {
	s.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var o unstructured.Unstructured
		if err := d.Decode(&o.Object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			s.t.Fatalf("%s: %v", path, err)
		}
		if len(o.Object) == 0 {
			continue
		}
		name := o.GetName()
		switch _, err := s.Dynamic.Resource(CRDs).Create(s.ctx, &o, metav1.CreateOptions{}); {
		case apierrors.IsAlreadyExists(err):
		case err != nil:
			s.t.Fatalf("make %s: %v", name, err)
		default:
			s.t.Cleanup(func() {
				if err := s.Dynamic.Resource(CRDs).Delete(s.ctx, name, metav1.DeleteOptions{}); err != nil {
					s.t.Errorf("remove %s: %v", name, err)
				}
			})
		}
		s.Eventually(name+" is established", Patience, func() (bool, string) {
			got, err := s.Dynamic.Resource(CRDs).Get(s.ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
			for _, c := range conditions {
				if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
					return true, ""
				}
			}
			return false, fmt.Sprint(conditions)
		})
	}
}
