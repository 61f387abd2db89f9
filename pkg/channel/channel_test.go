package channel

import (
	"errors"
	"strings"
	"testing"
)

func TestEventIDReadsAsItIsWritten(t *testing.T) {
	for _, id := range []ID{{}, {Shard: 3, Position: 42}, {Shard: 1<<32 - 1, Position: 1<<64 - 1}} {
		if got, err := ParseID(id.String()); got != id || err != nil {
			t.Errorf("%s reads as %s, error %v", id, got, err)
		}
	}
}

func TestWhatIsNoEventIDIsSaidSo(t *testing.T) {
	for _, s := range []string{"", "-", "1", "1-", "-1", "a-1", "1-a", "1-2-3", " 1-2", "+1-2", "4294967296-1", "1-18446744073709551616"} {
		if id, err := ParseID(s); err == nil || !strings.Contains(err.Error(), "SHARD-POSITION") {
			t.Errorf("%q reads as %s, error %v", s, id, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"0-42", "4294967295-18446744073709551615", "1-2-3", "007-08", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			if id != (ID{}) {
				t.Errorf("%q is no id and reads as %s", s, id)
			}
			return
		}
		if again, err := ParseID(id.String()); again != id || err != nil {
			t.Errorf("%q reads as %s, and that as %s, error %v", s, id, again, err)
		}
	})
}

func TestErrorsTellWhatAndWhere(t *testing.T) {
	refused := error(&Refused{Err: ErrQuota})
	if !errors.Is(refused, ErrQuota) || refused.Error() != "refused: storage quota is used up" {
		t.Error(refused)
	}
	gap := error(&GapError{Shard: 2, From: 5, To: 8, Cause: ErrUnavailable})
	if !errors.Is(gap, ErrUnavailable) || !strings.HasPrefix(gap.Error(), "shard 2: positions 5 to 7 cannot be read: ") {
		t.Error(gap)
	}
}
