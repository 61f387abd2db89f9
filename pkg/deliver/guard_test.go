package deliver

import (
	"net/netip"
	"testing"
)

func TestGuardTable(t *testing.T) {
	const (
		always   = "always denied"
		loopback = "loopback"
		private  = "private"
		open     = "open"
	)
	for addr, kind := range map[string]string{
		"127.0.0.1":                loopback,
		"127.255.255.254":          loopback,
		"::1":                      loopback,
		"::ffff:127.0.0.1":         loopback,
		"64:ff9b::7f00:1":          loopback, // NAT64
		"2002:7f00:1::1":           loopback, // 6to4
		"::127.0.0.1":              loopback, // IPv4-compatible
		"10.0.0.1":                 private,
		"172.16.0.1":               private,
		"172.31.255.255":           private,
		"192.168.1.1":              private,
		"::ffff:192.168.1.1":       private,
		"64:ff9b::a00:1":           private,
		"100.64.0.1":               private,
		"198.18.0.1":               private,
		"fc00::1":                  private,
		"fd12:3456::1":             private,
		"fec0::1":                  private,
		"169.254.169.254":          always,
		"169.254.0.1":              always,
		"::ffff:169.254.169.254":   always,
		"::ffff:a9fe:a9fe":         always,
		"::169.254.169.254":        always,
		"64:ff9b::a9fe:a9fe":       always,
		"2002:a9fe:a9fe::":         always,
		"2002:a9fe:a9fe:1::2":      always,
		"fe80::1":                  always,
		"fe80::1%eth0":             always,
		"febf:ffff::1":             always,
		"fd00:ec2::254":            always,
		"fd20:ce::254":             always,
		"100.100.100.200":          always,
		"192.0.0.192":              always,
		"168.63.129.16":            always,
		"0.0.0.0":                  always,
		"0.1.2.3":                  always,
		"::":                       always,
		"::ffff:0.0.0.0":           always,
		"224.0.0.1":                always,
		"239.255.255.250":          always,
		"ff02::1":                  always,
		"240.0.0.1":                always,
		"255.255.255.255":          always,
		"93.184.216.34":            open,
		"8.8.8.8":                  open,
		"172.32.0.1":               open,
		"169.253.255.255":          open,
		"169.255.0.0":              open,
		"100.128.0.1":              open,
		"2606:2800:220:1:248::1":   open,
		"64:ff9b::808:808":         open,
		"2002:808:808::1":          open,
		"::ffff:8.8.8.8":           open,
		"fd00:ec2::253":            private,
		"2001:4860:4860::8888":     open,
		"2001:4860:4860::8888%lo0": open,
	} {
		a := netip.MustParseAddr(addr)
		for _, g := range []Guard{{}, {AllowLoopback: true}, {DenyPrivate: true}, {AllowLoopback: true, DenyPrivate: true}} {
			want := kind == open || kind == loopback && g.AllowLoopback || kind == private && !g.DenyPrivate
			if err := g.Check(a); (err == nil) != want {
				t.Errorf("%s (%s) with %+v: %v", addr, kind, g, err)
			}
		}
	}
	if (&Guard{}).Check(netip.Addr{}) == nil {
		t.Error("no address at all is let through")
	}
}

func TestGuardDeniesWhatItIsToldTo(t *testing.T) {
	g := Guard{AllowLoopback: true, Deny: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("127.0.0.2/32")}}
	for addr, want := range map[string]string{
		"10.96.0.1":        "address 10.96.0.1 is denied: in 10.96.0.0/12",
		"::ffff:10.96.0.1": "address ::ffff:10.96.0.1 is denied: in 10.96.0.0/12",
		"127.0.0.2":        "address 127.0.0.2 is denied: in 127.0.0.2/32",
		"fe80::1":          "address fe80::1 is denied: link-local",
		"64:ff9b::a60:1":   "address 64:ff9b::a60:1 is denied: it carries 10.96.0.1, in 10.96.0.0/12",
	} {
		if err := g.Check(netip.MustParseAddr(addr)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", addr, err, want)
		}
	}
	for _, addr := range []string{"10.0.0.1", "127.0.0.1"} {
		if err := g.Check(netip.MustParseAddr(addr)); err != nil {
			t.Error(err)
		}
	}
}
