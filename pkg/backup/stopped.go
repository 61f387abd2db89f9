package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config/file"
)

// Stopped backs up a data folder that no broker uses: it opens the log as a
// start would, hands the Archive over, and closes the log. A folder in use is
// refused.
func Stopped(ctx context.Context, o Options, logger *slog.Logger, use func(*Archive) error) (err error) {
	if err := Unfinished(o.Dir); err != nil {
		return err
	}
	// Before the log is opened, which would make one where there is none.
	if _, err := file.ReadIdentities(o.Dir); err != nil {
		return fmt.Errorf("%s is no data folder of penstock serve: %w", o.Dir, err)
	}
	log, err := disk.Open(filepath.Join(o.Dir, logFolder), disk.Options{Logger: logger})
	if _, used := errors.AsType[*disk.LockedError](err); used {
		return fmt.Errorf("%w; a broker that runs is backed up without --data", err)
	}
	if err != nil {
		return err
	}
	ended, end := context.WithCancel(ctx)
	end()
	defer func() { err = errors.Join(err, log.Run(ended)) }()
	a, err := New(ctx, log, o)
	if err != nil {
		return err
	}
	defer a.Close()
	return use(a)
}
