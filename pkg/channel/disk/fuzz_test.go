package disk

import (
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// FuzzRecover cuts one file of a store and flips one byte of it: what was
// acknowledged is there, and what was discarded is not, or there is an error,
// but never silence.
func FuzzRecover(f *testing.F) {
	r := start(f, f.TempDir(), tiny)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 2})
	all := fill(r, 60, 2, 400)
	bury(f, r.Log.broker("b"), "t", 20)
	if n, err := r.Log.broker("b").DiscardDead(f.Context(), []uint64{2, 3, 5, 20}); n != 4 || err != nil {
		f.Fatal(n, err)
	}
	if err := r.stop(); err != nil { // the close leaves a witness for everything
		f.Fatal(err)
	}
	im := read(f, r.dir)
	f.Add(uint8(0), uint32(1<<20), uint32(100), byte(1))
	f.Add(uint8(1), uint32(5000), uint32(0), byte(0))
	f.Add(uint8(2), uint32(1<<20), uint32(60), byte(255))
	f.Add(uint8(3), uint32(64), uint32(70), byte(8))
	f.Add(uint8(2), uint32(5000), uint32(8), byte(1)) // of the checkpoint, the format version
	f.Add(uint8(2), uint32(5000), uint32(8), byte(2))
	f.Fuzz(func(t *testing.T, file uint8, length, at uint32, flip byte) {
		names := append(im.names(segmentSuffix), im.names(checkpointSuffix)...)
		changed := im.with(names[int(file)%len(names)], func(b []byte) []byte {
			b = b[:min(len(b), int(length))]
			if len(b) > 0 {
				b[int(at)%len(b)] ^= flip
			}
			return b
		})
		dir := changed.write(t)
		loud, silent := verify(t, dir, tiny, all, 400)
		if silent != nil {
			t.Fatal(silent)
		}
		if loud != nil {
			return
		}
		again := start(t, dir, tiny)
		defer again.stop()
		letters, _, err := again.Log.broker("b").Dead(t.Context(), "t", "", 100)
		if err == nil && (len(letters) != 16 || letters[0].Number != 1 || letters[1].Number != 4 || letters[15].Number != 19) {
			t.Fatalf("of 20 dead letters 4 are discarded, and %d are there", len(letters))
		}
	})
}

// FuzzDecode feeds payloads to everything that reads them after a restart.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeInfo(channel.BrokerInfo{UID: "b", Name: "n/b", Shards: 4}, 1))
	f.Add(encodeLetter(&channel.DeadLetter{Trigger: "t", Event: made(f, "x", 10)}))
	if p, err := encodeProgress([]channel.ShardProgress{{Shard: 1, Scanned: 9, Lanes: []channel.LaneProgress{{
		Trigger: "t", Retries: []channel.Retry{{Position: 3, Attempts: 2, Dead: true}}}}}}); err == nil {
		f.Add(p)
	}
	if p, err := encodeDiscard(roaring64.BitmapOf(3, 4, 1<<40)); err == nil {
		f.Add(p)
	}
	var e encoder
	putRoutes(&e, &channel.Routes{Epoch: 1, From: map[channel.ShardID]channel.Position{0: 1}, Set: []channel.Route{{Trigger: "t", Filter: []byte("{}")}}})
	f.Add([]byte(e))
	f.Fuzz(func(_ *testing.T, b []byte) {
		d := decoder{rest: b}
		getInfo(&d)
		d = decoder{rest: b}
		getRoutes(&d)
		d = decoder{rest: b}
		decodeCover(&d, formatVersion)
		decodeProgress(b)
		decodeLetter(b)
		decodeDiscard(b)
		parseFooter(b, 0)
	})
}
