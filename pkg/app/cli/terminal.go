package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// isTerminal reports whether a stream ends at a person's eyes.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colours reports whether a stream may have them: a terminal that is not
// dumb, and nobody said no (https://no-color.org).
func colours(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Colours of table cells, as SGR parameters.
const (
	plain  = ""
	red    = "31"
	yellow = "33"
)

func paint(text, colour string) string {
	if colour == plain {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// clean shows what would otherwise act: control characters, which can move a
// terminal's cursor or set its title, and those that turn the direction of
// writing or have no width, which make one text look like another. They come
// out as Go writes them: \x1b, \u202e.
func clean(text string) string {
	if strings.IndexFunc(text, acts) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !acts(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// acts reports whether a terminal would do something with r instead of
// showing it: categories Cc and Cf, and the separators of lines and paragraphs.
func acts(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// cleanJSON escapes the same characters in JSON text, which stays the same
// JSON: they can only stand inside strings. Line ends between tokens stay.
func cleanJSON(text []byte) []byte {
	s := string(text)
	if strings.IndexFunc(s, actsInJSON) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for _, r := range s {
		switch {
		case !actsInJSON(r):
			out = utf8.AppendRune(out, r)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		}
	}
	return out
}

func actsInJSON(r rune) bool { return r != '\n' && r != '\t' && r != '\r' && acts(r) }
