package ingress

import (
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestSplitPath(t *testing.T) {
	tests := []struct {
		path            string
		namespace, name string
		shape, ok       bool
	}{
		{"/ns/broker", "ns", "broker", true, true},
		{"/ns/broker/", "ns", "broker", true, true},
		{"/ns/a.b-c.d", "ns", "a.b-c.d", true, true},
		{"/0/9", "0", "9", true, true},
		{"/n.s/broker", "n.s", "broker", true, false},
		{"/-ns/broker", "-ns", "broker", true, false},
		{"/ns/broker-", "ns", "broker-", true, false},
		{"/ns/..", "ns", "..", true, false},
		{"/../ns", "..", "ns", true, false},
		{"/ns/a..b", "ns", "a..b", true, false},
		{"/ns/.", "ns", ".", true, false},
		{"/ns/br%6fker", "ns", "br%6fker", true, false},
		{"/ns/broker%2fx", "ns", "broker%2fx", true, false},
		{"/NS/broker", "NS", "broker", true, false},
		{"/ns/b_r", "ns", "b_r", true, false},
		{"/" + strings.Repeat("n", 63) + "/b", strings.Repeat("n", 63), "b", true, true},
		{"/" + strings.Repeat("n", 64) + "/b", strings.Repeat("n", 64), "b", true, false},
		{"/n/" + strings.Repeat("b", 253), "n", strings.Repeat("b", 253), true, true},
		{"/n/" + strings.Repeat("b", 254), "n", strings.Repeat("b", 254), true, false},
		{"", "", "", false, false},
		{"/", "", "", false, false},
		{"//", "", "", false, false},
		{"/ns", "", "", false, false},
		{"/ns/", "", "", false, false},
		{"/ns//", "", "", false, false},
		{"//ns/broker", "", "", false, false},
		{"/ns//broker", "", "", false, false},
		{"/ns/broker//", "", "", false, false},
		{"/ns/broker/x", "", "", false, false},
		{"ns/broker", "", "", false, false},
		{"*", "", "", false, false},
	}
	for _, tt := range tests {
		namespace, name, shape, ok := splitPath(tt.path)
		if namespace != tt.namespace || name != tt.name || shape != tt.shape || ok != tt.ok {
			t.Errorf("splitPath(%.40q) = %.40q, %.40q, %v, %v", tt.path, namespace, name, shape, ok)
		}
	}
}

// FuzzSplitPath: whatever a path is, names that come out of it as good are names of
// Kubernetes objects, and the path is nothing but these names.
func FuzzSplitPath(f *testing.F) {
	for _, seed := range []string{"/ns/broker", "/ns/broker/", "//evil/ns", "/ns/broker%2f..%2fetc", "/ns/../x", "/a/b.c", "/a/\x00", "*"} {
		f.Add(seed)
	}
	// Kubernetes' own expressions.
	label := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	subdomain := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	f.Fuzz(func(t *testing.T, path string) {
		namespace, name, shape, ok := splitPath(path)
		if ok && !shape {
			t.Errorf("%q: names without a shape", path)
		}
		if shape && strings.TrimSuffix(path, "/") != "/"+namespace+"/"+name {
			t.Errorf("%q became %q and %q", path, namespace, name)
		}
		if want := label.MatchString(namespace) && len(namespace) <= 63 && subdomain.MatchString(name) && len(name) <= 253; ok != want {
			t.Errorf("%q: %v, Kubernetes says %v", path, ok, want)
		}
	})
}

func TestClientIsAnAddressOrTheNetworkOfAHost(t *testing.T) {
	same := [][2]string{
		{"192.0.2.1", "192.0.2.1"}, {"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9"}, {"fe80::1%eth0", "fe80::2%eth1"},
	}
	other := [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8:1:2::1", "2001:db8:1:3::1"}, {"127.0.0.1", "::1"}}
	of := func(ip string) client {
		addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(ip, "80"))
		if err != nil {
			t.Fatal(err)
		}
		return clientOf(addr)
	}
	for _, p := range same {
		if of(p[0]) != of(p[1]) {
			t.Errorf("%s and %s are two clients", p[0], p[1])
		}
	}
	for _, p := range other {
		if of(p[0]) == of(p[1]) {
			t.Errorf("%s and %s are one client", p[0], p[1])
		}
	}
	if clientOf(&net.UnixAddr{Name: "a"}) != (client{}) || clientOf(&net.TCPAddr{}) != (client{}) {
		t.Error("an address without IP is not the zero client")
	}
}

func TestRetryAfterIsWholeSecondsAndNeverZero(t *testing.T) {
	for wait, want := range map[time.Duration]uint64{
		1: 1, time.Second: 1, time.Second + 1: 2, 90 * time.Second: 90, 1500 * time.Millisecond: 2,
	} {
		if got := seconds(wait); got != want {
			t.Errorf("%v: %d, want %d", wait, got, want)
		}
	}
}
