package telemetry

import (
	"net/http"
	"strconv"
	"sync/atomic"
)

// byCode finds the instrument of an HTTP status code. Readers take no lock:
// they scan a short list that is replaced, never changed. Writers hold the
// lock of the handle that the byCode belongs to.
//
// Codes that HTTP does not define share one series, so that a peer that
// answers every number from 100 to 999 cannot make a series of each.
type byCode[T comparable] struct {
	list atomic.Pointer[[]coded[T]]
}

type coded[T any] struct {
	code       int
	instrument T
}

const otherCode = -1

// get returns the instrument of code. Where there is none yet it returns what
// bind makes of the code's label, which is the zero T where the handle is closed.
func (t *byCode[T]) get(code int, bind func(code int, label string) T) (instrument T) {
	if code != 0 && http.StatusText(code) == "" {
		code = otherCode
	}
	if list := t.list.Load(); list != nil {
		for i := range *list {
			if (*list)[i].code == code {
				return (*list)[i].instrument
			}
		}
	}
	switch code {
	case 0:
		return bind(code, "none") // there was no answer
	case otherCode:
		return bind(code, "other")
	}
	return bind(code, strconv.Itoa(code))
}

// put adds an instrument, unless another goroutine has just done so: both
// stand for the same series. The caller holds the handle's lock.
func (t *byCode[T]) put(code int, instrument T) T {
	var list []coded[T]
	if old := t.list.Load(); old != nil {
		for _, c := range *old {
			if c.code == code {
				return c.instrument
			}
		}
		list = append(list, *old...)
	}
	list = append(list, coded[T]{code, instrument})
	t.list.Store(&list)
	return instrument
}
