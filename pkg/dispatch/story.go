package dispatch

import (
	"errors"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/journal"
)

// write puts an attempt into the journal: made, with how it went and, where
// wait is not 0, when the next is due. now is the wall clock's.
func (l *lane) write(it *item, made journal.Attempt, answer *deliver.Answer, err error, wait time.Duration, now time.Time) {
	if l.journal == nil {
		return
	}
	made.Start, made.Duration, made.Status, made.Answer = now.Add(-answer.Duration), answer.Duration, answer.Status, answer.Body
	if wait > 0 {
		made.Next = now.Add(wait)
	}
	if err != nil {
		made.Error = err.Error()
		var failure *deliver.Error
		if errors.As(err, &failure) {
			made.Error, made.Answer = failure.Reason(), failure.Body
		}
	}
	l.journal.Attempt(l.broker.id(it.shard, it.pos), made)
}
