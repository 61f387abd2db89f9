package filter

import (
	"strings"
	"unicode/utf8"
)

// likePattern is the pattern of LIKE: pieces that lie between the % of the
// text, in order. Patterns without %, and their first and last piece, are
// anchored. Matching takes the leftmost place for each piece and never comes
// back, so that it costs at most length of text times length of pattern.
type likePattern struct {
	pieces []likePiece // at least one; a pattern of n % has n+1
}

// likePiece is text in which some characters may be any single one.
type likePiece struct {
	text string
	any  []bool // per character of text, true for _; nil where there is none
}

// compileLike reads a pattern (CESQL 1.0, 3.4.2): % is any text, _ any one
// character, and a backslash makes either of them plain. A backslash before
// anything else is a backslash.
func compileLike(pattern string) *likePattern {
	var p likePattern
	var text strings.Builder
	var wild []bool
	hasWild := false
	flush := func() {
		piece := likePiece{text: text.String()}
		if hasWild {
			piece.any = wild
		}
		p.pieces = append(p.pieces, piece)
		text.Reset()
		wild, hasWild = nil, false
	}
	escaped := false
	for i, r := range pattern {
		if r == '\\' && !escaped && i+1 < len(pattern) && (pattern[i+1] == '%' || pattern[i+1] == '_') {
			escaped = true
			continue
		}
		if r == '%' && !escaped {
			flush()
			continue
		}
		one := r == '_' && !escaped
		text.WriteRune(r)
		wild = append(wild, one)
		hasWild = hasWild || one
		escaped = false
	}
	flush()
	return &p
}

// match looks for the pattern in s and takes what that costs from the budget.
// Once the budget is negative the answer means nothing.
func (p *likePattern) match(s string, budget *int) bool {
	first, last := &p.pieces[0], &p.pieces[len(p.pieces)-1]
	n, found := first.at(s, budget)
	if !found || first == last {
		return found && n == len(s)
	}
	s = s[n:]
	for i := 1; i < len(p.pieces)-1; i++ {
		end, found := p.pieces[i].find(s, budget)
		if !found {
			return false
		}
		s = s[end:]
	}
	return last.endOf(s, budget)
}

// at reports whether s begins with the piece, and how long the text is.
func (p *likePiece) at(s string, budget *int) (int, bool) {
	if p.any == nil {
		return len(p.text), strings.HasPrefix(s, p.text)
	}
	i, at := 0, 0
	for _, want := range p.text {
		*budget--
		if at == len(s) {
			return 0, false
		}
		got, size := rune(s[at]), 1
		if got >= utf8.RuneSelf {
			got, size = utf8.DecodeRuneInString(s[at:])
		}
		// A byte that is no UTF-8 decodes as U+FFFD; it is not that character.
		if !p.any[i] && (got != want || got == utf8.RuneError && size == 1) {
			return 0, false
		}
		at += size
		i++
	}
	return at, true
}

// find returns the end of the leftmost place of the piece in s.
func (p *likePiece) find(s string, budget *int) (int, bool) {
	if p.any == nil {
		*budget -= len(s) / 16 // the processor compares this much at once
		i := strings.Index(s, p.text)
		return i + len(p.text), i >= 0
	}
	for at := 0; *budget >= 0; {
		if n, found := p.at(s[at:], budget); found {
			return at + n, true
		}
		if at == len(s) {
			break
		}
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return 0, false
}

// endOf reports whether s ends with the piece.
func (p *likePiece) endOf(s string, budget *int) bool {
	if p.any == nil {
		return strings.HasSuffix(s, p.text)
	}
	at := len(s)
	for range p.any {
		if at == 0 {
			return false
		}
		_, size := utf8.DecodeLastRuneInString(s[:at])
		at -= size
	}
	n, found := p.at(s[at:], budget)
	return found && n == len(s)-at
}

// head and tail are the plain text every match begins and ends with, and
// whole says that there is nothing else.
func (p *likePattern) head() string {
	first := p.pieces[0]
	for i, n := range first.runes() {
		if first.any[n] {
			return first.text[:i]
		}
	}
	return first.text
}

func (p *likePattern) tail() string {
	last := p.pieces[len(p.pieces)-1]
	from := 0
	for i, n := range last.runes() {
		if last.any[n] {
			from = i + 1 // _ is one byte
		}
	}
	return last.text[from:]
}

func (p *likePattern) whole() bool { return len(p.pieces) == 1 && p.pieces[0].any == nil }

// runes walks the characters of a piece with wildcards: offset, ordinal.
func (p *likePiece) runes() func(yield func(int, int) bool) {
	return func(yield func(int, int) bool) {
		n := 0
		for i := range p.text {
			if p.any == nil || !yield(i, n) {
				return
			}
			n++
		}
	}
}
