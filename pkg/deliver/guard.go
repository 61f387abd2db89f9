package deliver

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// Guard decides which addresses may be connected to. Whoever writes a Trigger
// chooses a URL that we then call from inside the network, so the question is
// put to the address that a name resolved to, at the moment of the connect:
// spellings (decimal, octal, mapped) and names that change their answer do not
// get round it.
//
// Never connected to: link-local addresses, where clouds keep their metadata
// service, the metadata addresses outside that range, multicast, broadcast,
// unspecified and reserved ones; nor an IPv6 address that carries such an IPv4
// address inside (mapped, compatible, NAT64, 6to4).
//
// The zero Guard also denies loopback, and lets private addresses through,
// since that is where subscribers in a cluster are.
type Guard struct {
	// AllowLoopback is for a broker on one's own machine.
	AllowLoopback bool

	// DenyPrivate also denies private and shared address space, for a broker
	// whose subscribers are all on the Internet.
	DenyPrivate bool

	// Deny is what else must not be reached.
	Deny []netip.Prefix
}

// deniedRange is a range that no setting opens.
type deniedRange struct {
	prefix netip.Prefix
	why    string
}

var deniedRanges = [...]deniedRange{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"}, // RFC 1122; Linux takes 0.0.0.0 for loopback
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"}, // broadcast is its last
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "cloud metadata"},  // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), "cloud metadata"},   // Google Cloud
	{netip.MustParsePrefix("100.100.100.200/32"), "cloud metadata"}, // Alibaba Cloud
	{netip.MustParsePrefix("192.0.0.192/32"), "cloud metadata"},     // Oracle Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata"},   // Azure
}

var privateRanges = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598, shared
	netip.MustParsePrefix("198.18.0.0/15"), // RFC 2544, benchmarks
	netip.MustParsePrefix("192.0.0.0/24"),  // RFC 6890, protocol assignments
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fec0::/10"), // site-local, deprecated, still routed by some
}

// carriers are the IPv6 ranges that hold an IPv4 address, and at which byte.
var carriers = [...]struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible, RFC 4291 2.5.5.1
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
}

// Check returns nil if addr may be connected to, and otherwise an error that
// says why not. It may be called by any number of goroutines.
func (g *Guard) Check(addr netip.Addr) error {
	if why := g.denies(addr); why != "" {
		return fmt.Errorf("address %s is denied: %s", addr, why)
	}
	return nil
}

func (g *Guard) denies(addr netip.Addr) string {
	if !addr.IsValid() {
		return "not an address"
	}
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() {
		if g.AllowLoopback {
			return g.deniedBySetting(addr)
		}
		return "loopback"
	}
	for i := range deniedRanges {
		if deniedRanges[i].prefix.Contains(addr) {
			return deniedRanges[i].why
		}
	}
	for i := range carriers {
		if carriers[i].prefix.Contains(addr) {
			whole := addr.As16()
			inner := netip.AddrFrom4([4]byte(whole[carriers[i].at:]))
			if why := g.denies(inner); why != "" {
				return "it carries " + inner.String() + ", " + why
			}
		}
	}
	if g.DenyPrivate {
		for _, p := range privateRanges {
			if p.Contains(addr) {
				return "private"
			}
		}
	}
	return g.deniedBySetting(addr)
}

func (g *Guard) deniedBySetting(addr netip.Addr) string {
	for _, p := range g.Deny {
		if p.Contains(addr) {
			return "in " + p.String()
		}
	}
	return ""
}

// deniedError marks a refusal by the guard on its way through net's errors.
type deniedError struct{ cause error }

func (e *deniedError) Error() string { return e.cause.Error() }

// control is a net.Dialer's ControlContext: it sees every address just before
// the connect, after the name has been resolved.
func (g *Guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &deniedError{fmt.Errorf("address %q is denied: not an address", address)}
	}
	if err := g.Check(to.Addr()); err != nil {
		return &deniedError{err}
	}
	return nil
}
