package telemetry

import (
	"iter"
	"net/http"
	"strconv"
	"sync/atomic"
)

// byCode finds the instrument of an HTTP status code, which is made at first
// use. Nobody takes a lock: it is a short list that only grows, at its end,
// and the code that came first, which is mostly the one of success, is found
// first.
//
// Codes that HTTP does not define share one series, so that a peer that
// answers every number from 100 to 999 cannot make a series of each.
type byCode[T any] struct {
	first atomic.Pointer[coded[T]]
}

// coded is one instrument, whose zero value counts.
type coded[T any] struct {
	next       atomic.Pointer[coded[T]] // before all else: the only word that the garbage collector reads
	code       int
	instrument T
}

// The codes of no answer, and of one that HTTP does not define.
const (
	noCode    = 0
	otherCode = -1
)

func (l *byCode[T]) get(code int) *T {
	for c := l.first.Load(); c != nil; c = c.next.Load() {
		if c.code == code {
			return &c.instrument
		}
	}
	return l.add(code)
}

// add returns the instrument of a code that is not defined or not in the list.
func (l *byCode[T]) add(code int) *T {
	if !defined(code) {
		code = otherCode
	}
	var fresh *coded[T]
	end := &l.first
	for {
		if c := end.Load(); c != nil {
			if c.code == code {
				return &c.instrument
			}
			end = &c.next
			continue
		}
		if fresh == nil {
			fresh = &coded[T]{code: code}
		}
		if end.CompareAndSwap(nil, fresh) {
			return &fresh.instrument
		}
	}
}

func (l *byCode[T]) all() iter.Seq2[int, *T] {
	return func(yield func(int, *T) bool) {
		for c := l.first.Load(); c != nil && yield(c.code, &c.instrument); c = c.next.Load() {
		}
	}
}

// defined reports whether a code has an instrument of its own.
func defined(code int) bool { return code == noCode || http.StatusText(code) != "" }

// allCodes are those that can be in a list.
func allCodes(yield func(int) bool) {
	if !yield(otherCode) {
		return
	}
	for code := range 1000 {
		if defined(code) && !yield(code) {
			return
		}
	}
}

// codeLabel is the label's value for a code in a list.
func codeLabel(code int) string {
	switch code {
	case noCode:
		return "none"
	case otherCode:
		return "other"
	}
	return strconv.Itoa(code)
}
