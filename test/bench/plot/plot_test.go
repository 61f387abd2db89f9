package plot

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestTheChartsAreAsInTheGoldenFiles(t *testing.T) {
	for name, c := range map[string]Chart{
		"plain": {Title: "Time per event", Unit: "µs", Bars: []Bar{
			{Label: "nginx", Value: 20, Low: 18.04, High: 23}, {Label: "ours <memory>", Value: 24.25, Low: 24.25, High: 24.25, Kind: Ours}, {Label: "not measured"},
		}},
		"decades": {Title: "Time per event", Unit: "µs", Bars: []Bar{
			{Label: "nginx", Value: 20, Low: 9, High: 23}, {Label: "ours", Value: 31.5, Low: 30, High: 40, Kind: Ours}, {Label: "Knative, 1 of 100", Value: 56_100, Low: 50_000, High: 90_000},
		}},
		"empty": {Title: "Time per event", Unit: "µs"},
	} {
		golden := filepath.Join("testdata", name+".svg")
		got := SVG(c)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s has changed (-update writes it):\n%s", golden, got)
		}
		for dec := xml.NewDecoder(strings.NewReader(got)); ; {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s is no XML: %v", golden, err)
			}
		}
	}
}

func TestALongerBarIsALargerValue(t *testing.T) {
	for _, bars := range [][]Bar{
		{{Value: 10}, {Value: 11}, {Value: 25}},
		{{Value: 0.5}, {Value: 8}, {Value: 9, Low: 7, High: 100_000}},
	} {
		a := axisOf(bars)
		last := float64(left)
		for _, b := range bars {
			x := a.at(b.Value)
			if x <= last || x > width-right {
				t.Errorf("%v ends at %.1f after %.1f, want more and at most %d", b.Value, x, last, width-right)
			}
			last = x
		}
		if n := len(a.ticks()); n < 2 || n > 8 {
			t.Errorf("%d ticks for %+v", n, a)
		}
	}
}

// WCAG 2.1, 1.4.3 and 1.4.11, against white and against GitHub's dark ground.
func TestColoursCanBeReadOnWhiteAndOnDark(t *testing.T) {
	for _, colour := range []string{colourText, colourPeer, colourOurs} {
		for _, ground := range []string{"#ffffff", "#0d1117"} {
			light, dark := luminance(t, colour), luminance(t, ground)
			if light < dark {
				light, dark = dark, light
			}
			if contrast := (light + 0.05) / (dark + 0.05); contrast < 4 {
				t.Errorf("%s on %s: contrast %.2f, want 4", colour, ground, contrast)
			}
		}
	}
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
