package api

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard keeps web pages out. The API has no login: on loopback the network is
// its guard, except against a browser on the same machine, which any page can
// send here. Two doors are shut. A page whose own name was made to resolve to
// 127.0.0.1 (DNS rebinding) comes with that name in Host. A page of another
// origin that sends here says so in Sec-Fetch-Site or Origin.
type guard struct {
	hosts map[string]bool
	cross *http.CrossOriginProtection
}

func newGuard(hosts []string) guard {
	g := guard{hosts: map[string]bool{"localhost": true}, cross: http.NewCrossOriginProtection()}
	for _, h := range hosts {
		if h != "" {
			g.hosts[hostname(h)] = true
		}
	}
	return g
}

func (g guard) check(r *http.Request) error {
	if !g.mine(r.Host) {
		return refuse(http.StatusForbidden, "host %.128q is not this API's: use an IP address or localhost", r.Host)
	}
	if err := g.cross.Check(r); err != nil {
		return refuse(http.StatusForbidden, "requests from pages of another origin are refused")
	}
	// A page cannot read our answer to its GET, but it could hold all streams.
	if site := r.Header.Get("Sec-Fetch-Site"); (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return refuse(http.StatusForbidden, "requests from pages of another origin are refused")
	}
	return nil
}

// mine reports whether a Host header names this machine. An address is no
// name that somebody else's DNS could point here.
func (g guard) mine(host string) bool {
	name := hostname(host)
	if g.hosts[name] || strings.HasSuffix(name, ".localhost") { // RFC 6761, 6.3: never asked of DNS
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// hostname is a Host header without port, brackets and final dot, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
