// Package plot draws a bar chart as SVG, by hand and without a library: what a
// benchmark needs to be seen at a glance. Its colours can be read on white and on
// dark ground, and it draws no ground of its own. The same chart gives the same
// bytes.
package plot

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Kind is which of the two colours a bar has.
type Kind int

const (
	Peer Kind = iota
	Ours
)

// Bar is one line of the chart. Low and High are drawn as a whisker where they differ.
type Bar struct {
	Label            string
	Value, Low, High float64
	Kind             Kind
}

// Chart is what to draw. Values below or at 0 are not drawn.
type Chart struct {
	Title, Unit string
	Bars        []Bar
}

// Colours have a contrast of at least 4 with white and with near black.
const (
	colourText = "#787878"
	colourPeer = "#8a7a66"
	colourOurs = "#1a7f8f"
)

const (
	width     = 860
	left      = 330 // labels end here
	right     = 90  // room for the value behind the longest bar
	top       = 52
	rowHeight = 26
	barHeight = 16
	bottom    = 30

	// logFrom is how many times the smallest the largest value must be for an
	// axis of decades: on a plain one the small bars could not be told apart.
	logFrom = 30
)

// SVG draws the chart.
func SVG(c Chart) string {
	height := top + rowHeight*len(c.Bars) + bottom
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="system-ui, sans-serif" font-size="13" fill="%s">`+"\n",
		width, height, width, height, colourText)
	a := axisOf(c.Bars)
	title := c.Title + ", " + c.Unit
	if a.log {
		title += ", logarithmic"
	}
	fmt.Fprintf(&b, "<title>%s</title>\n<text x=\"%d\" y=\"22\" font-size=\"15\" font-weight=\"600\">%s</text>\n", html.EscapeString(title), left, html.EscapeString(title))
	for _, t := range a.ticks() {
		x := a.at(t)
		fmt.Fprintf(&b, `<line x1="%s" y1="%d" x2="%s" y2="%d" stroke="%s" stroke-opacity="0.35"/>`+"\n", num(x), top-8, num(x), height-bottom, colourText)
		fmt.Fprintf(&b, `<text x="%s" y="%d" text-anchor="middle" font-size="11">%s</text>`+"\n", num(x), height-bottom+16, group(t))
	}
	for i, bar := range c.Bars {
		draw(&b, a, bar, float64(top+rowHeight*i))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func draw(b *strings.Builder, a axis, bar Bar, y float64) {
	middle := y + rowHeight/2
	fmt.Fprintf(b, `<text x="%d" y="%s" text-anchor="end">%s</text>`+"\n", left-10, num(middle+4.5), html.EscapeString(bar.Label))
	if bar.Value <= 0 {
		return
	}
	colour := colourPeer
	if bar.Kind == Ours {
		colour = colourOurs
	}
	end := a.at(bar.Value)
	fmt.Fprintf(b, `<rect x="%d" y="%s" width="%s" height="%d" rx="2" fill="%s"/>`+"\n", left, num(middle-barHeight/2), num(end-left), barHeight, colour)
	if bar.High > bar.Low && bar.Low > 0 {
		fmt.Fprintf(b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s" stroke-width="1.5"/>`+"\n",
			num(a.at(bar.Low)), num(middle), num(a.at(bar.High)), num(middle), colourText)
		end = max(end, a.at(bar.High))
	}
	fmt.Fprintf(b, `<text x="%s" y="%s">%s</text>`+"\n", num(end+6), num(middle+4.5), group(bar.Value))
}

// axis maps values to x. A plain one begins at 0, one of decades below the smallest.
type axis struct {
	log      bool
	from, to float64
}

func axisOf(bars []Bar) axis {
	low, high := math.Inf(1), 0.0
	for _, b := range bars {
		if b.Value > 0 {
			low, high = min(low, b.Value), max(high, b.Value, b.High)
			if b.Low > 0 {
				low = min(low, b.Low)
			}
		}
	}
	if high == 0 {
		return axis{to: 1}
	}
	if high/low < logFrom {
		return axis{to: high}
	}
	return axis{log: true, from: math.Pow(10, math.Floor(math.Log10(low))), to: high}
}

func (a axis) at(v float64) float64 {
	share := v / a.to
	if a.log {
		share = math.Log(v/a.from) / math.Log(a.to/a.from)
	}
	return left + max(share, 0)*(width-left-right)
}

// ticks are the decades, or about five round steps.
func (a axis) ticks() []float64 {
	var ticks []float64
	if a.log {
		for t := a.from; t <= a.to; t *= 10 {
			ticks = append(ticks, t)
		}
		return ticks
	}
	step := math.Pow(10, math.Floor(math.Log10(a.to/2)))
	for a.to/step > 6 {
		step *= 2
	}
	for t := 0.0; t <= a.to; t += step {
		ticks = append(ticks, t)
	}
	return ticks
}

// num writes a coordinate to a tenth.
func num(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// group writes a value: to a tenth below 100, with commas above 999.
func group(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
	}
	s := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
