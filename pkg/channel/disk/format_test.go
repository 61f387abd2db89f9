package disk

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The format is for ever: these bytes may change only with formatVersion.
func TestBytesOnTheMediumAreThoseOfTheirFormat(t *testing.T) {
	store := [16]byte{0: 1, 15: 2}
	seed := frameSeed(store, 7)
	f := frame{kind: kindEvent, flags: flagMore, length: 5, stream: 3, position: 9, time: 1234567890,
		witness: 64, epoch: 2, sum: checksum([]byte("event"))}
	entries := []entry{{kind: kindEvent, stream: 3, first: 9, count: 2, bytes: 128, from: 1, until: 2}}
	for name, b := range map[string][]byte{
		"segment-header": putSegmentHeader(7, 4096, store),
		"frame":          pad(append(f.append(nil, seed, 64), "event"...)),
		"footer":         putFooter(7, 192, entries, [][]uint32{{8, 16}}),
	} {
		file := filepath.Join("testdata", name+".hex")
		got := []byte(hex.Dump(b))
		if *update {
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is\n%swant\n%s", name, got, want)
		}
	}
}

func TestFrameIsValidOnlyWhereItWasWritten(t *testing.T) {
	store := [16]byte{1}
	f := frame{kind: kindEvent, length: 0}
	b := f.append(nil, frameSeed(store, 1), 64)
	if _, ok := parseFrame(b, frameSeed(store, 1), 64); !ok {
		t.Error("not valid in its place")
	}
	for what, ok := range map[string]bool{
		"at another offset":  valid(b, frameSeed(store, 1), 72),
		"in another segment": valid(b, frameSeed(store, 2), 64),
		"in another store":   valid(b, frameSeed([16]byte{2}, 1), 64),
		"cut short":          valid(b[:frameHeader-1], frameSeed(store, 1), 64),
	} {
		if ok {
			t.Errorf("valid %s", what)
		}
	}
}

func valid(b []byte, seed uint32, off int64) bool {
	_, ok := parseFrame(b, seed, off)
	return ok
}
