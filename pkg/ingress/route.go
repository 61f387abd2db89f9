package ingress

import (
	"strings"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Target is where the events of one broker go.
type Target struct {
	UID      channel.UID
	Name     string // namespace/name: the label of its metrics
	Appender channel.Appender

	// Ready is nil while the broker accepts events, otherwise why not, in one
	// line for the sender: 503.
	Ready error

	// Limit bounds the events a second that the broker accepts: 429. nil is no bound.
	Limit *Limit

	// Durability is told with every 202 where an accepted event may be lost in
	// a crash ("memory"). It is empty where it may not.
	Durability string
}

// Routes finds a broker by its exact name. It is called for every request by
// any number of goroutines and must not block: it reads a snapshot.
type Routes func(namespace, name string) (Target, bool)

// splitPath takes /NAMESPACE/BROKER apart. It looks at the path as it came,
// escapes and all, so that an encoded slash can never become a separator. One
// trailing slash is dropped. shape says whether there are two segments at
// all; ok whether both may be names of Kubernetes objects.
func splitPath(escaped string) (namespace, name string, shape, ok bool) {
	path, found := strings.CutPrefix(escaped, "/")
	if !found {
		return "", "", false, false
	}
	path = strings.TrimSuffix(path, "/")
	namespace, name, found = strings.Cut(path, "/")
	if !found || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", false, false
	}
	return namespace, name, true, isLabel(namespace) && isSubdomain(name)
}

// isLabel reports whether s is a DNS-1123 label, as namespaces are.
func isLabel(s string) bool { return len(s) <= 63 && isPart(s) }

// isSubdomain reports whether s is a DNS-1123 subdomain, as other objects'
// names are: parts joined by dots, 253 bytes in all. Kubernetes sets no
// bound for a single part.
func isSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !isPart(part) {
			return false
		}
	}
	return true
}

func isPart(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
