package remote

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func some(t testing.TB, id string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set(event.AttrID, id).Set(event.AttrSource, "/s").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t")
	e, err := b.SetData([]byte("data")).Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// FuzzRequest: whatever the body, it is refused whole, or what is read from it
// is what it says: written again it is the same.
func FuzzRequest(f *testing.F) {
	one := appendRequest(nil, "a", []event.Event{some(f, "1")})
	two := appendRequest(one, "another", []event.Event{some(f, "2"), some(f, "3")})
	f.Add([]byte{})
	f.Add(one)
	f.Add(two)
	f.Add(two[:len(two)-1])
	f.Add(appendRequest(nil, "", nil))
	f.Add([]byte("\x01a\x01\x00\x00\x00\x03\x00\x00\x00\x07\x07\x07"))
	f.Add([]byte("\x01a\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, content []byte) {
		body := seal(bytes.Clone(content), 0)
		const maxAppends, maxEvents = 100, 200
		groups, all, err := decodeRequest(body, maxAppends, maxEvents, nil)
		if err != nil {
			if len(groups) > 0 || len(all) > 0 {
				t.Errorf("refused with %v, and %d appends are there", err, len(groups))
			}
			return
		}
		if len(groups) > maxAppends || len(all) > maxEvents {
			t.Errorf("%d appends, %d events", len(groups), len(all))
		}
		var again []byte
		events, bad := 0, false
		for _, g := range groups {
			again = appendRequest(again, g.uid, g.events)
			for _, e := range g.events {
				if !bytes.Equal(e.Raw(), all[events].Raw()) {
					t.Error("events out of order")
				}
				events++
				_ = e.Text(event.ExtPartition)
			}
			if g.err != nil {
				bad = true
				if refused := (*channel.Refused)(nil); !errors.As(g.err, &refused) || len(g.events) > 0 {
					t.Errorf("an append that cannot be read: %v, %d events", g.err, len(g.events))
				}
			}
		}
		if events != len(all) || !bad && !bytes.Equal(again, content) {
			t.Errorf("read %q from %q", again, content)
		}
		if size := int64(len(again)); !bad && size != sizeOf(groups) {
			t.Errorf("%d bytes, announced as %d", size, sizeOf(groups))
		}
		// One bit turned is seen.
		if len(content) > 0 {
			body[len(content)/2] ^= 4
			if _, _, err := decodeRequest(body, maxAppends, maxEvents, nil); err == nil {
				t.Error("a turned bit goes unseen")
			}
		}
	})
}

func sizeOf(groups []group) (size int64) {
	for _, g := range groups {
		size += requestSize(g.uid, g.events)
	}
	return size
}

// FuzzAnswer: whatever the answer, it is disbelieved whole, or gives each
// append exactly one of stored, refused and unknown, and as many ids as events.
func FuzzAnswer(f *testing.F) {
	good := appendOutcome(nil, []channel.Stored{{ID: channel.ID{Shard: 17, Position: 1 << 40}}, {ID: channel.ID{Shard: 16, Position: 1}}}, nil, true)
	good = appendOutcome(good, nil, &channel.Refused{Err: channel.ErrFull, RetryAfter: time.Second}, true)
	good = appendOutcome(good, nil, channel.ErrUnknown, true)
	f.Add(good, 2, 1, 1)
	again := channel.Stored{ID: channel.ID{Shard: 1<<32 - 1, Position: 9}, Duplicate: true}
	f.Add(appendOutcome(nil, []channel.Stored{{ID: channel.ID{Shard: 3, Position: 8}}, again}, nil, true), 2, 0, 0)
	f.Add(good[:len(good)-1], 2, 1, 1)
	f.Add(append(bytes.Clone(good), 1), 2, 1, 1)
	f.Add([]byte{stored, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1}, 1, 0, 0)
	f.Add([]byte{stored}, 1<<30, 0, 0)
	f.Fuzz(func(t *testing.T, content []byte, a, b, c int) {
		events := []int{a, b, c}
		for _, n := range events {
			if n < 0 {
				return
			}
		}
		answer := readAnswers(seal(bytes.Clone(content), 0))
		var again []byte
		for _, n := range events {
			ids, err := answer.next(n)
			var refused *channel.Refused
			switch {
			case answer.err != nil:
				return
			case err == nil && len(ids) != n:
				t.Errorf("stored, with %d ids for %d events", len(ids), n)
			case err != nil && errors.As(err, &refused) == errors.Is(err, channel.ErrUnknown):
				t.Errorf("%v is refused and unknown, or neither", err)
			case refused != nil && (refused.RetryAfter < 0 || refused.RetryAfter > maxWait):
				t.Errorf("come back after %v", refused.RetryAfter)
			}
			again = appendOutcome(again, ids, err, true)
		}
		if answer.end() == nil {
			// Read again, it says the same.
			twice := readAnswers(seal(again, 0))
			for _, n := range events {
				if _, err := twice.next(n); errors.Is(err, channel.ErrUnknown) && len(err.Error()) > maxText {
					t.Errorf("text of %d bytes", len(err.Error()))
				}
			}
			if err := twice.end(); err != nil {
				t.Errorf("%v in %q, which was written from %q", err, again, content)
			}
		}
	})
}

func TestDuplicatesAreToldToWhoAsks(t *testing.T) {
	ids := []channel.Stored{{ID: channel.ID{Shard: 17, Position: 4}}, {ID: channel.ID{Shard: 1<<32 - 1, Position: 2}, Duplicate: true}}
	for _, asks := range []bool{true, false} {
		answer := readAnswers(seal(appendOutcome(nil, ids, nil, asks), 0))
		got, err := answer.next(2)
		if err != nil || answer.end() != nil || got[0] != ids[0] || got[1].ID != ids[1].ID || got[1].Duplicate != asks {
			t.Errorf("asked %v: %v, %v, %v", asks, got, err, answer.err)
		}
	}
}

func TestAnswerIsNoLongerThanTheClientAllows(t *testing.T) {
	long := appendOutcome(nil, []channel.Stored{{ID: channel.ID{Shard: 1<<32 - 1, Position: 1<<64 - 1}}}, nil, true)
	if int64(len(seal(long, 0))) > maxAnswer(1, 1) {
		t.Errorf("%d bytes, allowed are %d", len(long), maxAnswer(1, 1))
	}
	text := appendOutcome(nil, nil, &channel.Refused{Err: &said{text: string(make([]byte, 1000))}, RetryAfter: 1<<63 - 1}, true)
	if int64(len(seal(text, 0))) > maxAnswer(1, 1) {
		t.Errorf("%d bytes, allowed are %d", len(text), maxAnswer(1, 1))
	}
}
