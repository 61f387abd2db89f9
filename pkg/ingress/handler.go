// Package ingress is the front door: producers POST events to
// /{namespace}/{broker} and get an answer that means what it says. 202: every
// event of the request is stored, as durably as the broker promises. 4xx,
// 429, 503 and 507: none is. 500: unknown, and never claimed otherwise.
//
// It holds no event and no queue. Whatever a sender can make it hold has a
// bound with an answer of its own: connections (in all and of one client),
// header block, body, bodies in flight, nesting, events of a batch, and the
// time each may take, and a broker may have a bound of events a second. Nothing
// of a body is stored or looked at before method, path, broker, encoding, length
// and rate have passed; up to 256 KiB of one that is refused are thrown away to
// keep the connection. It does not authenticate and does not look inside the data.
//
// HTTP/1.1 is read by Server itself, strictly (package http1): what two readers
// could read in two ways is refused.
//
// A Handler may be used by any number of goroutines. Its limits on slow
// senders need Server, which sets the deadlines that a Handler only extends.
package ingress

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Defaults of Options.
const (
	DefaultMaxBody       = 1 << 20
	DefaultMaxBatch      = event.DefaultMaxBatch
	DefaultMaxInFlight   = 64 << 20
	DefaultTTL           = event.DefaultTTL
	DefaultBodyTimeout   = 10 * time.Second
	DefaultAnswerTimeout = 2 * time.Minute
)

// Options are what a Handler needs and its bounds; a bound of 0 is the default.
type Options struct {
	Routes  Routes             // required
	Metrics *telemetry.Metrics // nil counts for nobody
	Logger  *slog.Logger       // nil logs nothing

	MaxBody     int64 // bytes of one request's body: 413
	MaxBatch    int   // events of one request: 400
	MaxInFlight int64 // bytes of buffers for all bodies being received or stored: 429
	TTL         int   // passes through brokers that a new event may make; none left: 400

	// BodyTimeout is for each 64 KiB of a body, the first together with the
	// headers: 408.
	BodyTimeout time.Duration
	// AnswerTimeout is from the headers, or the last 64 KiB of the body, to the
	// end of the answer, storing included. It ends the connection.
	AnswerTimeout time.Duration

	// EventLink is where the API is reached, http://host:port without a path, for
	// the links of a 202; "" leaves the path alone.
	EventLink string

	// AllowOrigin decides which senders get permission in the WebHook
	// handshake; nil allows every well-formed origin that asks.
	AllowOrigin func(origin string) bool
}

// Handler answers producers. Make it with New.
type Handler struct {
	routes      Routes
	metrics     *telemetry.Metrics
	unknown     *telemetry.Broker
	log         *slog.Logger
	logSome     rate.Sometimes
	decoder     event.Decoder
	bodies      *bodies
	allowOrigin func(string) bool
	eventLink   string
	fronts      sync.Pool // of *front
}

// New returns a Handler. It starts nothing.
func New(o Options) *Handler {
	h := &Handler{
		routes:      o.Routes,
		metrics:     o.Metrics,
		log:         o.Logger,
		logSome:     rate.Sometimes{Interval: time.Second},
		allowOrigin: o.AllowOrigin,
		eventLink:   strings.TrimSuffix(o.EventLink, "/"),
	}
	if h.metrics == nil {
		h.metrics = telemetry.New(nil)
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.fronts.New = func() any { return new(front) }
	h.unknown = h.metrics.Broker(telemetry.UnknownBroker)
	h.bodies = newBodies(
		orDefault(o.MaxBody, DefaultMaxBody),
		orDefault(o.MaxInFlight, DefaultMaxInFlight),
		orDefault(o.BodyTimeout, DefaultBodyTimeout),
		orDefault(o.AnswerTimeout, DefaultAnswerTimeout),
		h.metrics.BodyBytes)
	h.decoder = event.Decoder{
		MaxBatch: orDefault(o.MaxBatch, DefaultMaxBatch),
		Stamp:    newStamp(orDefault(o.TTL, DefaultTTL)).apply,
	}
	return h
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// serve answers one request: a is empty before, and to be written after.
func (h *Handler) serve(ctx context.Context, q *request, a *reply) {
	a.set("Allow", "POST, OPTIONS")
	switch q.method {
	case http.MethodPost:
		h.post(ctx, q, a)
	case http.MethodOptions:
		h.handshake(q, a)
	default:
		h.refuse(a, h.unknown, answer{code: http.StatusMethodNotAllowed,
			reason: "events are sent with POST", close: q.length != 0})
	}
}

func (h *Handler) post(ctx context.Context, q *request, a *reply) {
	target, counts, refusal := h.find(q.path)
	if refusal.code == 0 {
		refusal = h.bodies.admit(q)
	}
	if refusal.code == 0 {
		refusal = target.Limit.enter()
	}
	if refusal.code != 0 {
		h.refuse(a, counts, refusal)
		return
	}
	events, stored, refusal := h.take(ctx, q, target, counts)
	if refusal.code != 0 {
		if !refusal.mayBeStored() {
			target.Limit.giveBack(1)
		}
		h.refuse(a, counts, refusal)
		return
	}
	a.code = http.StatusAccepted
	if target.Durability != "" {
		a.set("Durability", target.Durability)
	}
	duplicates := h.receipt(a, target.Name, stored)
	counts.Received(http.StatusAccepted, events)
	counts.Duplicates(duplicates)
}

// take receives a message that has entered, and stores its events. It returns
// how many there were, and as what they are stored.
func (h *Handler) take(ctx context.Context, q *request, target Target, counts *telemetry.Broker) (int, []channel.Stored, answer) {
	body, refusal := h.bodies.read(q)
	defer h.bodies.free(&body)
	if refusal.code != 0 {
		return 0, nil, refusal
	}
	q.fields = dropBadTrace(q.fields)
	events, _, err := h.decoder.DecodeFields(q.fields, body.bytes, q.events[:0])
	if err != nil {
		return 0, nil, malformed(err)
	}
	if len(events) == 0 {
		// A batch of no events is a valid message (CloudEvents JSON format, 4):
		// all of it is stored.
		target.Limit.giveBack(1)
		return 0, nil, answer{}
	}
	defer clear(events)
	var stored []channel.Stored
	if refusal = target.Limit.more(len(events) - 1); refusal.code == 0 {
		start := time.Now()
		stored, err = target.Appender.Append(ctx, target.UID, events)
		refusal = h.appended(err, target)
		counts.Appended(refusal.codeOr(http.StatusAccepted), time.Since(start))
		if refusal.code != 0 && !refusal.mayBeStored() {
			target.Limit.giveBack(len(events) - 1)
		}
	}
	refusal.events = len(events)
	return len(events), stored, refusal
}

// find looks the broker up, without a look at the body.
func (h *Handler) find(path string) (Target, *telemetry.Broker, answer) {
	if path == "/" || path == "" {
		return Target{}, h.unknown, notFound
	}
	namespace, name, shape, ok := splitPath(path)
	if !shape {
		return Target{}, h.unknown, answer{code: http.StatusBadRequest, reason: "path: want /NAMESPACE/BROKER"}
	}
	if !ok {
		return Target{}, h.unknown, notFound // no broker can have such a name
	}
	target, ok := h.routes(namespace, name)
	if !ok {
		return Target{}, h.unknown, notFound
	}
	counts := h.metrics.Broker(target.Name)
	if target.Ready != nil {
		return target, counts, answer{code: http.StatusServiceUnavailable,
			reason: "broker is not ready: " + target.Ready.Error(), retryAfter: time.Second}
	}
	return target, counts, answer{}
}

// appended turns the channel's answer into ours. An outcome that is not known
// is the one thing an operator must hear of from here: nobody else knows that
// a sender was told so.
func (h *Handler) appended(err error, target Target) answer {
	if err == nil {
		return answer{}
	}
	a := appendAnswer(err)
	if a.mayBeStored() {
		h.logSome.Do(func() {
			h.log.LogAttrs(context.Background(), slog.LevelError, "append with unknown outcome",
				slog.String(telemetry.KeyBroker, target.Name), slog.Any(telemetry.KeyError, err))
		})
	}
	return a
}
