package journal

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// FuzzOpen changes and cuts one file of a journal: what is still told is true.
func FuzzOpen(f *testing.F) {
	w := newWreck(f, 10)
	names := []string{segmentName(1), segmentName(2), indexName(1)}
	f.Add(uint8(0), uint16(100), []byte{1}, uint16(0))
	f.Add(uint8(1), uint16(500), make([]byte, 300), uint16(10))
	f.Add(uint8(2), uint16(60), []byte{0xff, 0xff}, uint16(0))
	f.Add(uint8(2), uint16(4000), []byte{9}, uint16(17))
	f.Fuzz(func(t *testing.T, file uint8, at uint16, over []byte, cut uint16) {
		name := names[int(file)%len(names)]
		b := bytes.Clone(w.files[name])
		copy(b[int(at)%len(b):], over)
		w.read(t, w.with(name, b[:len(b)-int(cut)%len(b)]))
	})
}

// FuzzDecode puts any bytes behind a good checksum: nothing panics, nothing
// takes more memory than there are bytes.
func FuzzDecode(f *testing.F) {
	w := newWreck(f, 3)
	b := w.files[segmentName(1)]
	nonce, err := parseHead(b, 1)
	if err != nil {
		f.Fatal(err)
	}
	n, _ := blockLength(b[segmentHeader:], nonce)
	f.Add(b[segmentHeader+blockHeader : segmentHeader+blockHeader+n])
	base := binary.LittleEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	f.Add(base)
	f.Add(appendGap(bytes.Clone(base), 0, &Gap{From: time.Now(), To: time.Now(), Cause: "x"}))
	f.Add(appendName(bytes.Clone(base), 1<<31, 1<<30, "u", "n"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		block := append(make([]byte, blockHeader), payload...)
		completeBlock(block, nonce)
		for _, name := range []string{segmentName(1), segmentName(2)} {
			num, _ := numberOf(name, segmentSuffix)
			files := map[string][]byte{name: append(append(segmentHead(num, nonce), b[segmentHeader:]...), block...)}
			j, err := open(storeOf(files), Options{SegmentBytes: leastSegment}.withDefaults(true))
			if err != nil {
				t.Fatal(err)
			}
			d := &desk{Journal: j, t: t}
			d.all(Query{})
			for p := range channel.Position(3) {
				d.story(channel.ID{Position: p + 1})
			}
			j.ageing = true
			j.write() // its index
			for _, e := range d.all(Query{}) {
				if _, err := j.Story(t.Context(), e.Broker, e.ID); err != nil {
					t.Fatalf("%+v: %v", e, err)
				}
			}
		}
	})
}
