package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/penstock-events/penstock/pkg/channel"
)

var errStops = errors.New("it stops")

// exchange sends a batch that has left the queue, and answers it, puts it back
// or gives it to others. An empty batch asks how the owner is.
func (o *owner) exchange(l *link, batch []*item) {
	if l.stale() {
		o.c.mu.Lock()
		o.back(batch)
		o.c.mu.Unlock()
		return
	}
	size, events := int64(0), 0
	for _, it := range batch {
		size += it.size
		events += len(it.events)
	}
	timeout := o.c.o.Timeout
	if len(batch) == 0 {
		timeout = o.c.o.DialTimeout
	}
	r := l.send(batch, size, timeout, maxAnswer(len(batch), events))
	if r.status == http.StatusOK {
		if err := read(batch, r.body); err != nil {
			l.close()
			r.status, r.err = 0, fmt.Errorf("read answer: %w", err)
		}
	}
	if r.status == http.StatusUnauthorized {
		o.c.o.Tokens.Rejected(l.token)
	}
	if r.draining && r.err == nil {
		r.err = errStops
	}
	o.c.mu.Lock()
	o.conclude(r, batch, size)
	o.c.mu.Unlock()
	for _, it := range batch {
		if it != nil {
			it.done <- struct{}{}
		}
	}
}

// read gives each append of a batch its outcome.
func read(batch []*item, body []byte) error {
	a := readAnswers(body)
	for _, it := range batch {
		it.ids, it.err = a.next(len(it.events))
	}
	return a.end()
}

// conclude decides what a reply means for the batch and for the owner. What
// stays in batch has its answer; what is sent again, or elsewhere, is taken
// out. It is called with c.mu held.
func (o *owner) conclude(r reply, batch []*item, size int64) {
	o.requests++
	switch {
	case r.status == http.StatusOK:
		o.flying -= len(batch)
		o.stats.Appends += uint64(len(batch))
		o.settle(batch)
		if r.draining {
			o.down(r)
		} else {
			o.well()
		}
	case r.status == 0 && !r.wrote || r.status == http.StatusUnauthorized:
		// Nothing is stored, and it is the connection's or the token's fault.
		o.back(batch)
	case r.status == 0:
		o.flying -= len(batch)
		o.stats.Appends += uint64(len(batch))
		o.stats.Unknown += uint64(len(batch))
		err := fmt.Errorf("%w: owner %d at %s: %w", channel.ErrUnknown, o.Ordinal, o.Address, r.err)
		for _, it := range batch {
			it.ids, it.err = nil, err
		}
		o.ask = true // is it still there?
	case r.status == http.StatusRequestEntityTooLarge && len(batch) > 1:
		o.limit = size / 2
		for _, it := range batch {
			it.sends-- // not its fault, and this ends: one alone is refused
		}
		o.back(batch)
	case r.status == http.StatusTooManyRequests, r.status == http.StatusRequestEntityTooLarge,
		r.status == http.StatusBadRequest, r.status == http.StatusLengthRequired:
		if r.status == http.StatusBadRequest || r.status == http.StatusLengthRequired {
			o.c.o.Logger.LogAttrs(context.Background(), slog.LevelError, "dispatcher does not understand a request",
				slog.Int("owner", o.Ordinal), slog.String("address", o.Address), slog.Any("error", r.err))
		}
		o.flying -= len(batch)
		o.stats.Appends += uint64(len(batch))
		o.stats.Refused += uint64(len(batch))
		err := r.refuse(o.Owner, &o.c.o)
		for _, it := range batch {
			it.ids, it.err = nil, err
		}
	default: // it takes no events at all
		o.flying -= len(batch)
		refusal := r.refuse(o.Owner, &o.c.o)
		o.down(r)
		for i, it := range batch {
			o.elsewhere(it, refusal)
			batch[i] = nil
		}
	}
}

// settle counts outcomes, and gives what this owner's log does not take just
// now to others. It is called with c.mu held.
func (o *owner) settle(batch []*item) {
	for i, it := range batch {
		switch {
		case it.err == nil:
			o.stats.Stored++
		case errors.Is(it.err, channel.ErrUnknown):
			o.stats.Unknown++
		case errors.Is(it.err, channel.ErrUnavailable):
			o.elsewhere(it, it.err)
			batch[i] = nil
		default:
			o.stats.Refused++
		}
	}
}

// back puts a batch of which nothing has arrived where it was: first in the
// queue. It is called with c.mu held.
func (o *owner) back(batch []*item) {
	o.flying -= len(batch)
	if len(batch) == 0 {
		o.ask = true
		return
	}
	again := make([]*item, 0, len(batch)+len(o.queue))
	for i, it := range batch {
		batch[i] = nil
		if it.sends++; it.sends >= maxSends || it.gone {
			r := reply{err: errors.New("connections end before they are used")}
			o.elsewhere(it, r.refuse(o.Owner, &o.c.o))
			continue
		}
		it.in = o
		o.queued += it.size
		again = append(again, it)
	}
	o.queue = append(again, o.queue...)
}

// elsewhere offers an append that was refused to another owner, if it has no
// home and has not been offered too often, and answers it otherwise. (A Client
// that stops offers nothing: the other's workers may have ended.) It is called
// with c.mu held.
func (o *owner) elsewhere(it *item, refusal error) {
	it.tried = append(it.tried, o)
	if !it.keyed && !it.gone && o.c.state == running && len(it.tried) < o.c.o.Tries {
		if other := o.c.choose(it.tried); other != nil {
			it.sends, it.ids, it.err = 0, nil, nil
			if other.enter(it) {
				o.stats.Moved++
				return
			}
		}
	}
	it.ids, it.err = nil, refusal
	o.stats.Refused++
	it.done <- struct{}{}
}
