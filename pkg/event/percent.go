package event

import "strings"

const upperHex = "0123456789ABCDEF"

// escaped reports whether a byte is percent-encoded in a header: space, double
// quote, percent, and all outside printable ASCII (CloudEvents HTTP binding,
// 3.1.3.2).
func escaped(c byte) bool {
	return c <= ' ' || c == '"' || c == '%' || c >= 0x7f
}

// encodeHeader writes an attribute value as a header value. It returns v
// itself where nothing needs encoding.
func encodeHeader(v string) string {
	n := 0
	for i := range len(v) {
		if escaped(v[i]) {
			n++
		}
	}
	if n == 0 {
		return v
	}
	var b strings.Builder
	b.Grow(len(v) + 2*n)
	for i := range len(v) {
		if c := v[i]; escaped(c) {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decodeHeader reads an attribute value from a header: first double-quoted
// strings, then one round of percent-decoding (CloudEvents HTTP binding,
// 3.1.3.2). A percent sign without two hexadecimal digits stands for itself,
// because several SDKs send values unencoded. It returns v itself where there
// is nothing to decode. The result may be invalid UTF-8, which Validate finds.
func decodeHeader(v string) string {
	if strings.IndexByte(v, '%') < 0 && strings.IndexByte(v, '"') < 0 {
		return v
	}
	v = unquoteHeader(v)
	var b strings.Builder
	b.Grow(len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) {
			if hi, lo := hexDigit(v[i+1]), hexDigit(v[i+2]); hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

// unquoteHeader takes the quotes off a value that is one quoted string
// (RFC 7230, 3.2.6). A quote inside an unquoted value stands for itself:
// senders that do not encode it mean it so.
func unquoteHeader(v string) string {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return v
	}
	inner := v[1 : len(v)-1]
	var b strings.Builder
	b.Grow(len(inner))
	for i := 0; i < len(inner); i++ {
		switch {
		case inner[i] == '"':
			return v // two quoted strings, or a stray quote: not ours to guess
		case inner[i] == '\\' && i+1 == len(inner):
			return v // the last quote is an escaped one, so the string never ends
		case inner[i] == '\\':
			i++
		}
		b.WriteByte(inner[i])
	}
	return b.String()
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
