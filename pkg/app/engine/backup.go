package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/channel/disk"
)

// backups is how the API takes them; nil where nothing is on disk.
func (e *Engine) backups() func(context.Context, int64) (api.Backup, error) {
	log, o := e.disk, e.o
	if log == nil {
		return nil
	}
	return func(ctx context.Context, rate int64) (api.Backup, error) {
		a, err := backup.New(ctx, log, backup.Options{Dir: o.Data, Files: o.Files, Resolve: o.Resolve, Rate: rate})
		if errors.Is(err, disk.ErrBackupRuns) {
			return nil, api.ErrBackupRuns
		}
		if err != nil {
			return nil, fmt.Errorf("back up %s: %w", o.Data, err)
		}
		return a, nil
	}
}
