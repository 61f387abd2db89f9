package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/app/engine"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// rememberEvery bounds how often Triggers are written down: there may be
// thousands, and whoever needs the file can do with a little less.
const rememberEvery = 10 * time.Second

// remembering keeps identities on the volume of what a source tells. A Broker
// is there before its first event; Triggers follow within rememberEvery of a
// change, or with the next.
type remembering struct {
	engine.Source
	dir    string
	stored func() []channel.BrokerInfo // in the log
	log    *slog.Logger
}

// Run implements engine.Source.
func (r *remembering) Run(ctx context.Context, put func(*config.Snapshot)) error {
	var latest *config.Snapshot
	var brokers []channel.UID // as they were last written
	var written time.Time
	write := func() error {
		written = time.Now()
		err := file.Remember(r.dir, latest, r.stored())
		if err != nil {
			r.log.Error("identities cannot be written: a backup will not be whole", telemetry.KeyError, err)
		}
		return err
	}
	err := r.Source.Run(ctx, func(s *config.Snapshot) {
		latest = s
		if now := uids(s); !slices.Equal(now, brokers) || time.Since(written) > rememberEvery {
			if write() == nil {
				brokers = now
			}
		}
		put(s)
	})
	if latest != nil {
		err = errors.Join(err, write())
	}
	return err
}

func uids(s *config.Snapshot) []channel.UID {
	var all []channel.UID
	for _, brokers := range [][]*config.Broker{s.Brokers(), s.HeldBrokers()} {
		for _, b := range brokers {
			all = append(all, b.UID)
		}
	}
	slices.Sort(all)
	return all
}
