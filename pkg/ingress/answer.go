package ingress

import (
	"errors"
	"net/http"
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

// refuse makes the answer and counts it. It is what a flood of events costs,
// so it allocates nothing where it can do without.
func (h *Handler) refuse(a *reply, counts *telemetry.Broker, said answer) {
	a.code, a.close, a.reason = said.code, said.close, telemetry.Clean(said.reason)
	a.set("Content-Type", "text/plain; charset=utf-8")
	a.set("X-Content-Type-Options", "nosniff")
	if said.retryAfter > 0 {
		a.setInt("Retry-After", seconds(said.retryAfter))
	}
	if said.code == http.StatusUnsupportedMediaType {
		a.set("Accept-Encoding", "identity") // RFC 9110, 15.5.16
	}
	counts.Received(said.code, max(said.events, 1))
}

// seconds is a Retry-After value, rounded up.
func seconds(d time.Duration) uint64 { return uint64((d + time.Second - 1) / time.Second) }

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
