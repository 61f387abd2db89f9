package channeltest_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/channeltest"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/event"
)

func TestALogThatSurvivesPasses(t *testing.T) {
	channeltest.RunDurable(t, ashes(nil), channeltest.FullIs(channel.ErrFull))
}

func TestAnAppenderAlonePasses(t *testing.T) {
	channeltest.RunAppender(t, func(t *testing.T) channeltest.Front {
		l := memory.New(memory.Options{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return channeltest.Front{Appender: l, Broker: l.Broker}
	})
}

// mutant is a log that breaks one promise. Each is brought before the story
// that should notice, in a process of its own, and must not get through.
type mutant struct {
	channel.Log
	append func(l *mutant, uid channel.UID, events []event.Event) ([]channel.Stored, error)
	broker func(b channel.BrokerLog) channel.BrokerLog
}

func (m *mutant) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	if m.append != nil {
		return m.append(m, uid, events)
	}
	return m.Log.Append(ctx, uid, events)
}

func (m *mutant) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	b, err := m.Log.Broker(ctx, info)
	if err != nil || m.broker == nil {
		return b, err
	}
	return m.broker(b), nil
}

// Kinds of brokers that break a promise.
type (
	shortReader    struct{ channel.BrokerLog }
	wideReader     struct{ channel.BrokerLog }
	deafReader     struct{ channel.BrokerLog }
	impatient      struct{ channel.BrokerLog }
	lateRoutes     struct{ channel.BrokerLog }
	earlyRoutes    struct{ channel.BrokerLog }
	forgetsRetries struct{ channel.BrokerLog }
	sharesProgress struct {
		channel.BrokerLog
		given map[channel.ShardID]channel.ShardProgress
	}
	losesPending struct{ channel.BrokerLog }
	unbounded    struct{ channel.BrokerLog }
	endlessDead  struct{ channel.BrokerLog }
	aliveDead    struct{ channel.BrokerLog }
	undyingDead  struct{ channel.BrokerLog }
	countsAsked  struct{ channel.BrokerLog }
	findsFirst   struct{ channel.BrokerLog }
	groupsAll    struct{ channel.BrokerLog }
	settlesGone  struct{ channel.BrokerLog }
)

func (b shortReader) Read(ctx context.Context, s channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	records, next, err := b.BrokerLog.Read(ctx, s, from, buf)
	return records[:min(len(records), 1)], next, err
}

func (b wideReader) Read(ctx context.Context, s channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	return b.BrokerLog.Read(ctx, s, from, slices.Grow(buf, 100))
}

func (b deafReader) Read(ctx context.Context, s channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	if earliest, next := b.Range(s); earliest == next {
		<-ctx.Done() // and nothing else
	}
	return b.BrokerLog.Read(ctx, s, from, buf)
}

func (b impatient) Read(ctx context.Context, s channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	if _, next := b.Range(s); from >= next {
		return buf, from, nil
	}
	return b.BrokerLog.Read(ctx, s, from, buf)
}

func (b lateRoutes) SetRoutes(ctx context.Context, change channel.Routes) (channel.Routes, error) {
	done, err := b.BrokerLog.SetRoutes(ctx, change)
	done.From = maps.Clone(done.From)
	for s := range done.From {
		done.From[s]++
	}
	return done, err
}

func (b earlyRoutes) SetRoutes(ctx context.Context, change channel.Routes) (channel.Routes, error) {
	done, err := b.BrokerLog.SetRoutes(ctx, change)
	done.From = maps.Clone(done.From)
	for s := range done.From {
		if done.From[s] > 1 {
			done.From[s]--
		}
	}
	return done, err
}

func (b forgetsRetries) Progress(s channel.ShardID) channel.ShardProgress {
	p := b.BrokerLog.Progress(s)
	for i := range p.Lanes {
		p.Lanes[i].Retries = nil
	}
	return p
}

func (b sharesProgress) Progress(s channel.ShardID) channel.ShardProgress {
	if _, ok := b.given[s]; !ok {
		b.given[s] = b.BrokerLog.Progress(s)
	}
	return b.given[s]
}

func (b losesPending) SaveProgress(ctx context.Context, changes []channel.ShardProgress) error {
	for i := range changes {
		changes[i].Lanes = nil
	}
	return b.BrokerLog.SaveProgress(ctx, changes)
}

func (b unbounded) Stats() channel.Stats {
	s := b.BrokerLog.Stats()
	s.Bytes *= 2
	return s
}

func (b endlessDead) Dead(ctx context.Context, trigger channel.UID, after string, limit int) ([]channel.DeadLetter, string, error) {
	letters, next, err := b.BrokerLog.Dead(ctx, trigger, "", limit)
	return letters, next, err
}

func (b aliveDead) AppendDead(ctx context.Context, letters []channel.DeadLetter) error {
	if err := b.BrokerLog.AppendDead(ctx, letters); err != nil {
		return err
	}
	for _, l := range letters {
		settled := channel.LaneProgress{Trigger: l.Trigger, Settled: b.Progress(l.ID.Shard).Lanes[0].Added}
		if err := b.SaveProgress(ctx, []channel.ShardProgress{{Shard: l.ID.Shard, Lanes: []channel.LaneProgress{settled}}}); err != nil {
			return err
		}
	}
	return nil
}

func (b undyingDead) DiscardDead(ctx context.Context, numbers []uint64) (int, error) {
	return b.BrokerLog.DiscardDead(ctx, numbers[min(len(numbers), 1):])
}

func (b countsAsked) DiscardDead(ctx context.Context, numbers []uint64) (int, error) {
	_, err := b.BrokerLog.DiscardDead(ctx, numbers)
	return len(numbers), err
}

func (b findsFirst) FindDead(ctx context.Context, trigger channel.UID, id channel.ID) (channel.DeadLetter, bool, error) {
	letters, _, err := b.Dead(ctx, trigger, "", 1000)
	for _, l := range letters {
		if l.ID == id {
			return l, true, err
		}
	}
	return channel.DeadLetter{}, false, err
}

func (b groupsAll) DeadGroups(ctx context.Context, _ channel.UID) ([]channel.DeadGroup, error) {
	return b.BrokerLog.DeadGroups(ctx, "")
}

func (b settlesGone) DiscardDead(ctx context.Context, numbers []uint64) (int, error) {
	letters, err := b.DeadByNumber(ctx, numbers)
	if err != nil {
		return 0, err
	}
	for _, l := range letters {
		settled := channel.LaneProgress{Trigger: l.Trigger, Settled: roaring64.BitmapOf(uint64(l.ID.Position))}
		if err := b.SaveProgress(ctx, []channel.ShardProgress{{Shard: l.ID.Shard, Lanes: []channel.LaneProgress{settled}}}); err != nil {
			return 0, err
		}
	}
	return b.BrokerLog.DiscardDead(ctx, numbers)
}

// appending makes a mutant that appends in its own way.
func appending(f func(l *mutant, uid channel.UID, events []event.Event) ([]channel.Stored, error)) *mutant {
	return &mutant{append: f}
}

func brokering[B channel.BrokerLog](f func(channel.BrokerLog) B) *mutant {
	return &mutant{broker: func(b channel.BrokerLog) channel.BrokerLog { return f(b) }}
}

// mutants are the broken logs, by the story that should notice.
func mutants() map[string]*mutant {
	ctx := context.Background()
	return map[string]*mutant{
		"WhatIsAppendedIsThere": appending(func(l *mutant, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
			if events[0].ID() == "one-50" { // acknowledged and not stored
				return []channel.Stored{{ID: channel.ID{Shard: 0, Position: 1 << 20}}}, nil
			}
			return l.Log.Append(ctx, uid, events)
		}),
		"BatchStandsInItsOrder": appending(func(l *mutant, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
			back := slices.Clone(events)
			slices.Reverse(back)
			ids, err := l.Log.Append(ctx, uid, back)
			slices.Reverse(ids)
			return ids, err
		}),
		"KeyedEventsShareAShard": appending(func(l *mutant, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
			bare, err := event.Edit(events[0]).Delete(event.ExtPartition).Build()
			if err != nil {
				return nil, err
			}
			return l.Log.Append(ctx, uid, []event.Event{bare})
		}),
		"FullBrokerTakesABatchWholeOrNotAtAll": appending(func(l *mutant, uid channel.UID, events []event.Event) (ids []channel.Stored, err error) {
			for _, e := range events {
				id, err := l.Log.Append(ctx, uid, []event.Event{e})
				if err != nil {
					return nil, err
				}
				ids = append(ids, id...)
			}
			return ids, nil
		}),
		"FullBrokerRefusesAndRecovers": appending(func(l *mutant, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
			ids, err := l.Log.Append(ctx, uid, events)
			var refused *channel.Refused
			if errors.As(err, &refused) {
				err = &channel.Refused{Err: refused.Err} // without a word when to try again
			}
			return ids, err
		}),
		"UnknownBrokerIsRefused": appending(func(l *mutant, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
			ids, err := l.Log.Append(ctx, uid, events)
			if err != nil {
				err = channel.ErrUnknown
			}
			return ids, err
		}),
		"ReadFillsTheBufferAndNoMore":               brokering(func(b channel.BrokerLog) shortReader { return shortReader{b} }),
		"ReadKeepsWhatIsInTheBuffer":                brokering(func(b channel.BrokerLog) shortReader { return shortReader{b} }),
		"ReadersFollowAppenders":                    brokering(func(b channel.BrokerLog) shortReader { return shortReader{b} }),
		"EventsOfEverySizeComeBackByteForByte":      brokering(func(b channel.BrokerLog) wideReader { return wideReader{b} }),
		"ReadWaitsForAnEvent":                       brokering(func(b channel.BrokerLog) impatient { return impatient{b} }),
		"ReadEndsWithItsContext":                    brokering(func(b channel.BrokerLog) deafReader { return deafReader{b} }),
		"EventsBeforeAChangeStayWithTheOldTriggers": brokering(func(b channel.BrokerLog) lateRoutes { return lateRoutes{b} }),
		"ChangesAndAppendsAtOnceHaveOneOrder":       brokering(func(b channel.BrokerLog) earlyRoutes { return earlyRoutes{b} }),
		"ProgressComesBackWhole":                    brokering(func(b channel.BrokerLog) forgetsRetries { return forgetsRetries{b} }),
		"ProgressBelongsToTheCaller": brokering(func(b channel.BrokerLog) sharesProgress {
			return sharesProgress{b, map[channel.ShardID]channel.ShardProgress{}}
		}),
		"PendingEventsNeverGo":                       brokering(func(b channel.BrokerLog) losesPending { return losesPending{b} }),
		"RetainedEventsMakeRoom":                     brokering(func(b channel.BrokerLog) unbounded { return unbounded{b} }),
		"DeadLettersAreListedInTheOrderTheyDied":     brokering(func(b channel.BrokerLog) endlessDead { return endlessDead{b} }),
		"DeadEventIsPendingUntilItIsSettled":         brokering(func(b channel.BrokerLog) aliveDead { return aliveDead{b} }),
		"DiscardedLettersAreGoneAndTheOthersStay":    brokering(func(b channel.BrokerLog) undyingDead { return undyingDead{b} }),
		"LetterIsDiscardedOnceWhoeverAsks":           brokering(func(b channel.BrokerLog) countsAsked { return countsAsked{b} }),
		"LetterIsFoundByItsEvent":                    brokering(func(b channel.BrokerLog) findsFirst { return findsFirst{b} }),
		"DeadLettersAreGroupedByTriggerAndReason":    brokering(func(b channel.BrokerLog) groupsAll { return groupsAll{b} }),
		"EventOfADiscardedLetterGoesOnToItsSink":     brokering(func(b channel.BrokerLog) settlesGone { return settlesGone{b} }),
		"RandomScriptAgreesWithTheModel/Seed[0-9]+$": brokering(func(b channel.BrokerLog) losesPending { return losesPending{b} }),
	}
}

// losses are what a restart may not forget, by the story that should notice.
func losses() map[string]func([]note) []note {
	without := func(kind string, keep func(i, of int) bool) func([]note) []note {
		return func(journal []note) []note {
			of := 0
			for _, n := range journal {
				if n.kind == kind {
					of++
				}
			}
			i := -1
			return slices.DeleteFunc(journal, func(n note) bool {
				if n.kind != kind {
					return false
				}
				i++
				return !keep(i, of)
			})
		}
	}
	none := func(int, int) bool { return false }
	butLast := func(i, of int) bool { return i < of-1 }
	return map[string]func([]note) []note{
		"EventsAreThere":                  without("append", butLast),
		"WhatWasReadIsThere":              without("append", func(i, of int) bool { return i < of-20 }),
		"RequestsAreThereWholeOrNotAtAll": without("append", func(i, _ int) bool { return i != 3 }),
		"RemovedBrokerStaysRemoved":       without("remove", none),
		"RoutesAndEpochsGoOn":             without("routes", butLast),
		"DeadLettersAreThere":             without("dead", butLast),
		"DiscardedLettersStayGone":        without("discard", butLast),
		"ProgressIsThere":                 without("progress", butLast),
		"PositionsGoOn":                   without("append", none),
		"BrokersKeepTheirSettings":        without("broker", func(i, _ int) bool { return i == 0 }),
		"ManyRestartsChangeNothing":       without("append", func(i, _ int) bool { return i != 7 }),
	}
}

const (
	mutantEnv = "CHANNELTEST_MUTANT"
	lossEnv   = "CHANNELTEST_LOSS"
)

// TestMutant is run by TestStoriesNoticeBrokenPromises in a process of its own.
func TestMutant(t *testing.T) {
	if story := os.Getenv(mutantEnv); story != "" {
		channeltest.Run(t, func(*testing.T) channel.Log {
			m := *mutants()[story]
			m.Log = memory.New(memory.Options{})
			return &m
		}, channeltest.FullIs(channel.ErrFull))
	} else if story := os.Getenv(lossEnv); story != "" {
		channeltest.RunDurable(t, ashes(losses()[story]), channeltest.FullIs(channel.ErrFull))
	} else {
		t.Skip("no mutant is named")
	}
}

func TestStoriesNoticeBrokenPromises(t *testing.T) {
	notices := func(env, story string) {
		t.Run(story, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestMutant$/^"+story, "-test.timeout", "30s")
			cmd.Env = append(os.Environ(), env+"="+story)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !bytes.Contains(out, []byte("--- FAIL: TestMutant/")) || bytes.Contains(out, []byte("panic: runtime error")) {
				t.Errorf("a broken log is not found out (%v):\n%s", err, out)
			}
		})
	}
	for story := range mutants() {
		notices(mutantEnv, story)
	}
	for story := range losses() {
		notices(lossEnv, story)
	}
}
