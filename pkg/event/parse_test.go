package event

import (
	"errors"
	"strings"
	"testing"
)

func TestDamagedStoredBytesAreAnError(t *testing.T) {
	good := string(decodeOne(t, binaryMessage(), "data").Raw())
	set := func(at int, v byte) string { return good[:at] + string([]byte{v}) + good[at+1:] }
	for _, c := range []struct{ name, raw, want string }{
		{"nothing", "", "0 bytes"},
		{"half a head", good[:7], "7 bytes"},
		{"newer version", set(0, 2), "version 2, this build reads 1"},
		{"data behind the end", set(6, 1), "bytes"},
		{"one attribute too many", set(2, 5), "runs into the data"},
		{"one attribute too few", set(2, 3), "attributes end at"},
		{"value too long", set(headerSize+2, 200), "runs into the data"},
		{"value of gigabytes", set(headerSize+5, 255), "runs into the data"},
		{"name too short", set(headerSize+1, 1), "attribute at"},
		{"unknown kind", set(headerSize, 4), "attribute at 8 is of kind 4"},
		{"cut off in the attributes", good[:20], "of 20 bytes"},
	} {
		e, err := Parse([]byte(c.raw))
		if !errors.Is(err, ErrEncoding) || !strings.Contains(err.Error(), c.want) || !e.IsZero() {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	e, err := Parse([]byte(good))
	if err != nil || e.ID() != "1" || string(e.Data()) != "data" || e.IsZero() {
		t.Errorf("undamaged: %v, %v", e, err)
	}
}

func TestModesHaveTheNamesOfTheSpec(t *testing.T) {
	for mode, want := range map[Mode]string{Binary: "binary", Structured: "structured", Batch: "batch", 9: "unknown"} {
		if got := mode.String(); got != want {
			t.Errorf("%d: %s, want %s", uint8(mode), got, want)
		}
	}
}
