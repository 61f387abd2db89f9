package http1

import "encoding/binary"

// tokenByte tells the bytes of a token (RFC 9110, 5.6.2), hostByte those of a
// Host (RFC 3986, 3.2.2, and no more than net/http takes).
var tokenByte, hostByte = table("!#$%&'*+-.^_`|~"), table("!$%&'()*+,-.:;=@[]_~")

func table(others string) (t [256]bool) {
	for c := range t {
		t[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	for _, c := range []byte(others) {
		t[c] = true
	}
	return t
}

// token reports whether all bytes are of a token; there is at least one.
func token(b []byte) bool {
	for _, c := range b {
		if !tokenByte[c] {
			return false
		}
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// control reports whether one of eight bytes is below 0x20 or is 0x7f. It may
// err on that side, and never on the other.
func control(x uint64) bool {
	below := (x - 0x20*ones) &^ x
	del := x ^ 0x7f*ones
	return (below|(del-ones)&^del)&highs != 0
}

// text reports whether a value holds no control character but tabs (RFC 9110,
// 5.5). It looks at eight bytes at a time where there is none.
func text(b []byte) bool {
	for len(b) >= 8 {
		if control(binary.LittleEndian.Uint64(b)) && !slowText(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return slowText(b)
}

func slowText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// printable reports whether all bytes are printable ASCII, no blank.
func printable(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
