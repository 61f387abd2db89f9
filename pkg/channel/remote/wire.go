package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// Version 1 of a request's body, all integers little endian:
//
//	each append: u8 length of the Broker's uid, uid, u32 number of events,
//	             each event: u32 length, stored form (event.Event.Raw)
//	u32 CRC-32C of all before it
//
// One without appends is a question: do you take events? Asked first on every
// connection, it has the peer known before an event goes there.
const (
	sumSize    = 4
	lengthSize = 4
	maxUID     = math.MaxUint8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// requestSize is how many bytes appendRequest adds.
func requestSize(uid channel.UID, events []event.Event) int64 {
	n := int64(1 + len(uid) + lengthSize)
	for i := range events {
		n += int64(lengthSize + events[i].Size())
	}
	return n
}

// appendRequest adds one append to a body. The uid must not be longer than maxUID.
func appendRequest(b []byte, uid channel.UID, events []event.Event) []byte {
	b = append(b, byte(len(uid)))
	b = append(b, uid...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(events)))
	for i := range events {
		raw := events[i].Raw()
		b = binary.LittleEndian.AppendUint32(b, uint32(len(raw)))
		b = append(b, raw...)
	}
	return b
}

// seal adds the checksum of all from the given offset.
func seal(b []byte, from int) []byte {
	return binary.LittleEndian.AppendUint32(b, sum(b[from:]))
}

// unseal checks the checksum and takes it off.
func unseal(b []byte) ([]byte, error) {
	if len(b) < sumSize {
		return nil, fmt.Errorf("%d bytes are too few", len(b))
	}
	content := b[:len(b)-sumSize]
	if binary.LittleEndian.Uint32(b[len(content):]) != sum(content) {
		return nil, errors.New("checksum does not match")
	}
	return content, nil
}

// group is one append of a request, and what became of it.
type group struct {
	uid    channel.UID
	events []event.Event
	ids    []channel.Stored
	err    error
}

var (
	errShort  = errors.New("ends within an append")
	errLarger = errors.New("holds more than is taken at once")
)

// decodeRequest reads a body into groups, whose events share its memory, and
// returns all events in their order too. A group whose events cannot be read
// has an err that is a refusal, and no events.
func decodeRequest(body []byte, maxAppends, maxEvents int, groups []group) ([]group, []event.Event, error) {
	content, err := unseal(body)
	if err != nil {
		return groups, nil, err
	}
	appends, total, err := survey(content, maxAppends, maxEvents)
	if err != nil {
		return groups, nil, err
	}
	all := make([]event.Event, 0, total)
	last := channel.UID("")
	for rest := content; appends > 0; appends-- {
		n := int(rest[0])
		g := group{}
		if uid := rest[1 : 1+n]; string(uid) != string(last) {
			last = channel.UID(uid)
		}
		g.uid = last
		events := int(binary.LittleEndian.Uint32(rest[1+n:]))
		rest = rest[1+n+lengthSize:]
		from := len(all)
		for i := range events {
			size := int(binary.LittleEndian.Uint32(rest))
			raw := rest[lengthSize : lengthSize+size : lengthSize+size]
			rest = rest[lengthSize+size:]
			e, err := event.Parse(raw)
			if err != nil && g.err == nil {
				// A sender of another version, most likely: a dispatcher of its
				// version will take it.
				g.err = &channel.Refused{Err: fmt.Errorf("%w: event %d of %d: %w", channel.ErrUnavailable, i+1, events, err), RetryAfter: DefaultRetryAfter}
			}
			all = append(all, e)
		}
		if g.err != nil {
			all = all[:from]
		}
		g.events = all[from:len(all):len(all)]
		groups = append(groups, g)
	}
	return groups, all, nil
}

// survey checks every length in a request's content and counts.
func survey(content []byte, maxAppends, maxEvents int) (appends, events int, err error) {
	for at := 0; at < len(content); appends++ {
		if appends == maxAppends {
			return 0, 0, errLarger
		}
		at += 1 + int(content[at])
		if len(content)-at < lengthSize {
			return 0, 0, errShort
		}
		n := binary.LittleEndian.Uint32(content[at:])
		at += lengthSize
		if uint64(n) > uint64(maxEvents-events) {
			return 0, 0, errLarger
		}
		events += int(n)
		for range n {
			if len(content)-at < lengthSize {
				return 0, 0, errShort
			}
			size := binary.LittleEndian.Uint32(content[at:])
			at += lengthSize
			if uint64(size) > uint64(len(content)-at) {
				return 0, 0, errShort
			}
			at += int(size)
		}
	}
	return appends, events, nil
}
