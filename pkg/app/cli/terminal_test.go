package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

func TestCleanShowsWhatWouldAct(t *testing.T) {
	for in, want := range map[string]string{
		"order.created":       "order.created",
		"Zoë 日本 🚰":            "Zoë 日本 🚰",
		"\x1b[2J\x1b]0;x\x07": `\x1b[2J\x1b]0;x\x07`,
		"a\nb\tc\rd\x00":      `a\nb\tc\rd\x00`,
		"\u009b31m":           `\u009b31m`, // CSI in one character
		"abc\u202Edef":        `abc\u202edef`,
		"zero\u200bwidth":     `zero\u200bwidth`,
		"line\u2028end":       `line\u2028end`,
		"bad\xffutf8":         `bad\xffutf8`,
		"real \uFFFD":         "real \uFFFD",
		"tag\U000E0041":       `tag\U000e0041`,
		"del\x7f":             `del\x7f`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	harmless := func(text string) bool { return strings.IndexFunc(clean(text), acts) < 0 }
	if err := quick.Check(harmless, nil); err != nil {
		t.Error(err)
	}
}

func TestCleanJSONIsTheSameJSONWithoutWhatActs(t *testing.T) {
	for _, value := range []string{"plain", "csi \u009b31m", "rtl \u202e", "tag \U000E0041", "del \x7f", "nl \n esc \x1b"} {
		in, err := marshal(map[string]string{"v": value}, "  ")
		if err != nil {
			t.Fatal(err)
		}
		out := cleanJSON(in)
		var back map[string]string
		if err := json.Unmarshal(out, &back); err != nil || back["v"] != value {
			t.Errorf("%q became %q, %v", value, back["v"], err)
		}
		if i := bytes.IndexFunc(out, actsInJSON); i >= 0 {
			t.Errorf("%q: %q still acts", value, out[i:])
		}
	}
}

func TestAgesAndSizesAsPeopleSayThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 250 * time.Millisecond: "250ms", 59 * time.Second: "59s", time.Minute: "1m",
		5*time.Minute + 3*time.Second: "5m3s", 3*time.Hour + 4*time.Minute + 5*time.Second: "3h4m", 51 * time.Hour: "2d3h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %s, want %s", time.Duration(d), got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1Ki", 1536: "1.5Ki", 1<<20 - 1: "1Mi", 256 << 20: "256Mi", 5 << 40: "5Ti"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestColumnsAlignWhateverTheirCharacters(t *testing.T) {
	table := table{header: []string{"NAME", "N"}}
	table.add(text("Zoë"), number(1))
	table.add(text("a-long-name"), alarm(22))
	var out bytes.Buffer
	if err := table.print(&out, true); err != nil {
		t.Fatal(err)
	}
	if want := "NAME          N\nZoë           1\na-long-name   22\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
