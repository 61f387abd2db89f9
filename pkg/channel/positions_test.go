package channel

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// One random script on Positions and on a bitmap: they never differ, whatever
// is at rest. Copies taken on the way stay what they were.
func TestPositionsAreASetWhateverIsAtRest(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		var s Positions
		want := roaring64.New()
		next := uint64(rng.IntN(3) << stretchBits)
		type copied struct {
			set  Positions
			want *roaring64.Bitmap
		}
		var copies []copied
		for range 120 {
			switch some := aSet(rng, want, &next); rng.IntN(14) {
			case 0, 1, 2, 3:
				s.AddAll(some)
				want.Or(some)
			case 4, 5:
				for it := some.Iterator(); it.HasNext(); {
					p := it.Next()
					if got, new := s.Add(Position(p)), want.CheckedAdd(p); got != new {
						t.Fatalf("seed %d: adding %d: %v, want %v", seed, p, got, new)
					}
				}
			case 6, 7:
				for it := some.Iterator(); it.HasNext(); {
					p := it.Next()
					if got, was := s.Remove(Position(p)), want.CheckedRemove(p); got != was {
						t.Fatalf("seed %d: removing %d: %v, want %v", seed, p, got, was)
					}
				}
			case 8:
				s.RemoveAll(some)
				want.AndNot(some)
			case 9:
				if got, in := s.Among(some), roaring64.And(some, want); !got.Equals(in) {
					t.Fatalf("seed %d: %d among the set, want %d", seed, got.GetCardinality(), in.GetCardinality())
				}
			case 10:
				copies = append(copies, copied{s.Clone(), want.Clone()})
				s.Share(&copies[rng.IntN(len(copies))].set)
			case 12:
				if rng.IntN(3) > 0 {
					break
				}
				if got := s.Take(); !got.Equals(want) {
					t.Fatalf("seed %d: took %d positions, want %d", seed, got.GetCardinality(), want.GetCardinality())
				}
				want = roaring64.New()
			case 13:
				s = s.Clone()
			case 11:
				above, n := rng.Uint64N(next+2), rng.IntN(300)
				var in []Position
				for it := want.Iterator(); it.HasNext() && len(in) < n; {
					if p := it.Next(); p > above {
						in = append(in, Position(p))
					}
				}
				if got := s.Next(Position(above), n, nil); !slices.Equal(got, in) {
					t.Fatalf("seed %d: the next %d above %d: %d of them, want %d", seed, n, above, len(got), len(in))
				}
			}
			if differs(t, seed, &s, want, rng.Uint64N(next+2)); rng.IntN(8) == 0 {
				isWhole(t, seed, &s, want)
			}
		}
		for i := range copies {
			isWhole(t, seed, &copies[i].set, copies[i].want)
		}
	}
}

// A trigger that keeps up, as far as chance allows: positions come in order, with
// gaps, are gone after a while, seldom after long, and are looked at in between.
func TestPositionsThatComeAndGoAreASet(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var s Positions
		want := roaring64.New()
		var next uint64
		gap, stay, odd := 1+rng.IntN(1<<rng.IntN(14)), 1+rng.IntN(1<<rng.IntN(13)), 1+rng.IntN(300)
		for range 3000 {
			p := next + 1 + uint64(rng.IntN(gap))
			next = max(next, p)
			if rng.IntN(odd) == 0 {
				p = 1 + rng.Uint64N(next) // one that is tried again
			}
			if got, new := s.Add(Position(p)), want.CheckedAdd(p); got != new {
				t.Fatalf("seed %d: adding %d: %v, want %v", seed, p, got, new)
			}
			for want.GetCardinality() > uint64(stay) {
				p, _ := want.Select(rng.Uint64N(1 + rng.Uint64N(want.GetCardinality())))
				if want.Remove(p); !s.Remove(Position(p)) || s.Remove(Position(p)) {
					t.Fatalf("seed %d: %d is not there once", seed, p)
				}
			}
			switch rng.IntN(100) {
			case 0:
				above := rng.Uint64N(next + 2)
				in := want.Clone()
				in.RemoveRange(0, above+1)
				if got := s.Next(Position(above), 64, nil); len(got) != min(64, int(in.GetCardinality())) || len(got) > 0 && uint64(got[0]) != in.Minimum() {
					t.Fatalf("seed %d: %d positions above %d", seed, len(got), above)
				}
			case 1:
				isWhole(t, seed, &s, want)
			case 2:
				if got := s.Take(); !got.Equals(want) {
					t.Fatalf("seed %d: took another set", seed)
				}
				want = roaring64.New()
			}
			differs(t, seed, &s, want, rng.Uint64N(next+2))
		}
	}
}

// aSet is a few positions or many, scattered or side by side, known or new.
func aSet(rng *rand.Rand, known *roaring64.Bitmap, next *uint64) *roaring64.Bitmap {
	some := roaring64.New()
	switch rng.IntN(5) {
	case 0: // side by side
		n := uint64(rng.IntN(1 << rng.IntN(17)))
		some.AddRange(*next, *next+n)
		*next += n
	case 1: // every so many
		step := uint64(1 + rng.IntN(1<<rng.IntN(8)))
		for range rng.IntN(2000) {
			*next += step
			some.Add(*next)
		}
	case 2: // a jump
		*next += uint64(rng.IntN(1 << rng.IntN(20)))
		some.Add(*next)
	case 3:
		for range rng.IntN(500) {
			some.Add(rng.Uint64N(*next + 1))
		}
	case 4:
		for it := known.Iterator(); it.HasNext() && some.GetCardinality() < 3000; {
			if p := it.Next(); rng.IntN(3) > 0 {
				some.Add(p)
			}
		}
	}
	some.Remove(0)
	return some
}

func differs(t *testing.T, seed uint64, s *Positions, want *roaring64.Bitmap, at uint64) {
	t.Helper()
	if s.Len() != want.GetCardinality() || s.IsEmpty() != want.IsEmpty() {
		t.Fatalf("seed %d: %d positions, want %d", seed, s.Len(), want.GetCardinality())
	}
	if s.Contains(Position(at)) != want.Contains(at) {
		t.Fatalf("seed %d: %d is there: %v", seed, at, s.Contains(Position(at)))
	}
	if want.IsEmpty() {
		if s.First() != 0 {
			t.Fatalf("seed %d: first %d of none", seed, s.First())
		}
	} else if uint64(s.First()) != want.Minimum() {
		t.Fatalf("seed %d: first %d, want %d", seed, s.First(), want.Minimum())
	}
}

func isWhole(t *testing.T, seed uint64, s *Positions, want *roaring64.Bitmap) {
	t.Helper()
	united := roaring64.New()
	s.UniteInto(united)
	if !united.Equals(want) || !s.Bitmap().Equals(want) {
		t.Fatalf("seed %d: another set", seed)
	}
	clone := s.Clone()
	isPortable(t, seed, clone.AppendPortable([]byte("before"))[len("before"):], want)
	all := s.AppendTo(nil)
	slices.Sort(all)
	if !slices.Equal(all, want.ToArray()) {
		t.Fatalf("seed %d: appended %d positions, want %d", seed, len(all), want.GetCardinality())
	}
}

// A hundred triggers whose events take turns at random.
func TestScatteredPositionsTakeLittleMoreThanAByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var sets [100]Positions
	const n = 1 << 20
	for p := range uint64(n) {
		sets[rng.IntN(len(sets))].Add(Position(p + 1))
	}
	var bytes, rest int
	for i := range sets {
		for _, r := range sets[i].rest {
			bytes += len(r.set)
			rest += int(r.n)
		}
	}
	if share := float64(rest) / n; share < 0.9 {
		t.Errorf("%.2f of the positions are at rest", share)
	}
	if each := float64(bytes) / float64(rest); each > 1.4 {
		t.Errorf("%.2f bytes for each position, want 1.4 at most", each)
	}
}

func BenchmarkPositionsOfALaneThatKeepsUp(b *testing.B) {
	b.ReportAllocs()
	var s Positions
	p := Position(1)
	for ; p < 64; p++ {
		s.Add(p)
	}
	for b.Loop() {
		s.Add(p)
		s.Remove(p - 63)
		p++
	}
}

// isPortable checks that the library reads the bytes as the set, and that its
// own bytes, with runs and without, are read as it.
func isPortable(t *testing.T, seed uint64, b []byte, want *roaring64.Bitmap) {
	t.Helper()
	read := roaring64.New()
	if err := read.UnmarshalBinary(b); err != nil || !read.Equals(want) || !want.IsEmpty() && read.Validate() != nil {
		t.Fatalf("seed %d: the library reads another set, error %v, %v", seed, err, read.Validate())
	}
	plain := want.Clone()
	for range 2 {
		b, err := plain.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParsePortable(b)
		if err != nil || !s.Bitmap().Equals(want) || s.Len() != want.GetCardinality() {
			t.Fatalf("seed %d: another set is read, error %v", seed, err)
		}
		plain.RunOptimize()
	}
}

// What is read as a set is a set, whatever the bytes were.
func FuzzParsePortable(f *testing.F) {
	for _, set := range []*roaring64.Bitmap{roaring64.New(), roaring64.BitmapOf(1, 2, 3, 1<<16, 1<<33), manyOf(3, 20_000), manyOf(1, 100_000)} {
		for range 2 {
			b, err := set.MarshalBinary()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
			set.RunOptimize()
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParsePortable(b)
		if err != nil || s.Len() > 1<<22 { // a few bytes may stand for more than there is time for
			return
		}
		set := s.Bitmap()
		if set.GetCardinality() != s.Len() || !set.IsEmpty() && set.Validate() != nil {
			t.Fatalf("%d positions, %d by their number", set.GetCardinality(), s.Len())
		}
		clone := s.Clone()
		again, err := ParsePortable(clone.AppendPortable(nil))
		if err != nil || !again.Bitmap().Equals(set) {
			t.Fatalf("written and read again it is another set, error %v", err)
		}
	})
}

func manyOf(step, n uint64) *roaring64.Bitmap {
	set := roaring64.New()
	for p := range n {
		set.Add(1 + p*step)
	}
	return set
}

// Most positions come and are gone before the next: that must cost no memory.
func TestAPositionThatComesAndGoesAllocatesNothing(t *testing.T) {
	var s Positions
	p := Position(1)
	turn := func() {
		if !s.Add(p) || s.Add(p) || s.Len() != 1 || !s.Remove(p) || s.Remove(p) || s.Contains(p) || !s.IsEmpty() || s.First() != 0 {
			t.Fatalf("%d: the set is wrong", p)
		}
		p++
	}
	turn()
	if n := testing.AllocsPerRun(1000, func() {
		if s.Add(p); !s.Remove(p) || s.Len() != 0 {
			t.Fatal("the set is wrong")
		}
		p++
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	turn()
	s.Add(p)
	s.Remove(p)
	if b := s.Bitmap(); !b.IsEmpty() {
		t.Errorf("%v is in an empty set", b)
	}
	if s.AddAll(nil); !s.Add(p) {
		t.Error("what was removed cannot be added again")
	}
}
