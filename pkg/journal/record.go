package journal

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// A record is three bytes of length, one of kind, and a body of varints and
// texts. Those about an event begin with the number of a Broker or Trigger,
// which names records earlier in the same segment explain, and the event's ID.
// Times are relative to the block's. A kind that a reader does not know is
// passed over.
const (
	kindBroker  = 1 // number, uid, name
	kindTrigger = 2 // number, number of the broker, uid, name
	kindMatched = 3 // an event and the first of its triggers
	kindMore    = 4 // further triggers of an event
	kindAttempt = 5
	kindEnd     = 6
	kindGap     = 7
)

const recordHeader = 4

// Bounds of one record. What is longer is cut.
const (
	maxText    = 1024
	maxAnswer  = 4096
	maxReplies = 256
	maxCause   = 64

	// perRecord is how many triggers one record names. An event for more of
	// them has several records, and no record is larger than a buffer.
	perRecord = 64
)

// maxFixed is more than what a record takes besides its texts.
const maxFixed = 128

const (
	hasCausation   = 1 << 0
	hasCorrelation = 1 << 1
)

const (
	attemptFinal   = 1<<3 - 1 // the State
	attemptSink    = 1 << 3
	attemptSpared  = 1 << 4
	attemptError   = 1 << 5
	attemptAnswer  = 1 << 6
	attemptNext    = 1 << 7
	attemptRerun   = 1 << 8
	attemptReplies = 1 << 9
)

// Extensions that tell an event's causes.
const (
	extCausation   = "causationid"
	extCorrelation = "correlationid"
)

// texts are the attributes of an event that a record keeps.
type texts struct {
	id, source, typ, subject, causation, correlation string
}

func textsOf(e event.Event) (t texts) {
	if e.IsZero() {
		return t
	}
	for name, v := range e.Attributes() {
		switch name {
		case event.AttrID:
			t.id = v.Text
		case event.AttrSource:
			t.source = v.Text
		case event.AttrType:
			t.typ = v.Text
		case event.AttrSubject:
			t.subject = v.Text
		case extCausation:
			t.causation = v.Text
		case extCorrelation:
			t.correlation = v.Text
		}
	}
	return t
}

func (t *texts) size() int {
	return min(len(t.id), maxText) + min(len(t.source), maxText) + min(len(t.typ), maxText) +
		min(len(t.subject), maxText) + min(len(t.causation), maxText) + min(len(t.correlation), maxText)
}

// beginRecord leaves room for the length.
func beginRecord(d []byte, kind byte) []byte { return append(d, 0, 0, 0, kind) }

// endRecord fills in the length of the record that began at a place.
func endRecord(d []byte, at int) {
	n := len(d) - at - recordHeader
	d[at], d[at+1], d[at+2] = byte(n), byte(n>>8), byte(n>>16)
}

// appendText appends a text, cut where it is too long, which its length says.
func appendText(d []byte, s string) []byte {
	if len(s) <= maxText {
		d = binary.AppendUvarint(d, uint64(len(s))<<1)
		return append(d, s...)
	}
	s = cut(s)
	d = binary.AppendUvarint(d, uint64(len(s))<<1|1)
	return append(d, s...)
}

// cut cuts a text between two characters.
func cut(s string) string {
	n := maxText
	for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// appendWhole appends a text that must not be cut: it is somebody's identity.
func appendWhole(d []byte, s string) []byte {
	d = binary.AppendUvarint(d, uint64(len(s))<<1)
	return append(d, s...)
}

func appendID(d []byte, n uint32, id channel.ID) []byte {
	d = binary.AppendUvarint(d, uint64(n))
	d = binary.AppendUvarint(d, uint64(id.Shard))
	return binary.AppendUvarint(d, uint64(id.Position))
}

func appendNumbers(d []byte, triggers []uint32) []byte {
	d = binary.AppendUvarint(d, uint64(len(triggers)))
	for _, n := range triggers {
		d = binary.AppendUvarint(d, uint64(n))
	}
	return d
}

// appendMatched appends an event. Time is relative to the block's, hash is that
// of the id, total the number of triggers in this record and those that follow.
func appendMatched(d []byte, n uint32, id channel.ID, time int64, t *texts, hash uint64, total int, triggers []uint32) []byte {
	at := len(d)
	d = appendID(beginRecord(d, kindMatched), n, id)
	d = binary.AppendVarint(d, time)
	var has byte
	if t.causation != "" {
		has |= hasCausation
	}
	if t.correlation != "" {
		has |= hasCorrelation
	}
	d = append(d, has)
	d = appendText(d, t.id)
	if len(t.id) > maxText {
		d = binary.LittleEndian.AppendUint64(d, hash) // tells it from others that begin like it
	}
	d = appendText(d, t.source)
	d = appendText(d, t.typ)
	d = appendText(d, t.subject)
	if t.causation != "" {
		d = appendText(d, t.causation)
	}
	if t.correlation != "" {
		d = appendText(d, t.correlation)
	}
	d = binary.AppendUvarint(d, uint64(total))
	d = appendNumbers(d, triggers)
	endRecord(d, at)
	return d
}

func appendMore(d []byte, n uint32, id channel.ID, triggers []uint32) []byte {
	at := len(d)
	d = appendNumbers(appendID(beginRecord(d, kindMore), n, id), triggers)
	endRecord(d, at)
	return d
}

func appendAttempt(d []byte, n uint32, id channel.ID, base int64, a *Attempt) []byte {
	at, start := len(d), nanos(a.Start)
	d = appendID(beginRecord(d, kindAttempt), n, id)
	d = binary.AppendVarint(d, start-base)
	d = binary.AppendUvarint(d, uint64(max(a.Duration, 0)))
	d = binary.AppendUvarint(d, uint64(max(a.Number, 0)))
	d = binary.AppendUvarint(d, uint64(max(a.Status, 0)))
	has := uint64(a.Final) & attemptFinal
	if a.Sink {
		has |= attemptSink
	}
	if a.Spared {
		has |= attemptSpared
	}
	if a.Error != "" {
		has |= attemptError
	}
	if len(a.Answer) > 0 {
		has |= attemptAnswer
	}
	if !a.Next.IsZero() {
		has |= attemptNext
	}
	if a.Rerun != "" {
		has |= attemptRerun
	}
	if len(a.Replies) > 0 {
		has |= attemptReplies
	}
	d = binary.AppendUvarint(d, has)
	if a.Error != "" {
		d = appendText(d, a.Error)
	}
	if len(a.Answer) > 0 {
		answer := a.Answer[:min(len(a.Answer), maxAnswer)]
		d = binary.AppendUvarint(d, uint64(len(answer))<<1)
		d = append(d, answer...)
	}
	if !a.Next.IsZero() {
		d = binary.AppendVarint(d, nanos(a.Next)-start)
	}
	if a.Rerun != "" {
		d = appendText(d, a.Rerun)
	}
	if replies := a.Replies[:min(len(a.Replies), maxReplies)]; len(replies) > 0 {
		d = binary.AppendUvarint(d, uint64(len(replies)))
		for _, r := range replies {
			d = binary.AppendUvarint(d, uint64(r.Shard))
			d = binary.AppendUvarint(d, uint64(r.Position))
		}
	}
	endRecord(d, at)
	return d
}

// attemptSize is more than what an attempt takes.
func attemptSize(a *Attempt) int {
	return maxFixed + min(len(a.Error), maxText) + min(len(a.Answer), maxAnswer) + min(len(a.Rerun), maxText) +
		min(len(a.Replies), maxReplies)*(binary.MaxVarintLen32+binary.MaxVarintLen64)
}

func appendEnd(d []byte, n uint32, id channel.ID, time int64, s State, reason string) []byte {
	at := len(d)
	d = appendID(beginRecord(d, kindEnd), n, id)
	d = binary.AppendVarint(d, time)
	d = append(d, byte(s))
	d = appendText(d, reason)
	endRecord(d, at)
	return d
}

func appendGap(d []byte, base int64, g *Gap) []byte {
	at, from := len(d), nanos(g.From)
	d = beginRecord(d, kindGap)
	d = binary.AppendVarint(d, from-base)
	d = binary.AppendVarint(d, nanos(g.To)-from)
	d = binary.AppendUvarint(d, g.Records)
	d = appendText(d, g.Cause[:min(len(g.Cause), maxCause)])
	endRecord(d, at)
	return d
}

// appendName appends what a number stands for. broker is 0 for a Broker: numbers begin at 1.
func appendName(d []byte, n, broker uint32, uid channel.UID, name string) []byte {
	at := len(d)
	if broker == 0 {
		d = binary.AppendUvarint(beginRecord(d, kindBroker), uint64(n))
	} else {
		d = binary.AppendUvarint(beginRecord(d, kindTrigger), uint64(n))
		d = binary.AppendUvarint(d, uint64(broker))
	}
	d = appendText(appendWhole(d, string(uid)), name)
	endRecord(d, at)
	return d
}
