package journal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// TestTheJournalStaysWithinItsBytes under a flood, with the newest events in it.
func TestTheJournalStaysWithinItsBytes(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		const most = 1 << 20
		d := start(t, s, Options{MaxBytes: most})
		for i := range 60 {
			d.fill(channel.Position(1000*(i+1)), 400)
			if n := used(t, s); n > most {
				t.Fatalf("%d bytes after round %d", n, i)
			}
		}
		if n := used(t, s); n < most/2 {
			t.Errorf("it keeps %d bytes of %d", n, most)
		}
		if got, want := d.Stats().Bytes, used(t, s); got != want {
			t.Errorf("it counts %d bytes of %d", got, want)
		}
		if d.Stats().Dropped != 0 {
			t.Errorf("%d dropped", d.Stats().Dropped)
		}
		if _, err := d.Story(t.Context(), "uid-shop", channel.ID{Position: 1001}); !errors.Is(err, ErrNotFound) {
			t.Errorf("the oldest event: %v", err)
		}
		if got := d.story(channel.ID{Position: 60_399}); got.EventID != "order-60399" {
			t.Errorf("%+v", got)
		}
		// Smaller bounds hold at once.
		d.stop()
		start(t, s, Options{MaxBytes: leastBytes})
		if n := used(t, s); n > leastBytes {
			t.Errorf("%d bytes with the bound at %d", n, leastBytes)
		}
	})
}

// TestWhatIsTooOldGoes also where nothing new comes.
func TestWhatIsTooOldGoes(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{Retention: 8 * time.Hour})
		id := d.accept(1, order(t, "old"))
		time.Sleep(7 * time.Hour)
		if got := d.Stats(); got.Records != 1 || got.Bytes == 0 || time.Since(got.Earliest) != 7*time.Hour {
			t.Errorf("%+v", got)
		}
		later := d.accept(2, order(t, "new"))
		d.settle()
		d.story(id)
		time.Sleep(2*time.Hour + time.Minute)
		if _, err := d.Story(t.Context(), "uid-shop", id); !errors.Is(err, ErrNotFound) {
			t.Errorf("after 9 hours: %v", err)
		}
		d.story(later)
		time.Sleep(24 * time.Hour)
		if got := d.Stats(); got != (Stats{}) || used(t, s) != 0 {
			t.Errorf("a day later: %+v, %d bytes", got, used(t, s))
		}
	})
}

// TestOldEventsRecordedTodayAreNew: a broker that was down for days catches up.
func TestOldEventsRecordedTodayAreNew(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{Retention: 8 * time.Hour})
		d.shop.Matched(0, &channel.Record{Position: 1, Time: time.Now().Add(-72 * time.Hour), Event: order(t, "x")}, nil)
		time.Sleep(4 * time.Hour)
		d.story(channel.ID{Position: 1})
		if got := len(d.find(Query{To: time.Now().Add(-70 * time.Hour)}).Events); got != 1 {
			t.Errorf("found %d", got)
		}
	})
}

// TestADiskThatDoesNotKeepUpCostsRecordsAndNoTime: whoever records goes on,
// what does not fit is counted, and readers learn of the gap.
func TestADiskThatDoesNotKeepUpCostsRecordsAndNoTime(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		disk := &faulty{store: s}
		d := start(t, disk, Options{SegmentBytes: 4 * leastSegment})
		d.fill(1, 1)
		stuck := make(chan struct{})
		disk.hang.Store(&stuck)
		began := time.Now()
		e := order(t, "x")
		const n = 12_000
		for p := range channel.Position(n) {
			d.accept(10+p, e)
			if p == 1000 {
				d.settle() // the writer takes the first buffer and hangs
			}
		}
		dropped := d.Stats().Dropped
		if dropped == 0 || dropped >= n {
			t.Fatalf("%d of %d dropped", dropped, n)
		}
		if n := cap(d.cur.data) + cap(d.writing.data); n > 4*d.room {
			t.Errorf("%d bytes of buffers", n)
		}
		// The gap is known before it is written.
		first := d.story(channel.ID{Position: 10})
		if len(first.Gaps) != 1 || first.Gaps[0].Records != dropped {
			t.Errorf("%+v", first.Gaps)
		}
		if _, err := d.Story(t.Context(), "uid-shop", channel.ID{Position: 10 + n - 1}); !errors.Is(err, ErrNotFound) {
			t.Errorf("the last one: %v", err)
		}
		disk.hang.Store(nil)
		close(stuck)
		time.Sleep(time.Second)
		after := d.accept(5, e)
		for range 2 {
			if got := d.story(channel.ID{Position: 10}).Gaps; len(got) != 1 || got[0].Records != dropped || got[0].From.Before(began) {
				t.Errorf("%+v", got)
			}
			if got := d.story(after).Gaps; len(got) != 0 {
				t.Errorf("after it: %+v", got)
			}
			if got := d.find(Query{}).Gaps; len(got) != 1 {
				t.Errorf("%+v", got)
			}
			d.stop()
			if n := strings.Count(d.log.String(), "more happens to events than the journal can write"); n > 1 {
				t.Errorf("said %d times", n)
			}
			d = start(t, disk, Options{})
		}
		d.fill(900_000, 1)
		d.story(channel.ID{Position: 900_000})
	})
}

// TestAFailingDiskCostsRecordsUntilItWorks, and is said once.
func TestAFailingDiskCostsRecordsUntilItWorks(t *testing.T) {
	for _, short := range []bool{false, true} {
		t.Run(fmt.Sprintf("short=%t", short), func(t *testing.T) {
			everywhere(t, func(t *testing.T, s store) {
				disk := &faulty{store: s}
				disk.short.Store(short)
				d := start(t, disk, Options{})
				d.fill(1, 300)
				failed := time.Now()
				disk.breaks(errors.New("no space left on device"))
				d.fill(1000, 100) // lost with the buffer in which it was
				d.fill(2000, 1000)
				if got := d.Stats().Dropped; got != 2200 {
					t.Errorf("%d dropped", got)
				}
				time.Sleep(35 * time.Second) // it is tried again, in vain
				d.fill(4000, 100)
				if got := d.story(channel.ID{Position: 300}); got.EventID != "order-300" || len(got.Gaps) != 1 {
					t.Errorf("%+v", got)
				}
				if n := strings.Count(d.log.String(), "level=WARN"); n != 1 {
					t.Errorf("said %d times: %s", n, d.log)
				}
				disk.mends()
				time.Sleep(retryAfter + time.Second)
				mended := time.Now()
				d.fill(5000, 300)
				for range 2 {
					for p := range channel.Position(300) {
						d.story(channel.ID{Position: 1 + p})
						if got := d.story(channel.ID{Position: 5000 + p}); got.EventID != fmt.Sprint("order-", 5000+p) || len(got.Gaps) != 0 ||
							got.BrokerName != "shop/default" || got.Triggers[0].Name != "shop/mail" {
							t.Fatalf("%+v", got)
						}
					}
					gaps := d.find(Query{}).Gaps
					if len(gaps) != 1 || gaps[0].Records != 2400 || gaps[0].From.Before(failed) || gaps[0].To.After(mended) {
						t.Errorf("%+v", gaps)
					}
					if got := d.all(Query{}); len(got) != 600 {
						t.Errorf("found %d", len(got))
					}
					if n := strings.Count(d.log.String(), "written again"); n > 1 || n == 0 && len(d.log.Bytes()) > 0 {
						t.Errorf("%s", d.log)
					}
					d.stop()
					d = start(t, disk, Options{})
				}
			})
		})
	}
}

// TestAnIndexThatCannotBeWrittenIsWrittenLater, and is not missed meanwhile.
func TestAnIndexThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		disk := &faulty{store: s}
		d := start(t, disk, Options{})
		d.fill(1, 300)
		disk.breaks(errors.New("no space left on device"))
		d.fill(1000, 1) // the segment is given up and sealed, without an index
		check := func() {
			t.Helper()
			for p := range channel.Position(300) {
				d.story(channel.ID{Position: 1 + p})
			}
			if got := d.all(Query{ID: "order-17"}); len(got) != 1 {
				t.Errorf("found %d", len(got))
			}
		}
		check()
		if d.sealed[0].index != 0 {
			t.Fatal("it has an index")
		}
		disk.mends()
		time.Sleep(retryAfter + time.Second)
		synctest.Wait()
		if d.sealed[0].index == 0 {
			t.Error("it still has no index")
		}
		before := disk.reads.Load()
		d.story(channel.ID{Position: 4})
		if n := disk.reads.Load() - before; n > 2 {
			t.Errorf("%d reads for one story", n)
		}
		check()
	})
}

// TestOneReadOfAnIndexFindsAnEvent among many, in each segment.
func TestOneReadOfAnIndexFindsAnEvent(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		disk := &faulty{store: s}
		d := start(t, disk, Options{SegmentBytes: 128 << 10, MaxBytes: 64 << 20})
		const n = 25_000
		d.fill(1, n)
		segments := int64(d.segments())
		if segments < 8 {
			t.Fatalf("%d segments", segments)
		}
		pages, reads := disk.pages.Load(), disk.reads.Load()
		const asked = 250
		for i := range channel.Position(asked) {
			if got := d.story(channel.ID{Position: 1 + i*(n/asked)}); got.Triggers[0].Final != Delivered {
				t.Fatalf("%+v", got)
			}
		}
		// Beside its page of each segment, the catalog and the blocks of the one
		// that has it. Where a page begins with the hash its predecessor is read, too.
		pages, reads = disk.pages.Load()-pages, disk.reads.Load()-reads
		if most := asked*(segments+1) + asked*segments/50; pages > most {
			t.Errorf("%d reads of %d indexes, want at most %d", pages, segments, most)
		}
		if most := int64(asked * 4); reads > most {
			t.Errorf("%d reads of blocks, want at most %d", reads, most)
		}
		pages, reads = disk.pages.Load(), disk.reads.Load()
		if got := d.find(Query{ID: "order-16180"}); len(got.Events) != 1 || got.Next != "" {
			t.Errorf("%+v", got)
		}
		if n := disk.pages.Load() - pages; n > segments+2 {
			t.Errorf("%d reads of indexes for an id", n)
		}
		if n := disk.reads.Load() - reads; n > 4 {
			t.Errorf("%d reads of blocks for an id", n)
		}
	})
}

// TestANumberStandsForOneTriggerOnly, also where the buffer is lost in which
// it was given: the disk fails while the next segment has begun.
func TestANumberStandsForOneTriggerOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		disk := &faulty{store: s}
		d := start(t, disk, Options{SegmentBytes: leastSegment})
		d.fill(1, 1)
		stuck := make(chan struct{})
		disk.hang.Store(&stuck)
		for p := range channel.Position(300) { // into the rest of the segment
			id := d.accept(10+p, order(t, "x"))
			d.mail.Attempt(id, Attempt{Number: 1, Answer: make([]byte, maxAnswer)})
			if p%7 == 6 {
				d.settle()
			}
		}
		d.bill.Attempt(channel.ID{Position: 1}, Attempt{Number: 1}) // its names are in the buffer that goes
		disk.breaks(errors.New("input/output error"))
		disk.hang.Store(nil)
		close(stuck)
		d.settle()
		disk.mends()
		time.Sleep(retryAfter + time.Second)
		other := d.Broker("uid-other", "other/default")
		other.Trigger("uid-new", "other/new").Attempt(channel.ID{Position: 7}, Attempt{Number: 1})
		other.Trigger("uid-more", "other/more").Attempt(channel.ID{Position: 7}, Attempt{Number: 1})
		id := d.accept(1000, order(t, "after"))
		d.bill.Attempt(id, Attempt{Number: 1})
		for range 2 {
			if got := d.story(id); got.BrokerName != "shop/default" || len(got.Triggers) != 2 || got.Triggers[1].Name != "shop/bill" || len(got.Triggers[1].Attempts) != 1 {
				t.Errorf("%+v", got)
			}
			if got, err := d.Story(t.Context(), "uid-other", channel.ID{Position: 7}); err != nil || len(got.Triggers) != 2 || got.Triggers[1].Name != "other/more" {
				t.Errorf("%+v, %v", got, err)
			}
			d.stop()
			d = start(t, disk, Options{SegmentBytes: leastSegment})
		}
	})
}

// TestWhatIsRecordedAfterTheEndIsDropped, and what came before it is not.
func TestWhatIsRecordedAfterTheEndIsDropped(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{})
		before := d.accept(1, order(t, "before"))
		d.stop()
		after := d.accept(2, order(t, "after"))
		if got := d.Stats(); got.Records != 1 || got.Dropped != 1 {
			t.Errorf("%+v", got)
		}
		d = start(t, s, Options{})
		d.story(before)
		if _, err := d.Story(t.Context(), "uid-shop", after); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}
