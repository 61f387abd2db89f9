package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Version 1 of an answer's body, one for each append of the request in its
// order, integers as uvarint but for the checksum:
//
//	u8 stored:  each event's shard and position
//	u8 known:   each event's shard times 2, and 1 more for a duplicate, and position
//	u8 refused: u8 reason, milliseconds to wait, u8 length of text, text
//	u8 unknown: u8 length of text, text
//	u32 CRC-32C of all before it, little endian
//
// known is stored with the word of which events were there before. It is sent
// to those only who say that they can read it, with headerDuplicates: to
// others such an append is stored, with the ids that its events have.
const (
	stored  = 1
	refused = 2
	unknown = 3
	known   = 4
)

// Reasons of a refusal. A number that is not here is a reason without a name.
const (
	reasonOther = iota
	reasonFull
	reasonQuota
	reasonUnavailable
	reasonNoBroker
	reasonTooLarge
	reasonClosed // unavailable, for the log is closed
)

// reasons are in the order in which they are looked for: a closed log is not
// available too.
var reasons = []struct {
	code byte
	errs []error
}{
	{reasonClosed, []error{channel.ErrUnavailable, channel.ErrClosed}},
	{reasonFull, []error{channel.ErrFull}},
	{reasonQuota, []error{channel.ErrQuota}},
	{reasonNoBroker, []error{channel.ErrNoBroker}},
	{reasonTooLarge, []error{channel.ErrTooLarge}},
	{reasonUnavailable, []error{channel.ErrUnavailable}},
}

const (
	maxText = 255
	maxWait = 24 * time.Hour
)

// said is an error that another process named.
type said struct {
	text string
	errs []error // the values it wrapped there
}

func (s *said) Error() string   { return s.text }
func (s *said) Unwrap() []error { return s.errs }

// appendOutcome adds one append's answer, with its duplicates where the other
// side asks for them.
func appendOutcome(b []byte, ids []channel.Stored, err error, duplicates bool) []byte {
	if err == nil && duplicates && slices.ContainsFunc(ids, isDuplicate) {
		b = append(b, known)
		for _, id := range ids {
			shard := uint64(id.Shard) << 1
			if id.Duplicate {
				shard |= 1
			}
			b = binary.AppendUvarint(b, shard)
			b = binary.AppendUvarint(b, uint64(id.Position))
		}
		return b
	}
	if err == nil {
		b = append(b, stored)
		for _, id := range ids {
			b = binary.AppendUvarint(b, uint64(id.Shard))
			b = binary.AppendUvarint(b, uint64(id.Position))
		}
		return b
	}
	refusal, ok := errors.AsType[*channel.Refused](err)
	if !ok || errors.Is(err, channel.ErrUnknown) {
		return appendText(append(b, unknown), err.Error())
	}
	b = append(b, refused, reasonOf(refusal.Err))
	b = binary.AppendUvarint(b, uint64(max(refusal.RetryAfter+time.Millisecond-1, 0)/time.Millisecond))
	return appendText(b, refusal.Err.Error())
}

func isDuplicate(s channel.Stored) bool { return s.Duplicate }

func appendText(b []byte, text string) []byte {
	text = text[:min(len(text), maxText)]
	return append(append(b, byte(len(text))), text...)
}

func reasonOf(err error) byte {
next:
	for _, r := range reasons {
		for _, want := range r.errs {
			if !errors.Is(err, want) {
				continue next
			}
		}
		return r.code
	}
	return reasonOther
}

// answers reads the outcomes of an answer one by one.
type answers struct {
	rest []byte
	err  error // what is wrong with the answer as a whole
}

func readAnswers(body []byte) answers {
	content, err := unseal(body)
	return answers{rest: content, err: err}
}

var errAnswer = errors.New("ends within an outcome")

// next reads the outcome of an append of so many events: its ids, or its error.
// Once a.err is set it says nothing more.
func (a *answers) next(events int) (ids []channel.Stored, outcome error) {
	switch kind := a.byte(); kind {
	case stored, known:
		if events > len(a.rest)/2 { // each takes two bytes at least
			a.fail(errAnswer)
			return nil, nil
		}
		ids = make([]channel.Stored, events)
		for i := range ids {
			shard := a.uvarint()
			if kind == known {
				ids[i].Duplicate = shard&1 == 1
				shard >>= 1
			}
			ids[i].ID = channel.ID{Shard: channel.ShardID(shard), Position: channel.Position(a.uvarint())}
			if uint64(ids[i].Shard) != shard || ids[i].Position == 0 {
				a.fail(fmt.Errorf("shard %d, position %d", shard, ids[i].Position))
			}
		}
		return ids, nil
	case refused:
		s := &said{}
		code := a.byte()
		for _, r := range reasons {
			if r.code == code {
				s.errs = r.errs
			}
		}
		wait := time.Duration(min(a.uvarint(), uint64(maxWait/time.Millisecond))) * time.Millisecond
		s.text = a.text()
		return nil, &channel.Refused{Err: s, RetryAfter: wait}
	case unknown:
		return nil, &said{text: a.text(), errs: []error{channel.ErrUnknown}}
	default:
		a.fail(fmt.Errorf("outcome %d", kind))
		return nil, nil
	}
}

// end checks that there is nothing more.
func (a *answers) end() error {
	if len(a.rest) > 0 {
		a.fail(fmt.Errorf("%d bytes too many", len(a.rest)))
	}
	return a.err
}

func (a *answers) fail(err error) {
	if a.err == nil {
		a.err, a.rest = err, nil
	}
}

func (a *answers) byte() byte {
	if len(a.rest) == 0 {
		a.fail(errAnswer)
		return 0
	}
	b := a.rest[0]
	a.rest = a.rest[1:]
	return b
}

func (a *answers) uvarint() uint64 {
	v, n := binary.Uvarint(a.rest)
	if n <= 0 {
		a.fail(errAnswer)
		return 0
	}
	a.rest = a.rest[n:]
	return v
}

func (a *answers) text() string {
	n := int(a.byte())
	if n > len(a.rest) {
		a.fail(errAnswer)
		return ""
	}
	s := string(a.rest[:n])
	a.rest = a.rest[n:]
	return telemetry.Clean(s)
}

// maxAnswer is the longest answer to a request.
func maxAnswer(appends, events int) int64 {
	return int64(sumSize + appends*(3+2*binary.MaxVarintLen64+maxText) + events*2*binary.MaxVarintLen64)
}
