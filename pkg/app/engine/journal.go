package engine

import (
	"fmt"
	"path/filepath"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/journal"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// journalOptions are those of the flags; false for no journal.
func journalOptions(o Options) (j journal.Options, wanted bool, err error) {
	j = journal.Options{Retention: o.JournalRetention, Logger: o.Logger}
	if o.JournalRetention < 0 {
		return j, false, fmt.Errorf("--journal-retention %v: must not be negative", o.JournalRetention)
	}
	if o.JournalBytes == "" {
		return j, true, nil
	}
	n, err := config.ParseBytes(o.JournalBytes)
	if err != nil {
		return j, false, fmt.Errorf("--journal-bytes %q: %w", o.JournalBytes, err)
	}
	if !o.Memory {
		j.MaxBytes = n
	}
	return j, n > 0, nil
}

// openJournal opens the journal beside the log, or in memory where there is
// none. A journal that nobody wants is nil, which all can live with.
func (e *Engine) openJournal(o journal.Options, wanted bool) (err error) {
	if !wanted {
		return nil
	}
	dir := ""
	if e.disk != nil {
		dir = filepath.Join(e.o.Data, "journal")
	}
	if e.journal, err = journal.Open(dir, o); err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	e.Metrics.WatchJournal(func() telemetry.JournalState {
		s := e.journal.Stats()
		return telemetry.JournalState{Bytes: s.Bytes, Dropped: s.Dropped}
	})
	return nil
}

// fate is a Dispatcher as the API asks it.
type fate struct{ *dispatch.Dispatcher }

func (f fate) Pending(broker channel.UID, id channel.ID) ([]api.Pending, bool) {
	all, matched := f.Dispatcher.Pending(broker, id)
	pending := make([]api.Pending, len(all))
	for i, p := range all {
		pending[i] = api.Pending{Trigger: p.Trigger, Name: p.Name, Next: p.NotBefore}
	}
	return pending, matched
}

// stories is the journal as the API asks it: nil where there is none.
func (e *Engine) stories() api.Journal {
	if e.journal == nil {
		return nil
	}
	return e.journal
}
