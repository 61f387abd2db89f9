package kube

import (
	"context"

	"github.com/penstock-events/penstock/pkg/config"
)

// Source is what is known of all Brokers and Triggers between two looks.
type Source struct {
	o Options
}

// New makes a Source. It asks nobody yet.
func New(o Options) *Source { return &Source{o: o} }

// Run watches until ctx ends, and calls apply with each new Snapshot, from its
// own goroutine and never twice at once. The first comes when both caches have
// come into step with the API server, however long that takes, and is there
// also when nothing is declared. What changes while apply runs is in the next.
// While the API server is away the last stays in force. Run returns nil when
// ctx ends, after all it started has ended, and an error where it cannot begin.
func (s *Source) Run(ctx context.Context, apply func(*config.Snapshot)) error { panic("not yet") }

// Ready is nil once the first Snapshot has been applied, otherwise what is
// waited for. It may be called at any time by any goroutine.
func (s *Source) Ready() error { panic("not yet") }
