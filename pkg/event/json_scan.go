package event

import (
	"encoding/json"
	"errors"
	"iter"
	"unicode/utf8"
)

// The functions here cut valid JSON into its members, without a copy and
// without reading a number as a float. encoding/json decides what is valid:
// checkJSON comes first, and only then are the cutters right.

// checkJSON tells whether body is one JSON value in UTF-8, nested no deeper
// than depth. Depth comes before the parser, whose stack grows with it.
func checkJSON(body []byte, depth int) error {
	switch {
	case len(body) == 0:
		return malformed("body", "empty; in this mode it carries the event")
	case !utf8.Valid(body):
		return malformed("body", "not valid UTF-8, so not JSON")
	case jsonDepth(body) > depth:
		return malformed("body", "JSON nested more than %d deep", depth)
	case json.Valid(body):
		return nil
	}
	// Valid says no without saying where; only a bad message pays for this.
	var syntax *json.SyntaxError
	if err := json.Unmarshal(body, new(json.RawMessage)); errors.As(err, &syntax) {
		return malformed("body", "not JSON: at byte %d: %v", syntax.Offset, syntax)
	}
	return malformed("body", "not JSON")
}

// jsonDepth is how deep objects and arrays nest: 0 for a plain value. What is
// not JSON gets some number.
func jsonDepth(b []byte) int {
	depth, most := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			depth++
			most = max(most, depth)
		case '}', ']':
			depth--
		}
	}
	return most
}

// members walks the members of a valid JSON object: names still quoted, values
// as they stand. Both share obj's memory.
func members(obj []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := skipSpace(obj, 1); i < len(obj) && obj[i] == '"'; {
			end := stringEnd(obj, i)
			name := obj[i:end]
			i = skipSpace(obj, skipSpace(obj, end)+1) // the colon
			end = valueEnd(obj, i)
			if !yield(name, obj[i:end]) {
				return
			}
			i = skipSpace(obj, skipSpace(obj, end)+1) // the comma, or the end
		}
	}
}

// elements walks the elements of a valid JSON array, which share its memory.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := skipSpace(array, 1)
		if i < len(array) && array[i] == ']' {
			return
		}
		for i < len(array) {
			end := valueEnd(array, i)
			if !yield(array[i:end]) {
				return
			}
			i = skipSpace(array, skipSpace(array, end)+1) // the comma, or the end
		}
	}
}

// valueEnd is where the value that begins at i ends.
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of what the value stands in
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// stringEnd is where the string that begins at i ends, its quote included; the
// end of b if it does not.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(b)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && space(b[i]) {
		i++
	}
	return i
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// unquote is the text of a valid JSON string, quotes and escapes undone. It
// may share quoted's memory. ok is false where an escape names one half of a
// surrogate pair: no text has that, and encoding/json would change it.
func unquote(quoted []byte) (b []byte, ok bool) {
	plain := true
	for i := 1; i < len(quoted)-1; i++ {
		if quoted[i] != '\\' {
			continue
		}
		plain = false
		if i++; quoted[i] != 'u' {
			continue
		}
		switch quoted4(quoted, i+1) & 0xfc00 {
		case 0xd800: // the first half: the second must follow
			if quoted[i+5] != '\\' || quoted[i+6] != 'u' || quoted4(quoted, i+7)&0xfc00 != 0xdc00 {
				return nil, false
			}
			i += 10
		case 0xdc00:
			return nil, false
		default:
			i += 4
		}
	}
	if plain {
		return quoted[1 : len(quoted)-1], true
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, false
	}
	return []byte(s), true
}

// quoted4 is the number that the four hexadecimal digits at i write.
func quoted4(b []byte, i int) (n int) {
	for _, c := range b[i : i+4] {
		n = n<<4 | hexDigit(c)
	}
	return n
}
