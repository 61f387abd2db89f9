package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dedup"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

// dedupFolder is where in the data folder it is kept what events are known.
const dedupFolder = "dedup"

// openDoors puts before each log what knows the events of Brokers with a dedup
// window. It stands where events come in from outside: the dispatcher's replies
// go to the logs themselves (package dedup says why).
func (e *Engine) openDoors() error {
	e.doors = make(map[string]*dedup.Appender, len(e.logs))
	e.doorOf = make(map[channel.Appender]*dedup.Appender, len(e.logs))
	for kind, log := range e.logs {
		o := dedup.Options{Logger: e.o.Logger}
		if kind == config.ChannelDisk {
			o.Dir = filepath.Join(e.o.Data, dedupFolder)
		}
		door := dedup.New(log, o)
		e.doors[kind], e.doorOf[log] = door, door
		var stored []channel.UID
		for _, info := range log.Brokers() {
			stored = append(stored, info.UID)
		}
		if err := door.Keep(stored); err != nil {
			return fmt.Errorf("%s: %w", o.Dir, err)
		}
	}
	return nil
}

// appender finds where events for a Broker come in. There is nothing yet for
// one of which it is not settled what events are known.
func (e *Engine) appender(broker channel.UID) (channel.Appender, bool) {
	log, ok := e.Dispatcher.Appender(broker)
	if !ok {
		return nil, false
	}
	door := e.doorOf[log]
	return door, door.Knows(broker)
}

// setWindows gives each Broker that runs the window of the snapshot, and
// forgets what belongs to those that are gone. A Broker that is not ready, or
// in its grace, keeps what it has.
func (e *Engine) setWindows(ctx context.Context, s *config.Snapshot) []error {
	var errs []error
	for _, b := range s.Brokers() {
		log, ok := e.Dispatcher.Log(b.UID)
		if !ok || !b.Ready {
			continue
		}
		err := e.doors[b.Channel].Set(ctx, dedup.Broker{UID: b.UID, Name: b.FullName(), Window: b.DedupWindow, Log: log})
		if err != nil {
			errs = append(errs, &dispatch.BrokerError{UID: b.UID, Name: b.FullName(), Err: err})
		}
	}
	for _, r := range s.Removed() {
		if r.Kind != config.KindBroker {
			continue
		}
		for _, door := range e.doors {
			if err := door.Remove(r.UID); err != nil {
				errs = append(errs, fmt.Errorf("forget known events of broker %s: %w", r.UID, err))
			}
		}
	}
	return errs
}

// inForce is dispatch's Apply with the windows of the Brokers. Its error is
// like that of Apply.
func (e *Engine) inForce(ctx context.Context, s *config.Snapshot) error {
	err := e.Dispatcher.Apply(ctx, s)
	if ctx.Err() != nil || errors.Is(err, channel.ErrClosed) {
		return err
	}
	var all []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = append(all, joined.Unwrap()...)
	} else if err != nil {
		all = append(all, err)
	}
	return errors.Join(append(all, e.setWindows(ctx, s)...)...)
}

// known is what each Broker's set knows, by Broker.
func (e *Engine) known() map[channel.UID]dedup.Stats {
	all := make(map[channel.UID]dedup.Stats)
	for _, door := range e.doors {
		for s := range door.Stats {
			all[s.UID] = s
		}
	}
	return all
}
