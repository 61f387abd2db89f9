package config

import (
	"fmt"
	"net/url"
	"strings"
)

// Resolver finds the URL of what a reference names. It must be fast and must
// not block; its error says in one line how to make the URL known.
type Resolver func(Reference) (string, error)

// destinationError is why a Destination has no URL.
type destinationError struct {
	field      string // below the destination: ".uri", ".ref", or ""
	text       string
	unresolved bool // the declaration is good, the URL is not known
}

func (e *destinationError) Error() string {
	if e.field == "" {
		return e.text
	}
	return strings.TrimPrefix(e.field, ".") + ": " + e.text
}

// destination is the URL of a Destination (duck.knative.dev/v1): that of its
// uri exactly as written, of its ref, or of its uri relative to its ref.
//
// An absolute uri is taken whatever its scheme. That it cannot be delivered to
// shows at each attempt and ends in dead letters: Knative's conformance tests
// declare bad://uri and expect a Trigger that is ready.
//
// Where the source has found the URL itself, found is what it found.
func (c *compiler) destination(o *Object, d *Destination, found *string) (string, *destinationError) {
	switch {
	case d.CACerts != "":
		return "", &destinationError{field: ".CACerts", text: "own certificate authorities are not supported yet: remove it and trust them in the system's pool"}
	case d.Audience != "":
		return "", &destinationError{field: ".audience", text: "OIDC tokens are not supported yet: remove it"}
	case d.Ref == nil && d.URI == "":
		return "", &destinationError{text: "missing: give a uri, or a ref"}
	case found != nil && *found == "":
		return "", &destinationError{text: "its URL is not known yet", unresolved: true}
	case found != nil:
		return *found, nil
	case d.Ref == nil:
		if err := checkAbsolute(d.URI); err != nil {
			return "", &destinationError{field: ".uri", text: err.Error()}
		}
		return d.URI, nil
	}

	ref := *d.Ref
	if ref.Namespace == "" {
		ref.Namespace = o.Namespace
	}
	if ref.Kind == "" || ref.Name == "" {
		return "", &destinationError{field: ".ref", text: "needs kind and name"}
	}
	base, err := c.reference(ref)
	if err != nil {
		return "", &destinationError{field: ".ref", text: err.Error(), unresolved: true}
	}
	if d.URI == "" {
		return base, nil
	}
	relative, err := url.Parse(d.URI)
	if err != nil || relative.IsAbs() || relative.Host != "" {
		return "", &destinationError{field: ".uri", text: quote(d.URI) + ": beside a ref it must be relative, as in /path"}
	}
	root, err := url.Parse(base)
	if err != nil {
		return "", &destinationError{field: ".ref", text: "its URL is not one: " + hideURL(err), unresolved: true}
	}
	return root.ResolveReference(relative).String(), nil
}

// reference finds the URL of a reference whose namespace is filled in.
func (c *compiler) reference(ref Reference) (string, error) {
	err := fmt.Errorf("%s %s/%s: no URL is known for it: give a uri instead", showKind(ref.Kind), show(ref.Namespace), show(ref.Name))
	if c.Resolve != nil {
		var found string
		if found, err = c.Resolve(ref); err == nil {
			if err = checkAbsolute(found); err == nil {
				return found, nil
			}
			return "", fmt.Errorf("resolved to something else than a URL: %w", err)
		}
	}
	if !strings.EqualFold(ref.Kind, KindBroker) || c.IngressURL == "" {
		return "", err
	}
	if !c.declared[name{ref.Namespace, ref.Name}] {
		return "", fmt.Errorf("there is no Broker %s/%s%s", show(ref.Namespace), show(ref.Name), cure(c.nearBroker(ref.Namespace, ref.Name), ": declare it, or name another"))
	}
	return strings.TrimSuffix(c.IngressURL, "/") + "/" + ref.Namespace + "/" + ref.Name, nil
}

// scalesFromZero reports whether the reference names a Knative Service.
func (ref *Reference) scalesFromZero() bool {
	if ref == nil || ref.Kind != "Service" {
		return false
	}
	group, _, _ := strings.Cut(ref.APIVersion, "/")
	return group == knativeServing || ref.Group == knativeServing
}

// knativeServing is the API group of Knative Services.
const knativeServing = "serving.knative.dev"

// showKind shows a kind, which is a word of letters, or quotes it.
func showKind(kind string) string {
	for i := range len(kind) {
		if c := lower(kind[i]); c < 'a' || c > 'z' {
			return quote(kind)
		}
	}
	return kind
}

// checkAbsolute accepts a URL with a scheme and a host. A user or password is
// refused, and not repeated: it would be kept in dead letters and logs.
func checkAbsolute(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("not a URL: %s", hideURL(err))
	case u.User != nil:
		return fmt.Errorf("a URL with a user or password is refused: remove it")
	case u.Scheme == "" || u.Host == "":
		return fmt.Errorf("%s is not absolute: write it as http://host/path", quote(text))
	}
	return nil
}

// hideURL is the cause inside a url.Error, which repeats the whole text.
func hideURL(err error) string {
	if inner, ok := err.(*url.Error); ok {
		return inner.Err.Error()
	}
	return err.Error()
}

// ParseResolve reads what people give as --resolve: kind/name=URL for objects
// of that name in any namespace, kind/namespace/name=URL for one. The kind
// counts without regard to case. The Resolver's errors name the flag to add.
func ParseResolve(flags []string) (Resolver, error) {
	known := make(map[Reference]string, len(flags))
	for _, flag := range flags {
		what, to, ok := strings.Cut(flag, "=")
		parts := strings.Split(what, "/")
		if !ok || len(parts) < 2 || len(parts) > 3 {
			return nil, fmt.Errorf("--resolve %s: want kind/name=URL, as in service/orders=http://localhost:3000", quote(what))
		}
		key := Reference{Kind: strings.ToLower(parts[0]), Name: parts[len(parts)-1]}
		if len(parts) == 3 {
			key.Namespace = parts[1]
		}
		if key.Kind == "" || key.Name == "" || len(parts) == 3 && key.Namespace == "" {
			return nil, fmt.Errorf("--resolve %s: kind, namespace and name must not be empty", quote(what))
		}
		if err := checkAbsolute(to); err != nil {
			return nil, fmt.Errorf("--resolve %s: %w", what, err)
		}
		if old, twice := known[key]; twice && old != to {
			return nil, fmt.Errorf("--resolve %s: given twice with different URLs: keep one", quote(what))
		}
		known[key] = to
	}
	return func(ref Reference) (string, error) {
		key := Reference{Kind: strings.ToLower(ref.Kind), Namespace: ref.Namespace, Name: ref.Name}
		if to, ok := known[key]; ok {
			return to, nil
		}
		key.Namespace = ""
		if to, ok := known[key]; ok {
			return to, nil
		}
		return "", fmt.Errorf("%s %s/%s: no URL is known for it: start with --resolve %s/%s=http://HOST:PORT",
			showKind(ref.Kind), show(ref.Namespace), show(ref.Name), strings.ToLower(showKind(ref.Kind)), show(ref.Name))
	}, nil
}
