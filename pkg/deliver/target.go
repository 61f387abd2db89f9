package deliver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Target is a destination made ready: what is the same for every event sent
// there is worked out once. Lanes hold one. It does not change and may be used
// by any number of goroutines, with the Client that made it only.
type Target struct {
	destination string // exactly as configured
	display     string // for people

	err   error // why nothing can be delivered here, else nil
	head  []byte
	reply bool
	pool  *pool
}

// TargetOptions are the static parts of the requests to a target.
type TargetOptions struct {
	// Namespace is the Trigger's, sent as Kn-Namespace. Empty sends none.
	Namespace string

	// Reply asks the subscriber for a reply ("Prefer: reply", Knative
	// specification, data plane, Event Delivery) and takes it. Without it, as
	// for a dead letter sink, the body of a good answer is thrown away.
	Reply bool
}

// Target prepares a destination. It never fails: a destination that is not a
// usable URL makes every attempt fail with the reason, because a Trigger with
// such a subscriber is ready and its events become dead letters.
func (c *Client) Target(destination string, o TargetOptions) *Target {
	t := &Target{destination: destination, reply: o.Reply}
	u, err := parseDestination(destination)
	t.display = display(u, destination)
	if err == nil && !validHeaderValue(o.Namespace) {
		err = fmt.Errorf("namespace %q cannot be sent in a header", o.Namespace)
	}
	if err != nil {
		t.err = err
		return t
	}

	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	t.pool = c.pool(poolKey{secure: u.Scheme == "https", host: u.Hostname(), addr: net.JoinHostPort(u.Hostname(), port)})

	var b strings.Builder
	b.WriteString("POST " + requestTarget(u) + " HTTP/1.1\r\nHost: " + hostHeader(u) + "\r\nUser-Agent: " + c.o.UserAgent + "\r\n")
	if o.Reply {
		b.WriteString("Prefer: reply\r\n")
	}
	if o.Namespace != "" {
		b.WriteString("Kn-Namespace: " + o.Namespace + "\r\n")
	}
	t.head = []byte(b.String())
	return t
}

// Destination is the text the target was made from, unchanged.
func (t *Target) Destination() string { return t.destination }

// Err is why nothing can be delivered to the target, nil if it is usable.
func (t *Target) Err() error { return t.err }

// parseDestination accepts absolute http and https URLs. It returns the URL
// also with an error, if the text is a URL at all.
func parseDestination(destination string) (*url.URL, error) {
	u, err := url.Parse(destination)
	if err != nil {
		// The outer error repeats the text, which may hold a password.
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, fmt.Errorf("not a URL: %w", err)
	}
	switch {
	case u.Scheme == "":
		return u, errors.New("not an absolute URL: want http://host/path or https://host/path")
	case u.Scheme != "http" && u.Scheme != "https":
		return u, fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	case u.User != nil:
		return u, errors.New("a URL with a user or password is refused: it would be sent in the clear and kept in dead letters")
	case u.Hostname() == "":
		return u, errors.New("the URL has no host")
	case !validHost(u.Host):
		return u, fmt.Errorf("host %q: want letters, digits, dots and hyphens, others in punycode", u.Host)
	case u.Port() == "0":
		return u, errors.New("port 0 cannot be connected to")
	}
	return u, nil
}

// validHost accepts what may stand in a Host header: a DNS name (with the
// underscore that some use), an IPv4 address or a bracketed IPv6 address.
func validHost(host string) bool {
	for i := range len(host) {
		c := host[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._:[]%", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// requestTarget is path and query as they stand in the request line. A query
// is kept by net/url as it was written, so what would end the request target or
// is not ASCII is encoded here.
func requestTarget(u *url.URL) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for s, i := u.RequestURI(), 0; i < len(s); i++ {
		if c := s[i]; c > ' ' && c < 0x7f {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// hostHeader is the URL's host without an IPv6 zone, which means nothing to
// the peer (RFC 6874, 4).
func hostHeader(u *url.URL) string {
	host := u.Host
	if at := strings.IndexByte(host, '%'); at >= 0 {
		if end := strings.IndexByte(host, ']'); end > at {
			host = host[:at] + host[end:]
		}
	}
	return host
}

// display is a destination as errors name it. Query, user and fragment are
// left out: they are where people put secrets.
func display(u *url.URL, destination string) string {
	if u != nil && destination != "" {
		clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath, Opaque: u.Opaque}
		return clip(clean.String())
	}
	if end := strings.IndexAny(destination, "?#"); end >= 0 {
		destination = destination[:end]
	}
	if user := strings.LastIndexByte(destination, '@'); user >= 0 {
		destination = destination[user+1:]
	}
	return strconv.Quote(clip(destination))
}

// validHeaderValue refuses what would end or split a header line.
func validHeaderValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
