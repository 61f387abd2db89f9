package deliver

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"

	"github.com/penstock-events/penstock/pkg/event"
)

// Extensions that tell a dead letter sink what went wrong (Knative
// specification, data plane, Event Delivery).
const (
	ExtErrorDest = "knativeerrordest"
	ExtErrorCode = "knativeerrorcode"
	ExtErrorData = "knativeerrordata"
)

// maxErrorData is how much of an answer fits into the 1,024 characters that
// other brokers give knativeerrordata. They cut the base64; we cut what is
// encoded, so that it can be decoded.
const maxErrorData = 1024 / 4 * 3

// Failure is what a dead letter tells about its last attempt. It can be stored
// and made again from what was stored.
type Failure struct {
	Destination string // exactly as configured
	Status      int    // of the last answer, 0 if there was none
	Reason      string // one line, as Error.Reason
	Body        []byte // beginning of the last answer's body
}

// FailureOf describes the err of an attempt to deliver to t. An error that is
// no *Error, such as a reply that could not be stored, is its own reason.
func FailureOf(t *Target, err error) Failure {
	f := Failure{Destination: t.destination}
	var e *Error
	if errors.As(err, &e) {
		f.Status, f.Reason, f.Body = e.Status, e.Reason(), e.Body
	} else if err != nil {
		f.Reason = clip(err.Error())
	}
	return f
}

// Overlay is what the dead letter sink gets on top of the original event:
//
//   - knativeerrordest, the destination's text unchanged (but for control
//     characters, which no attribute can hold);
//   - knativeerrorcode, an integer: the status; 500 where nobody answered, as
//     Knative's own broker reports it; 502 where the status was good and what
//     came with it was not, as its filter does;
//   - knativeerrordata, base64: the beginning of the answer's body, absent
//     where it was empty; for the codes above without a status of their own
//     "dispatch error: " and the reason.
//
// Nothing is hidden. In particular the hop count stays on the event, so that a
// sink that is the same broker again does not make an endless loop.
func (f Failure) Overlay() *event.Overlay {
	code, data := f.Status, f.Body
	switch {
	case f.Status == 0:
		code, data = http.StatusInternalServerError, []byte("dispatch error: "+f.Reason)
	case f.Status >= 200 && f.Status <= 299:
		code, data = http.StatusBadGateway, []byte("dispatch error: "+f.Reason)
	}
	o := &event.Overlay{Set: []event.Attribute{
		{Name: ExtErrorDest, Value: event.Value{Text: oneLine(f.Destination)}},
		{Name: ExtErrorCode, Value: event.Value{Text: strconv.Itoa(code), Kind: event.Integer}},
	}}
	if len(data) > 0 {
		encoded := base64.StdEncoding.EncodeToString(data[:min(len(data), maxErrorData)])
		o.Set = append(o.Set, event.Attribute{Name: ExtErrorData, Value: event.Value{Text: encoded}})
	} else {
		// The original may itself be a dead letter, of another broker's.
		o.Hide = []string{ExtErrorData}
	}
	return o
}
