package filter

import (
	"strconv"

	"github.com/penstock-events/penstock/pkg/event"
)

// valueKind is a CESQL type (CESQL 1.0, 3.1).
type valueKind uint8

const (
	kindFault   valueKind = iota // an error in place of a value
	kindString                   // also URI, Timestamp, Binary: their string form
	kindInteger                  // 32 bits, wraps around
	kindBoolean
	kindAny // of an expression: known only when there is an event
)

func (k valueKind) String() string {
	switch k {
	case kindString:
		return "String"
	case kindInteger:
		return "Integer"
	case kindBoolean:
		return "Boolean"
	}
	return "Any"
}

// value is what an expression comes to: a String in text, an Integer or
// Boolean in num, or a fault. Faults travel as values so that the many events
// for which an expression has none cost no allocation.
type value struct {
	kind valueKind
	why  fault
	num  int32
	text string // for a fault: what it is about
}

// fault is the kind of an evaluation error (CESQL 1.0, 3.2).
type fault uint8

const (
	faultMissing      fault = iota + 1 // attribute is not there
	faultNoInteger                     // cast
	faultNoBoolean                     // cast
	faultDivideByZero                  // math
	faultOverflow                      // math
	faultArgument                      // function
	faultCost                          // our own bound
)

func stringValue(s string) value { return value{kind: kindString, text: s} }
func integerValue(i int32) value { return value{kind: kindInteger, num: i} }
func faultValue(why fault, about string) value {
	return value{kind: kindFault, why: why, text: about}
}

func booleanValue(b bool) value {
	if b {
		return value{kind: kindBoolean, num: 1}
	}
	return value{kind: kindBoolean}
}

// isTrue is for values that are known to be Boolean.
func (v value) isTrue() bool { return v.num != 0 }

// reason describes a fault.
func (v value) reason() string {
	about := strconv.Quote(clip(v.text))
	switch v.why {
	case faultMissing:
		return "attribute " + v.text + " is missing"
	case faultNoInteger:
		return "cannot cast " + about + " to Integer"
	case faultNoBoolean:
		return "cannot cast " + about + " to Boolean"
	case faultDivideByZero:
		return "division by zero"
	case faultOverflow:
		return "integer overflow in " + v.text
	case faultArgument:
		return "argument of " + v.text + " is out of range"
	default:
		return "evaluation is too costly for this event"
	}
}

// attributeValue is an attribute as CESQL sees it.
func attributeValue(v event.Value) value {
	switch v.Kind {
	case event.Integer:
		if i, ok := parseInteger(v.Text); ok {
			return value{kind: kindInteger, num: i, text: v.Text}
		}
	case event.Boolean:
		return value{kind: kindBoolean, num: booleanValue(v.Text == "true").num, text: v.Text}
	}
	return stringValue(v.Text)
}

// cast follows CESQL 1.0, 3.5. A fault stays the fault it is.
func (v value) cast(to valueKind) value {
	if v.kind == to || v.kind == kindFault || to == kindAny {
		return v
	}
	switch to {
	case kindString:
		return v.toString()
	case kindInteger:
		if v.kind == kindBoolean {
			return integerValue(v.num)
		}
		if i, ok := parseInteger(v.text); ok {
			return integerValue(i)
		}
		return faultValue(faultNoInteger, v.text)
	default:
		if v.kind == kindInteger {
			return booleanValue(v.num != 0)
		}
		switch {
		case equalFold(v.text, "true"):
			return booleanValue(true)
		case equalFold(v.text, "false"):
			return booleanValue(false)
		}
		return faultValue(faultNoBoolean, v.text)
	}
}

func (v value) toString() value {
	switch {
	case v.text != "":
		// An attribute brought its own text; the index compares with the same.
		return stringValue(v.text)
	case v.kind == kindInteger:
		return stringValue(strconv.Itoa(int(v.num)))
	case v.isTrue():
		return stringValue("true")
	}
	return stringValue("false")
}

// equal compares two values of one kind.
func (v value) equal(w value) bool {
	if v.kind == kindString {
		return v.text == w.text
	}
	return v.num == w.num
}

// parseInteger is strconv.ParseInt(s, 10, 32) without its error, which
// allocates.
func parseInteger(s string) (int32, bool) {
	digits, negative := s, false
	if s != "" && (s[0] == '+' || s[0] == '-') {
		digits, negative = s[1:], s[0] == '-'
	}
	if digits == "" {
		return 0, false
	}
	var n int64
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > 1<<31 {
			return 0, false
		}
	}
	if negative {
		n = -n
	}
	return int32(n), n < 1<<31
}

// equalFold compares with a lower case ASCII word, ignoring ASCII case only:
// strings.EqualFold would take the long s for an s.
func equalFold(s, word string) bool {
	if len(s) != len(word) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
