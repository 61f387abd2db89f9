package cli

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/penstock-events/penstock/pkg/channel/disk"
)

// repairWait is how long a repair waits for damaged segments to be set aside
// once all is read. A segment that the disk cannot read is tried for a minute.
const repairWait = 2 * time.Minute

// repairStore opens a stopped store whatever it takes, runs it until all of it
// has been read and what is damaged is set aside, closes it in order and
// returns what was done, a line each.
func repairStore(ctx context.Context, dir string, p *progress) (done []string, err error) {
	log, err := disk.Open(dir, disk.Options{Repair: true, ScrubRate: math.MaxInt64 / 2, ScrubEvery: time.Millisecond})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- log.Run(running) }()
	defer func() {
		p.clear()
		stop()
		err = errors.Join(err, <-ended)
	}()
	done = log.Repaired()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var read time.Time // when all had been
	for {
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-tick.C:
		}
		h := log.Health()
		switch {
		case h.Latched != nil:
			return done, h.Latched
		case h.Scrub.Complete.IsZero():
			p.show(min(h.Scrub.Bytes, h.Bytes), h.Bytes)
			continue
		case read.IsZero():
			read = time.Now()
		}
		if h.Suspected == 0 {
			return done, nil
		}
		if time.Since(read) > repairWait {
			return append(done, "damaged segments could not be set aside yet: there is no room, or the disk does not read"), nil
		}
	}
}
