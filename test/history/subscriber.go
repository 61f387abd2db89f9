package history

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Subscriber wraps the handler of a Trigger's subscriber: it records each event
// that comes and what h answers. h gets the body again. The answer is held back
// until h returns or flushes, since it must be written down before the broker
// can know; an h that takes over the connection, or panics to cut it, has not
// answered. A reply in binary mode is noted by its Ce-Id; h records its sending.
// A request that is not whole or no event is answered with 400; what
// is no event is recorded as a receipt of nothing, which nobody sent.
func (r *Recorder) Subscriber(trigger string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest) // half a request: the broker is gone, or has given up
			return
		}
		e, err := Read(req.Header, bytes.NewReader(body))
		receipt := r.Receipt(trigger, e)
		if err != nil {
			receipt.Answer(Answer{Code: http.StatusBadRequest})
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		a := &answering{w: w, req: req, receipt: receipt}
		h.ServeHTTP(a, req)
		a.end()
	})
}

// FailedHeader is set by a handler whose 2xx is no delivery, because what comes
// with it claims to be an event and is none. It does not leave the process
// unless the answer is flushed.
const FailedHeader = "X-History-Failed"

// Respond answers with a code, and with Retry-After where that is not 0.
func Respond(w http.ResponseWriter, code int, retryAfter time.Duration) {
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	w.WriteHeader(code)
}

// answering is a ResponseWriter that holds an answer back.
type answering struct {
	w       http.ResponseWriter
	req     *http.Request
	receipt Receipt

	code     int
	body     bytes.Buffer
	streamed bool // the status is out
	taken    bool // the connection belongs to the handler
}

func (a *answering) Header() http.Header { return a.w.Header() }

// Unwrap is for http.ResponseController.
func (a *answering) Unwrap() http.ResponseWriter { return a.w }

// Hijack is http.Hijacker's.
func (a *answering) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.taken = true
	return http.NewResponseController(a.w).Hijack()
}

func (a *answering) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answering) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.streamed {
		return a.w.Write(p)
	}
	return a.body.Write(p)
}

// FlushError sends what there is: from here on the broker reads along.
func (a *answering) FlushError() error {
	a.WriteHeader(http.StatusOK)
	if !a.streamed {
		a.streamed = true
		a.w.WriteHeader(a.code)
		if _, err := a.w.Write(a.body.Bytes()); err != nil {
			return err
		}
	}
	return http.NewResponseController(a.w).Flush()
}

// Flush is http.Flusher's.
func (a *answering) Flush() { _ = a.FlushError() }

func (a *answering) end() {
	if a.taken {
		return
	}
	a.WriteHeader(http.StatusOK)
	answer := Answer{Code: a.code, Gone: a.req.Context().Err() != nil, Streamed: a.streamed}
	if seconds, err := strconv.Atoi(a.w.Header().Get("Retry-After")); err == nil {
		answer.RetryAfter = time.Duration(seconds) * time.Second
	}
	answer.Reply = a.w.Header().Get("Ce-Id")
	answer.Failed = a.w.Header().Get(FailedHeader) != ""
	a.w.Header().Del(FailedHeader)
	a.receipt.Answer(answer)
	if !a.streamed {
		a.w.WriteHeader(a.code)
		_, _ = a.w.Write(a.body.Bytes()) // Gone tells; what fails later is the broker's timeout or death
	}
}
