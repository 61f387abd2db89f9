package disk_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/memfs"
)

// restarts ends the log by a close (0), a kill (1) or a power cut (2) and
// opens it again.
func (h *life) restarts(how int) {
	h.ends(how)
	if h.broken == nil {
		h.opensAgain()
	}
}

// ends is the first half of restarts. Progress that was not yet durable may
// be gone; what is there is the truth from now on.
func (h *life) ends(how int) {
	old, s := h.fs, shot{}
	if how == 0 {
		err := h.stop()
		if s = h.shoot(memfs.Op{}); err == nil && !latched(h.log) {
			s.sure = s.issued // a close loses nothing
		} else if err != nil && h.fail == nil && !errors.Is(err, syscall.ENOSPC) {
			h.breaks(fmt.Errorf("close: %w", err))
		}
	} else {
		s = h.shoot(memfs.Op{})
		old.CrashAt(0)
		_ = h.stop()
	}
	h.fs = s.fs
	if how == 2 {
		h.fs = s.fs.Crash(h.rng)
	}
	h.down, h.left = true, s
	h.left.fs = h.fs
	k, err := h.check(h.fs.Snapshot(), s)
	if err != nil {
		h.breaks(fmt.Errorf("restart: %w", err))
		return
	}
	h.fs.Hook(h.before, nil)
	h.mu.Lock()
	h.states = append(h.states, h.states[k])
	h.since = append(h.since, time.Now())
	h.sure = len(h.states) - 1
	h.mu.Unlock()
}

// opensAgain is the second half. On a medium that fails it may have to be
// tried again.
func (h *life) opensAgain() {
	if err := h.begin(); err != nil && h.fail == nil {
		h.breaks(fmt.Errorf("open again: %w", err))
	}
}

// check opens a file system and holds what it finds against what had been
// promised at the moment of a shot: all of it is there, of what was under way
// everything up to a point and nothing after it, and the log works on. It
// returns which of the states the log came back in.
func (h *life) check(fs *memfs.FS, s shot) (k int, err error) {
	o := h.o
	o.FS = fs
	l, err := disk.Open(lifeDir, o)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	stop := running(l)
	defer func() {
		if e := stop(); err == nil && e != nil && !errors.Is(e, syscall.ENOSPC) {
			err = fmt.Errorf("close: %w", e)
		}
	}()
	if l.Epoch() <= s.epoch {
		return 0, fmt.Errorf("owner epoch %d after %d", l.Epoch(), s.epoch)
	}
	handles, err := handlesOf(l)
	if err != nil {
		return 0, err
	}
	k, err = h.match(l, handles, s)
	if err != nil {
		return 0, err
	}
	for uid, b := range h.states[k].brokers {
		all, err := readAll(handles[uid])
		if err == nil {
			err = b.differsInEvents(all, h.puts[:s.puts], s.acks)
		}
		if err != nil {
			return 0, fmt.Errorf("broker %s: %w", uid, err)
		}
	}
	return k, h.worksOn(l, handles, s)
}

// match finds the state that the log is in.
func (h *life) match(l *disk.Log, handles map[channel.UID]channel.BrokerLog, s shot) (int, error) {
	var first error
	for k := s.sure; k <= s.issued; k++ {
		err := h.states[k].differs(l, handles)
		if err == nil {
			return k, nil
		}
		if first == nil {
			first = err
		}
	}
	return 0, fmt.Errorf("none of %d possible states: %w", s.issued-s.sure+1, first)
}

// worksOn appends an event to each broker and reads it back.
func (h *life) worksOn(l *disk.Log, handles map[channel.UID]channel.BrokerLog, s shot) error {
	for _, uid := range sortedKeys(handles) {
		e := eventOf(-1, 100, rand.New(rand.NewPCG(1, uint64(s.op.N))))
		next := make(map[channel.ShardID]channel.Position)
		for _, shard := range handles[uid].Shards() {
			_, next[shard] = handles[uid].Range(shard)
		}
		ids, err := l.Append(context.Background(), uid, []event.Event{e})
		if errors.Is(err, channel.ErrQuota) {
			continue
		}
		if err != nil {
			return fmt.Errorf("append to %s afterwards: %w", uid, err)
		}
		if ids[0].Position != next[ids[0].Shard] {
			return fmt.Errorf("append to %s afterwards: %s, and the next position was %d", uid, ids[0], next[ids[0].Shard])
		}
		records, err := handles[uid].Get(context.Background(), ids[0].Shard, []channel.Position{ids[0].Position}, nil)
		if err != nil || len(records) != 1 || string(records[0].Event.Raw()) != string(e.Raw()) {
			return fmt.Errorf("read %s of %s afterwards: %d records, %w", ids[0], uid, len(records), err)
		}
	}
	return nil
}
