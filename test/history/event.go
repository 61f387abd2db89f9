package history

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math/rand/v2"
)

// Event is a CloudEvent as senders and subscribers of a history see it:
// attributes as text, by name.
type Event struct {
	Attrs map[string]string
	Data  []byte
}

// ID is the attribute id.
func (e Event) ID() string { return e.Attrs["id"] }

// SHA is the hexadecimal SHA-256 of the data.
func (e Event) SHA() string {
	sum := sha256.Sum256(e.Data)
	return hex.EncodeToString(sum[:])
}

// With returns the event with one more attribute.
func (e Event) With(name, value string) Event {
	attrs := maps.Clone(e.Attrs)
	attrs[name] = value
	return Event{Attrs: attrs, Data: e.Data}
}

// NewEvent makes an event with an id of 128 random bits, the data that belongs
// to it, a type out of a, b, c and d, and sometimes a subject and the extension
// colour, for filters to look at.
func NewEvent(rng *rand.Rand) Event {
	var id [16]byte
	binary.LittleEndian.PutUint64(id[:8], rng.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
	e := Event{Attrs: map[string]string{
		"specversion":     "1.0",
		"id":              hex.EncodeToString(id[:]),
		"type":            pick(rng, "a", "b", "c", "d"),
		"source":          pick(rng, "/history/orders", "/history/stock"),
		"datacontenttype": "application/octet-stream",
	}}
	if rng.IntN(2) == 0 {
		e.Attrs["subject"] = pick(rng, "apple", "pear", "häßlich %")
	}
	if rng.IntN(2) == 0 {
		e.Attrs["colour"] = pick(rng, "red", "green")
	}
	e.Data = Payload(e.ID())
	return e
}

func pick(rng *rand.Rand, from ...string) string { return from[rng.IntN(len(from))] }

// Payload is the data of the event with this id: a corruption of either is
// provable. Most are a few hundred bytes, one in 16 is up to 16 KiB.
func Payload(id string) []byte {
	seed := sha256.Sum256([]byte(id))
	rng := rand.NewChaCha8(seed)
	size := 1 + rng.Uint64()%512
	if seed[0]%16 == 0 {
		size = 1 + rng.Uint64()%(16<<10)
	}
	data := make([]byte, size)
	_, _ = rng.Read(data) // never fails
	return data
}
