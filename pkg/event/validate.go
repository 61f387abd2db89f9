package event

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxAttributeName is the longest attribute name taken, in bytes. The spec
// says that names SHOULD NOT be longer than 20 (CloudEvents 1.0, 3.1); the rest
// is room for those that are.
const MaxAttributeName = 64

// Versions of the spec that are read. An event keeps the one it came with.
const (
	version1  = "1.0"
	version03 = "0.3"
)

// Validate checks that what has been set is a CloudEvent 1.0 or 0.3: names and
// values of the right type and characters, the required attributes present,
// time and URIs well formed. It changes nothing; the error is a *Malformed.
//
// datacontenttype is not parsed: whatever a sender puts into Content-Type is
// handed on byte for byte, and only a control character other than tab is
// refused.
func (b *Builder) Validate() error {
	version := b.Text(AttrSpecVersion)
	var missing [len(leading)]bool
	for i, name := range leading {
		missing[i] = strings.TrimSpace(b.Text(name)) == ""
	}
	for i, name := range leading {
		if missing[i] && !b.Has(name) {
			return malformed(name, "missing; every CloudEvent needs one")
		}
		if missing[i] {
			return malformed(name, "empty; every CloudEvent needs one")
		}
	}
	if version != version1 && version != version03 {
		return malformed(AttrSpecVersion, "%s is unknown; this broker reads 1.0 and 0.3", quote(version))
	}
	for i := range b.entries {
		e := &b.entries[i]
		if e.kind == header {
			continue
		}
		if err := checkName(e.name); err != nil {
			return err
		}
		if err := e.checkValue(version); err != nil {
			return err
		}
	}
	return nil
}

// checkName tells whether name may name an attribute (CloudEvents 1.0, 3.1).
func checkName(name string) error {
	switch {
	case name == "":
		return malformed(shown(name), "an attribute needs a name")
	case len(name) > MaxAttributeName:
		return malformed(shown(name), "name of %d bytes; at most %d", len(name), MaxAttributeName)
	case name == memberData:
		return malformed(name, "not a name for an attribute; data is the payload")
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return malformed(shown(name), "not an attribute name; only a-z and 0-9 may stand in one")
		}
	}
	return nil
}

// checkValue tells whether the value fits the attribute's type.
func (e *entry) checkValue(version string) error {
	if err := checkText(e.name, e.value); err != nil {
		return err
	}
	if e.kind != String {
		if core(e.name, version) {
			return malformed(e.name, "must be a string")
		}
		return checkKind(e.name, Value{Text: e.value, Kind: e.kind})
	}
	switch e.name {
	case AttrSource:
		if !uriReference(e.value) {
			return malformed(e.name, "%s is not a URI reference", quote(e.value))
		}
	case AttrTime:
		// The bytes stay as sent: only the answer is wanted.
		if _, err := time.Parse(time.RFC3339Nano, e.value); err != nil {
			return malformed(e.name, "%s is not an RFC 3339 time such as 2026-01-31T09:30:00Z", quote(e.value))
		}
	}
	switch {
	case version == version1 && e.name == AttrDataSchema:
		if u, err := url.Parse(e.value); err != nil || !u.IsAbs() {
			return malformed(e.name, "%s is not an absolute URI", quote(e.value))
		}
	case version == version03 && e.name == AttrSchemaURL:
		if !uriReference(e.value) {
			return malformed(e.name, "%s is not a URI reference", quote(e.value))
		}
	case version == version03 && e.name == AttrDataEncoding:
		if !strings.EqualFold(e.value, "base64") {
			return malformed(e.name, "%s is unknown; only base64 is", quote(e.value))
		}
	}
	return nil
}

// core reports whether the spec itself defines the attribute: such are strings.
func core(name, version string) bool {
	switch name {
	case AttrID, AttrSource, AttrSpecVersion, AttrType, AttrSubject, AttrTime, AttrDataContentType:
		return true
	case AttrDataSchema:
		return version == version1
	case AttrSchemaURL, AttrDataEncoding:
		return version == version03
	}
	return false
}

// checkKind tells whether a value of kind Integer or Boolean is in its
// canonical form (CloudEvents 1.0, 3.1.1).
func checkKind(name string, v Value) error {
	switch v.Kind {
	case Integer:
		if !integer(v.Text) {
			return malformed(shown(name), "%s is not an integer from -2147483648 to 2147483647", quote(v.Text))
		}
	case Boolean:
		if !boolean(v.Text) {
			return malformed(shown(name), "%s is not true or false", quote(v.Text))
		}
	}
	return nil
}

// integer reports whether s is an int32 in canonical form: no plus sign, no
// leading zero, and 0 has no sign.
func integer(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] < '0' || digits[0] == '0' && s != "0" {
		return false
	}
	_, err := strconv.ParseInt(s, 10, 32)
	return err == nil
}

func boolean(s string) bool { return s == "true" || s == "false" }

// checkText refuses what the type String does not allow: control characters,
// invalid UTF-8 (surrogates are), and noncharacters (CloudEvents 1.0, 3.1.1). A
// content type may hold a tab, as HTTP lets it.
func checkText(name, s string) error {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f || c == '\t' && name == AttrDataContentType {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return malformed(shown(name), "%s is not valid UTF-8", quote(s))
		case r <= 0x9f:
			return malformed(shown(name), "%s holds a control character", quote(s))
		case r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe:
			return malformed(shown(name), "%s holds U+%04X, which is not a character", quote(s), r)
		}
		i += n
	}
	return nil
}

// uriReference reports whether s is a URI reference, as far as net/url sees
// it. Nearly all sources are plain paths or addresses, which need no parser.
func uriReference(s string) bool {
	if plainReference(s) {
		return true
	}
	_, err := url.Parse(s)
	return err == nil
}

// plainReference reports whether s is a path, or a scheme and a path, of
// characters that mean nothing special anywhere in a URI.
func plainReference(s string) bool {
	scheme := false
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c == '/', '0' <= c && c <= '9', c == '-', c == '.':
		case c == '_', c == '~':
		case c == ':':
			if scheme || i == 0 || !schemeName(s[:i]) {
				return false
			}
			scheme = true
		default:
			return false
		}
	}
	return true
}

func schemeName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return true
}
