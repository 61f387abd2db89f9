package remote

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Defaults of ServerOptions.
const (
	DefaultServerMaxRequestBytes = 16 << 20
	DefaultMaxAppends            = 4096
	DefaultMaxEvents             = 1 << 16
	DefaultMaxInFlight           = 128 << 20
	DefaultConcurrent            = 64
	DefaultBodyTimeout           = 30 * time.Second
	DefaultGrace                 = 6 * time.Second
	DefaultLastWords             = time.Second
)

// ErrForbidden is what ServerOptions.Authorize wraps where it knows who asks
// and does not let them: 403.
var ErrForbidden = errors.New("not allowed to append")

// ServerOptions are what a Server needs and its bounds; a bound of 0 is the
// default.
type ServerOptions struct {
	// Appender finds where a Broker's events are stored. An error is a refusal:
	// one that wraps channel.ErrNoBroker where there is no such Broker, and
	// channel.ErrUnavailable (or anything else) where it is not loaded yet. It is
	// called for each append and must not block.
	Appender func(broker channel.UID) (channel.Appender, error)

	// Authorize says whether a request may append, from its headers: nil is yes.
	// An error that wraps ErrForbidden is 403, one that wraps
	// channel.ErrUnavailable (nobody could be asked) is 503, and all others 401.
	// It is called before a byte of the body is read. A nil Authorize lets
	// nobody in.
	Authorize func(*http.Request) error

	Logger *slog.Logger // nil logs nothing

	MaxRequestBytes int64 // of one request: 413
	MaxAppends      int   // in one request: 400
	MaxEvents       int   // in one request: 400
	MaxInFlight     int64 // bytes of all requests being received or stored: 429
	Concurrent      int   // appends of one request in the log at once; the others wait

	BodyTimeout time.Duration // for reading a request, its headers included

	// When Run's ctx ends, answers say for Grace (or until no connection is left)
	// that the owner stops, and events are taken all the same; then they are
	// refused for LastWords; then the connections are closed.
	Grace     time.Duration
	LastWords time.Duration
}

// Server takes appends for the log of this process: an http.Handler for Path,
// with a Run that serves it and stops in order. Make it with NewServer.
type Server struct {
	o     ServerOptions
	conns connections

	draining, refusing atomic.Bool

	inFlight                                            atomic.Int64
	requests, appends, stored, refused, unknown, events atomic.Uint64
	unauthorized, malformed                             atomic.Uint64
	groups                                              sync.Pool // of *[]group, without what they point to
	buffers                                             sync.Pool // of *[]byte, for answers
	logSome                                             rate.Sometimes
}

// NewServer returns a Server. It starts nothing.
func NewServer(o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Authorize == nil {
		o.Authorize = func(*http.Request) error { return errors.New("nobody is let in") }
	}
	o.MaxRequestBytes = orDefault(o.MaxRequestBytes, DefaultServerMaxRequestBytes)
	o.MaxAppends = orDefault(o.MaxAppends, DefaultMaxAppends)
	o.MaxEvents = orDefault(o.MaxEvents, DefaultMaxEvents)
	o.MaxInFlight = orDefault(o.MaxInFlight, DefaultMaxInFlight)
	o.Concurrent = orDefault(o.Concurrent, DefaultConcurrent)
	o.BodyTimeout = orDefault(o.BodyTimeout, DefaultBodyTimeout)
	o.Grace = orDefault(o.Grace, DefaultGrace)
	o.LastWords = orDefault(o.LastWords, DefaultLastWords)
	return &Server{o: o, logSome: rate.Sometimes{Interval: time.Second}}
}

// Header values that many answers share; net/http does not change them.
var (
	versionValue = []string{version}
	trueValue    = []string{"true"}
	octets       = []string{"application/octet-stream"}
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	header := w.Header()
	header[headerVersion] = versionValue
	if s.draining.Load() {
		header[headerDraining] = trueValue
	}
	status, err := s.admit(r)
	if err == nil {
		size := r.ContentLength
		if s.inFlight.Add(size) <= s.o.MaxInFlight {
			status, err = s.take(w, r)
		} else {
			status, err = http.StatusTooManyRequests, errBusy
		}
		s.inFlight.Add(-size)
	}
	if err == nil {
		return
	}
	switch status {
	case http.StatusUnauthorized:
		s.unauthorized.Add(1)
		header.Set("WWW-Authenticate", "Bearer")
	case http.StatusForbidden:
		s.unauthorized.Add(1)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	case http.StatusBadRequest:
		s.malformed.Add(1)
	}
	if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
		s.logSome.Do(func() {
			s.o.Logger.LogAttrs(r.Context(), slog.LevelWarn, "append request refused", slog.String("peer", r.RemoteAddr),
				slog.Int("status", status), slog.Any("error", err))
		})
	}
	http.Error(w, telemetry.Clean(err.Error()), status)
}

var (
	errBusy     = errors.New("too much is being received: try again")
	errStopping = errors.New("dispatcher is stopping")
	errPath     = errors.New("appends are sent to " + Path)
	errMethod   = errors.New("appends are sent with POST")
	errLength   = errors.New("length of the body must be told")
)

// admit looks at everything but the body. Who is not known learns nothing but
// that.
func (s *Server) admit(r *http.Request) (status int, err error) {
	if err := s.o.Authorize(r); err != nil {
		switch {
		case errors.Is(err, ErrForbidden):
			return http.StatusForbidden, err
		case errors.Is(err, channel.ErrUnavailable):
			return http.StatusServiceUnavailable, err
		}
		return http.StatusUnauthorized, err
	}
	switch {
	case r.URL.Path != Path:
		return http.StatusNotFound, errPath
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, errMethod
	case s.refusing.Load():
		return http.StatusServiceUnavailable, errStopping
	case r.ContentLength < 0:
		return http.StatusLengthRequired, errLength
	case r.ContentLength > s.o.MaxRequestBytes:
		return http.StatusRequestEntityTooLarge, fmt.Errorf("%d bytes, and at most %d are taken at once", r.ContentLength, s.o.MaxRequestBytes)
	}
	return 0, nil
}

// take receives the body, stores what it holds, and answers. An error is from
// before anything was stored.
func (s *Server) take(w http.ResponseWriter, r *http.Request) (status int, err error) {
	// Not pooled: the events are slices of it, and whose they are is the log's affair.
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return http.StatusBadRequest, fmt.Errorf("read body: %w", err)
	}
	pooled, _ := s.groups.Get().(*[]group)
	if pooled == nil {
		pooled = new([]group)
	}
	groups, events, err := decodeRequest(body, s.o.MaxAppends, s.o.MaxEvents, (*pooled)[:0])
	defer func() {
		clear(groups)
		*pooled = groups
		s.groups.Put(pooled)
	}()
	if errors.Is(err, errLarger) {
		return http.StatusRequestEntityTooLarge, err
	}
	if err != nil {
		return http.StatusBadRequest, err
	}
	s.store(r.Context(), groups, events)
	buffer, _ := s.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	b := (*buffer)[:0]
	duplicates := len(r.Header[headerDuplicates]) > 0
	for i := range groups {
		b = appendOutcome(b, groups[i].ids, groups[i].err, duplicates)
	}
	b = seal(b, 0)
	header := w.Header()
	if s.draining.Load() { // since the request came
		header[headerDraining] = trueValue
	}
	header["Content-Type"] = octets
	header["Content-Length"] = []string{strconv.Itoa(len(b))}
	_, _ = w.Write(b) // who does not read it knows that they do not know
	*buffer = b
	s.buffers.Put(buffer)
	return 0, nil
}

// Stats counts; cheap enough for every scrape.
func (s *Server) Stats() ServerStats {
	return ServerStats{
		Requests: s.requests.Load(), Appends: s.appends.Load(), Stored: s.stored.Load(), Refused: s.refused.Load(),
		Unknown: s.unknown.Load(), Events: s.events.Load(), Unauthorized: s.unauthorized.Load(),
		Malformed: s.malformed.Load(), InFlightBytes: s.inFlight.Load(),
	}
}

// ServerStats are a Server's counts.
type ServerStats struct {
	Requests      uint64 // answered, the empty ones included
	Appends       uint64 // in them
	Stored        uint64 // of these
	Refused       uint64
	Unknown       uint64
	Events        uint64 // stored
	Unauthorized  uint64 // requests answered 401 or 403
	Malformed     uint64 // requests that could not be read
	InFlightBytes int64
}
