package channel

import (
	"errors"
	"fmt"
	"time"
)

// Why an append is refused. A refusal is a *Refused that wraps one of these;
// ingress turns each into its own status.
var (
	ErrFull        = errors.New("channel is full")                    // a memory or rate bound: 429
	ErrQuota       = errors.New("storage quota is used up")           // the broker's max-bytes or the volume: 507
	ErrUnavailable = errors.New("channel is not available")           // not ready, latched, owner away: 503
	ErrNoBroker    = errors.New("channel has no such broker")         // removed meanwhile: 404
	ErrTooLarge    = errors.New("event is too large for the channel") // never fits: 413
)

// ErrUnknown says that an append may or may not have happened: 500, and it is
// never repeated by us.
var ErrUnknown = errors.New("outcome unknown")

// ErrClosed is the answer of a log that has been closed. As the cause of a
// refusal it comes with ErrUnavailable.
var ErrClosed = errors.New("channel is closed")

// Refused says that nothing was stored, why, and when to try again.
type Refused struct {
	Err        error         // one of the Err values above, perhaps wrapped with detail
	RetryAfter time.Duration // 0 where trying again is no use
}

func (r *Refused) Error() string { return "refused: " + r.Err.Error() }
func (r *Refused) Unwrap() error { return r.Err }

// GapError is a range of positions [From, To) whose records are damaged and
// cannot be read. Whoever meets one must make it visible.
type GapError struct {
	Shard    ShardID
	From, To Position
	Lost     bool // declared lost: no later read will give them
	Cause    error
}

func (g *GapError) Error() string {
	return fmt.Sprintf("shard %d: positions %d to %d cannot be read: %v", g.Shard, g.From, g.To-1, g.Cause)
}
func (g *GapError) Unwrap() error { return g.Cause }
