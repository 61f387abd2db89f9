package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrs "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"knative.dev/eventing/pkg/apis/feature"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	knative "knative.dev/pkg/controller"
	"knative.dev/pkg/resolver"
	"knative.dev/pkg/tracker"
)

// Resolver finds the URLs of destinations, and sees to it that an object is
// reconciled again when what it refers to changes.
type Resolver struct {
	find   *resolver.URIResolver
	groups discovery.ServerGroupsInterface
}

// NewResolver makes a Resolver. ctx must come from Knative's injection and
// ends its watches. groups finds API versions of groups; nil knows none.
func NewResolver(ctx context.Context, t tracker.Interface, flags *Flags, groups discovery.ServerGroupsInterface) *Resolver {
	return &Resolver{find: resolver.NewURIResolverFromTracker(ctx, t, flags.Map), groups: groups}
}

// Unresolved is why a destination has no URL, and how to cure it.
type Unresolved struct {
	Message string
	Invalid bool // the declaration itself is wrong: no change elsewhere cures it
	Again   bool // nobody will tell when this is cured: look again after a while
}

// Resolve finds the address of a destination of parent. A reference without a
// namespace is one to parent's.
func (r *Resolver) Resolve(ctx context.Context, d duckv1.Destination, parent object) (*duckv1.Addressable, *Unresolved) {
	switch {
	case d.CACerts != nil && *d.CACerts != "":
		return nil, &Unresolved{Message: "CACerts: own certificate authorities are not supported yet: remove it", Invalid: true}
	case d.Audience != nil && *d.Audience != "":
		return nil, &Unresolved{Message: "audience: OIDC tokens are not supported yet: remove it", Invalid: true}
	case d.Ref == nil && d.URI == nil:
		return nil, &Unresolved{Message: "neither ref nor uri is given: give one", Invalid: true}
	}
	if d.Ref != nil {
		ref := *d.Ref
		if ref.Namespace == "" {
			ref.Namespace = parent.GetNamespace()
		}
		if why := r.version(ctx, &ref); why != nil {
			return nil, why
		}
		d.Ref = &ref
	}
	found, err := r.find.AddressableFromDestinationV1(ctx, d, parent)
	if err != nil {
		return nil, explain(d, err)
	}
	if found.URL == nil || found.URL.User != nil {
		// It is not repeated: it would stand in status, for all to read.
		return nil, &Unresolved{Message: "a URL with a user or password is refused: remove it", Invalid: d.Ref == nil}
	}
	return found, nil
}

// version fills in the API version of a reference that gives its group only
// (kreference-group).
func (r *Resolver) version(ctx context.Context, ref *duckv1.KReference) *Unresolved {
	if ref.APIVersion != "" || ref.Group == "" || !feature.FromContext(ctx).IsEnabled(feature.KReferenceGroup) || r.groups == nil {
		return nil
	}
	all, err := r.groups.ServerGroups()
	if err != nil {
		return &Unresolved{Message: fmt.Sprintf("ref.group: look up API group %q: %v", ref.Group, err), Again: true}
	}
	for _, g := range all.Groups {
		if g.Name == ref.Group {
			ref.APIVersion = g.PreferredVersion.GroupVersion
			return nil
		}
	}
	return &Unresolved{Message: fmt.Sprintf("ref.group: there is no API group %q here: install it, or name another", ref.Group), Again: true}
}

// explain says for people why a destination was not found.
func explain(d duckv1.Destination, err error) *Unresolved {
	if d.Ref == nil {
		return &Unresolved{Message: fmt.Sprintf("uri: %v", err), Invalid: true}
	}
	what := fmt.Sprintf("%s %s/%s", d.Ref.Kind, d.Ref.Namespace, d.Ref.Name)
	var status apierrs.APIStatus
	named := errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name == d.Ref.Name
	switch {
	case apierrs.IsNotFound(err) && named:
		return &Unresolved{Message: what + " does not exist: create it, or name another"}
	case apierrs.IsNotFound(err):
		return &Unresolved{Message: fmt.Sprintf("%s: there is no kind %s in %s here: install it, or name another", what, d.Ref.Kind, d.Ref.APIVersion), Again: true}
	case apierrs.IsForbidden(err) && d.Ref.APIVersion == "v1":
		return &Unresolved{Message: what + " is nothing that takes events: name a Service, or another addressable", Again: true}
	case apierrs.IsForbidden(err):
		return &Unresolved{Message: fmt.Sprintf("%s: the controller may not read it: label a ClusterRole that permits it duck.knative.dev/addressable=true", what), Again: true}
	case apierrs.IsBadRequest(err):
		return &Unresolved{Message: fmt.Sprintf("%s: %v: wait until it is ready, or look at its status", what, err)}
	}
	return &Unresolved{Message: fmt.Sprintf("%s: %v", what, err), Again: true}
}

// lookAgain is after how long a thing is tried again that nobody watches, with
// as much again at random, so that many do not come at once.
const lookAgain = 30 * time.Second

// LookAgain is the answer of a reconciler that wrote all it knows and wants to
// be called again although nothing may change that it watches.
func LookAgain() error {
	return knative.NewRequeueAfter(lookAgain + rand.N(lookAgain))
}
