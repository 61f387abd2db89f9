package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

// hostile are texts that senders have tried on log readers.
var hostile = []string{
	"a\nlevel=ERROR msg=\"disk full\"",
	"a\r\n{\"level\":\"ERROR\"}",
	"\x1b[2J\x1b]0;owned\x07",
	"\u009b31m",
	"\x00\x7f",
	"invoice\u202egnp.exe",
	"a\u2028b\u2029c",
	"\xff\xfe\xfd",
	`"},{"level":"ERROR"`,
	strings.Repeat("long ", 1000),
	strings.Repeat("ä", 200),
	strings.Repeat("\n", 300),
}

func TestNoValueCanForgeALogLine(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		h, err := telemetry.NewLogHandler(&out, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log := slog.New(h)
		for _, s := range hostile {
			log.Warn("event given up", telemetry.KeyBroker, s, telemetry.KeyError, errors.New(s), "list", []string{s},
				slog.Group("group", "level", s, "inner", errors.New(s)), "attempt", 3, "wait", time.Second)
		}
		log.With("bound", hostile[0]).Info("bound")
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != len(hostile)+1 {
			t.Fatalf("%s: %d lines, want %d", format, len(lines), len(hostile)+1)
		}
		for i, line := range lines {
			if !utf8.ValidString(line) || strings.ContainsAny(line, "\r\x1b\x00\x07\x7f\u009b\u202e\u2028\u2029") {
				t.Errorf("%s line %d steers a terminal: %q", format, i, line)
			}
			if len(line) > 8*telemetry.MaxLogValue {
				t.Errorf("%s line %d has %d bytes", format, i, len(line))
			}
			if format != "json" {
				continue
			}
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Errorf("line %d is not one JSON object: %v", i, err)
			}
			if s, _ := fields["broker"].(string); len(s) > telemetry.MaxLogValue {
				t.Errorf("line %d: value of %d bytes", i, len(s))
			}
			if level := fields["level"]; level != "WARN" && level != "INFO" {
				t.Errorf("line %d: level %v", i, level)
			}
		}
	}
}

func TestOrdinaryValuesAreLoggedAsTheyAre(t *testing.T) {
	var out bytes.Buffer
	h, err := telemetry.NewLogHandler(&out, "text", slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(h).Info("delivered", "broker", "shop/orders", "attempt", 2, "err", errors.New("status 503"), "name", "Grüße ☃")
	if got, end := out.String(), "level=INFO msg=delivered broker=shop/orders attempt=2 err=\"status 503\" name=\"Grüße ☃\"\n"; !strings.HasSuffix(got, end) {
		t.Errorf("got %q, want it to end with %q", got, end)
	}
}

func TestUnknownLogFormatIsAnError(t *testing.T) {
	if _, err := telemetry.NewLogHandler(&bytes.Buffer{}, "xml", nil); err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("got %v", err)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"plain":                  "plain",
		"two\nlines\tand a tab":  "two lines and a tab",
		"\x1b[0m":                "\ufffd[0m",
		"a\xffb":                 "a\ufffdb",
		strings.Repeat("x", 256): strings.Repeat("x", 256),
		strings.Repeat("x", 257): strings.Repeat("x", 253) + "…",
		strings.Repeat("ä", 129): strings.Repeat("ä", 126) + "…",
	} {
		if got := telemetry.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := telemetry.Clean(s)
		if len(got) > telemetry.MaxLogValue || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x1b\x00\x7f") {
			t.Errorf("Clean(%q) = %q", s, got)
		}
		if telemetry.Clean(got) != got {
			t.Errorf("%q is cleaned again to %q", got, telemetry.Clean(got))
		}
	})
}

func TestValidTraceParent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for s, want := range map[string]bool{
		good:                               true,
		"cc" + good[2:]:                    true,
		"cc" + good[2:] + "-later":         true,
		"":                                 false,
		good[:54]:                          false,
		good + "-later":                    false, // version 00 ends with the flags
		good + "x":                         false,
		"cc" + good[2:] + "x":              false,
		"ff" + good[2:]:                    false,
		strings.ToUpper(good):              false,
		strings.ReplaceAll(good, "-", "_"): false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01": false,
		"0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333x-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x": false,
	} {
		if got := telemetry.ValidTraceParent(s); got != want {
			t.Errorf("ValidTraceParent(%q) = %v", s, got)
		}
	}
}
