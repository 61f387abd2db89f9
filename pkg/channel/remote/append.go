package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// Append implements channel.Appender.
func (c *Client) Append(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.Stored, error) {
	if len(events) == 0 {
		return nil, nil
	}
	select {
	case <-c.started:
	default:
		select {
		case <-c.started:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, c.refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, err))
	}
	if len(broker) > maxUID {
		return nil, &channel.Refused{Err: fmt.Errorf("%w: its uid has %d bytes", channel.ErrNoBroker, len(broker))}
	}
	for i := range events {
		if events[i].IsZero() {
			return nil, &channel.Refused{Err: fmt.Errorf("event %d of %d is empty", i+1, len(events))}
		}
	}
	routes := c.routes.Load()
	keying := c.o.Keying(broker)
	home, several := route(events, routes.homes, keying)
	if several {
		return c.scatter(ctx, broker, events, keying)
	}
	it := c.item(broker, events, home != anywhere)
	c.mu.Lock()
	err := c.hand(it, home)
	c.mu.Unlock()
	if err == nil {
		c.await(ctx, it)
		err = it.err
	}
	ids := it.ids
	c.recycle(it)
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// Homes that are no ordinal: of an event without a key, and of one with a key
// where no owner is declared.
const (
	anywhere = -1
	nowhere  = -2
)

// route is the ordinal that events belong to, anywhere if it does not matter.
// several is true where they belong to more than one.
func route(events []event.Event, homes []channel.ShardID, keying channel.Keying) (home int, several bool) {
	home = anywhere
	for i := range events {
		at := homeOf(events[i], homes, keying)
		switch {
		case at == anywhere || at == home:
		case home == anywhere:
			home = at
		default:
			return home, true
		}
	}
	return home, false
}

func homeOf(e event.Event, homes []channel.ShardID, keying channel.Keying) int {
	hash, keyed := channel.KeyHash(e, keying)
	switch {
	case !keyed:
		return anywhere
	case len(homes) == 0:
		return nowhere
	}
	return int(channel.HomeOf(hash, homes) - homeBase)
}

// scatter sends events to the several owners they belong to.
func (c *Client) scatter(ctx context.Context, broker channel.UID, events []event.Event, keying channel.Keying) ([]channel.Stored, error) {
	homes := c.routes.Load().homes
	var (
		order []int                      // homes, as they come
		part  = make(map[int]int)        // home -> index into parts
		parts [][]event.Event            //
		of    = make([]int, len(events)) // event -> its part
		at    = make([]int, len(events)) // event -> its place there
	)
	for i, e := range events {
		home := homeOf(e, homes, keying)
		if home == anywhere {
			of[i] = anywhere
			continue
		}
		n, ok := part[home]
		if !ok {
			n = len(order)
			part[home], order, parts = n, append(order, home), append(parts, nil)
		}
		of[i] = n
	}
	for i, e := range events {
		n := max(of[i], 0) // those without a key ride with the first
		of[i], at[i] = n, len(parts[n])
		parts[n] = append(parts[n], e)
	}
	items := make([]*item, len(parts))
	for n, events := range parts {
		items[n] = c.item(broker, events, true)
	}
	defer func() {
		for _, it := range items {
			c.recycle(it)
		}
	}()
	c.mu.Lock()
	err := c.handAll(items, order)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.awaitAll(ctx, items)
	if err := outcome(items); err != nil {
		return nil, err
	}
	ids := make([]channel.Stored, len(events))
	for i := range ids {
		ids[i] = items[of[i]].ids[at[i]]
	}
	return ids, nil
}

// outcome is that of an append in parts: nil where all are stored, a refusal
// where all are refused, and unknown otherwise.
func outcome(items []*item) error {
	var failed error
	stored, refused := 0, 0
	for _, it := range items {
		switch {
		case it.err == nil:
			stored++
		case !errors.Is(it.err, channel.ErrUnknown):
			refused++
			failed = it.err
		}
	}
	switch len(items) {
	case stored:
		return nil
	case refused:
		return failed
	}
	// Not wrapped: the refusal of a part is none of the whole.
	return fmt.Errorf("%w: of %d parts %d are stored and %d refused", channel.ErrUnknown, len(items), stored, refused)
}

func (c *Client) item(broker channel.UID, events []event.Event, keyed bool) *item {
	it, ok := c.items.Get().(*item)
	if !ok {
		it = &item{done: make(chan struct{}, 1)}
	}
	it.uid, it.events, it.keyed = broker, events, keyed
	it.size = requestSize(broker, events)
	return it
}

// recycle takes back an item that no queue and no worker has.
func (c *Client) recycle(it *item) {
	clear(it.tried)
	*it = item{done: it.done, tried: it.tried[:0]}
	c.items.Put(it)
}

func (c *Client) refused(err error) error {
	return &channel.Refused{Err: err, RetryAfter: c.o.RetryAfter}
}

// hand gives an append to the owner of its home, or to any. It is called with
// c.mu held.
func (c *Client) hand(it *item, home int) error {
	o, err := c.pick(home)
	if err != nil {
		return err
	}
	if !o.enter(it) {
		return c.full(o)
	}
	return nil
}

// handAll hands over all parts of an append, or none.
func (c *Client) handAll(items []*item, order []int) error {
	to := make([]*owner, len(items))
	for n, it := range items {
		o, err := c.pick(order[n])
		if err != nil {
			return err
		}
		if !o.room(1, it.size) {
			return c.full(o)
		}
		to[n] = o
	}
	for n, it := range items {
		to[n].enter(it)
	}
	return nil
}

// pick finds the owner to send to. It is called with c.mu held.
func (c *Client) pick(home int) (*owner, error) {
	if c.state != running {
		return nil, c.refused(c.notRunning())
	}
	if home == anywhere {
		if o := c.choose(nil); o != nil {
			return o, nil
		}
		return nil, c.refused(fmt.Errorf("%w: no dispatcher serves", channel.ErrUnavailable))
	}
	o := c.routes.Load().owner(home)
	switch {
	case home == nowhere:
		return nil, c.refused(fmt.Errorf("%w: no dispatcher is declared", channel.ErrUnavailable))
	case o == nil:
		return nil, c.refused(fmt.Errorf("%w: dispatcher %d, home of the event's key, is away", channel.ErrUnavailable, home))
	case !o.up:
		return nil, o.why
	}
	return o, nil
}

// choose is the owner with the least to do, by turn where several have
// little, nil if there is none. It is called with c.mu held.
func (c *Client) choose(tried []*owner) (chosen *owner) {
	all := c.routes.Load().owners
	c.turn++
	for i := range all {
		o := all[(c.turn+uint64(i))%uint64(len(all))]
		if !o.up || slices.Contains(tried, o) {
			continue
		}
		if chosen == nil || o.load() < chosen.load() {
			chosen = o
		}
	}
	return chosen
}

func (c *Client) full(o *owner) error {
	return c.refused(fmt.Errorf("%w: %d appends of %d bytes wait for dispatcher %d", channel.ErrFull, len(o.queue), o.queued, o.Ordinal))
}

// await waits for the answer. Where ctx ends before the append has left the
// queue, that is the answer.
func (c *Client) await(ctx context.Context, it *item) {
	select {
	case <-it.done:
		return
	case <-ctx.Done():
	}
	c.mu.Lock()
	withdrawn := c.withdraw(it)
	c.mu.Unlock()
	if withdrawn {
		it.ids, it.err = nil, c.refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, ctx.Err()))
		return
	}
	<-it.done
}

// withdraw takes an append out of its queue. One that has left it is not sent
// a second time from here on.
func (c *Client) withdraw(it *item) bool {
	if it.in == nil {
		it.gone = true
		return false
	}
	it.in.leave(it)
	return true
}

// awaitAll waits for the answers of all parts. Where ctx ends before one of
// them has left its queue, none is sent; afterwards all are, for half an append
// is worth less than a whole.
func (c *Client) awaitAll(ctx context.Context, items []*item) {
	for n, it := range items {
		select {
		case <-it.done:
			continue
		case <-ctx.Done():
		}
		c.mu.Lock()
		withdrawn := n == 0 && !slices.ContainsFunc(items, func(it *item) bool { return it.in == nil })
		if withdrawn {
			for _, it := range items {
				c.withdraw(it)
			}
		}
		c.mu.Unlock()
		if withdrawn {
			err := c.refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, ctx.Err()))
			for _, it := range items {
				it.ids, it.err = nil, err
			}
			return
		}
		<-it.done
	}
}
