package ingress

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// answer is a refusal: nothing was stored, or (500) nobody knows. Its zero
// value is no answer yet.
type answer struct {
	code       int
	reason     string        // one line that the sender can act on
	retryAfter time.Duration // above 0: sent with the answer, in whole seconds
	close      bool          // the rest of the body is not read, so the connection ends
	events     int           // how many were refused; 0 where the body was not understood
}

var notFound = answer{code: http.StatusNotFound, reason: "no such broker: events are sent to /NAMESPACE/BROKER"}

func (a answer) codeOr(code int) int {
	if a.code != 0 {
		return a.code
	}
	return code
}

// mayBeStored reports whether the events of a refused request may have been
// stored all the same.
func (a answer) mayBeStored() bool { return a.code == http.StatusInternalServerError }

// Values of headers that many answers share; net/http does not change them.
var (
	allow     = []string{"POST, OPTIONS"}
	plainText = []string{"text/plain; charset=utf-8"}
	noSniff   = []string{"nosniff"}
	oneSecond = []string{"1"}
	trueValue = []string{"true"}
)

// refuse writes the answer and counts it. It is what a flood of events costs,
// so it allocates nothing where it can do without.
func (h *Handler) refuse(w http.ResponseWriter, counts *telemetry.Broker, a answer) {
	header := w.Header()
	header["Content-Type"] = plainText
	header["X-Content-Type-Options"] = noSniff
	switch {
	case a.retryAfter > time.Second:
		header.Set("Retry-After", seconds(a.retryAfter))
	case a.retryAfter > 0:
		header["Retry-After"] = oneSecond
	}
	if a.close {
		header.Set("Connection", "close")
	}
	if a.code == http.StatusUnsupportedMediaType {
		header.Set("Accept-Encoding", "identity") // RFC 9110, 15.5.16
	}
	w.WriteHeader(a.code)
	// A sender that is gone does not hear the reason; there is nobody to tell.
	// (net/http adds the length: so little is written only when it is all there.)
	_, _ = io.WriteString(w, telemetry.Clean(a.reason))
	_, _ = io.WriteString(w, "\n")
	counts.Received(a.code, max(a.events, 1))
}

// seconds is a Retry-After value, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Waits for refusals that do not say themselves when to come back. A quota
// is emptied by people or by retention: there is no use in coming back soon.
const (
	defaultWait = time.Second
	quotaWait   = 10 * time.Second
)

// appendAnswer turns the channel's error into the answer for the sender. The
// texts are ours: an error may name files.
func appendAnswer(err error) answer {
	var refused *channel.Refused
	if errors.Is(err, channel.ErrUnknown) || !errors.As(err, &refused) {
		return answer{code: http.StatusInternalServerError,
			reason: "outcome unknown: the event may or may not have been stored; sent again it may be delivered twice"}
	}
	a := answer{retryAfter: refused.RetryAfter}
	wait := defaultWait
	switch {
	case errors.Is(err, channel.ErrTooLarge):
		return answer{code: http.StatusRequestEntityTooLarge, reason: "event is too large for this broker's channel"}
	case errors.Is(err, channel.ErrNoBroker):
		return notFound
	case errors.Is(err, channel.ErrFull):
		a.code, a.reason = http.StatusTooManyRequests, "channel is full: subscribers are slower than senders"
	case errors.Is(err, channel.ErrQuota):
		a.code, a.reason, wait = http.StatusInsufficientStorage, "storage quota of the broker is used up", quotaWait
	default:
		a.code, a.reason = http.StatusServiceUnavailable, "channel is not available"
	}
	if a.retryAfter <= 0 {
		a.retryAfter = wait
	}
	return a
}

// malformed is the answer to a message that is no CloudEvent we take.
func malformed(err error) answer {
	if errors.Is(err, event.ErrFormat) {
		return answer{code: http.StatusUnsupportedMediaType, reason: err.Error()}
	}
	return answer{code: http.StatusBadRequest, reason: err.Error()}
}
