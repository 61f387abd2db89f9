package tally

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func set(ids ...uint64) *Bitset {
	b := new(Bitset)
	for _, id := range ids {
		b.Add(id)
	}
	return b
}

func TestAnIDIsNewOnce(t *testing.T) {
	b := new(Bitset)
	for _, id := range []uint64{0, 63, 64, chunkBits - 1, chunkBits, MaxID} {
		if !b.Add(id) {
			t.Errorf("%d is not new the first time", id)
		}
		if b.Add(id) {
			t.Errorf("%d is new the second time", id)
		}
	}
	if b.Add(MaxID + 1) {
		t.Error("an id out of range was taken")
	}
	if got := b.Len(); got != 6 {
		t.Errorf("len %d, want 6", got)
	}
}

func TestOneOfManyAddersIsFirst(t *testing.T) {
	b := new(Bitset)
	var fresh atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for id := range uint64(10_000) {
				if b.Add(id) {
					fresh.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if fresh.Load() != 10_000 || b.Len() != 10_000 {
		t.Errorf("%d new, %d in the set, want 10000 of both", fresh.Load(), b.Len())
	}
}

func TestMissingAreThoseThatTheOtherLacks(t *testing.T) {
	for _, c := range []struct {
		name      string
		have, see *Bitset
		want      int
	}{
		{"nothing sent", set(), set(1), 0},
		{"all seen", set(1, chunkBits), set(1, chunkBits, 7), 0},
		{"one word short", set(1, 2, 3), set(2), 2},
		{"a whole chunk short", set(1, chunkBits, chunkBits+9), set(1), 2},
	} {
		if got := c.have.Missing(c.see); got != c.want {
			t.Errorf("%s: %d missing, want %d", c.name, got, c.want)
		}
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	want := set(0, 5, 3*chunkBits+17, MaxID)
	var file bytes.Buffer
	if _, err := want.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	got := new(Bitset)
	if _, err := got.ReadFrom(bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	if got.Len() != 4 || want.Missing(got) != 0 {
		t.Errorf("read back %d ids, %d missing", got.Len(), want.Missing(got))
	}
	if _, err := new(Bitset).ReadFrom(bytes.NewReader(whole[:len(whole)-1])); err == nil {
		t.Error("a set that is cut short was read")
	}
	if _, err := new(Bitset).ReadFrom(strings.NewReader(strings.Repeat("\xff", 8+chunkWords*8))); err == nil {
		t.Error("a chunk out of range was read")
	}
}
