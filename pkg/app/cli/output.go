package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Output formats, the values of -o.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatName  = "name"
	formatLine  = "line"
)

// addOutput gives a command -o with the formats it has, the first of them its default.
func addOutput(cmd *cobra.Command, formats ...string) {
	cmd.Flags().StringP("output", "o", formats[0], "output format: "+strings.Join(formats, ", "))
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return formats, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic("cli: " + err.Error()) // only if the flag above is not there
	}
}

// outputFormat reads -o and refuses what the command does not have.
func outputFormat(cmd *cobra.Command, formats ...string) (string, error) {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return "", err
	}
	if !slices.Contains(formats, format) {
		return "", usage("-o %s: want one of %s", format, strings.Join(formats, ", "))
	}
	return format, nil
}

// printJSON writes v for programs: indented, without HTML escapes.
func printJSON(w io.Writer, v any) error {
	text, err := marshal(v, "  ")
	if err != nil {
		return err
	}
	return writeJSON(w, text)
}

// writeJSON writes JSON text as it is, or to a terminal without what would act on it.
func writeJSON(w io.Writer, text []byte) error {
	if isTerminal(w) {
		text = cleanJSON(text)
	}
	_, err := w.Write(text)
	return err
}

func marshal(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// table prints aligned columns.
type table struct {
	header []string
	rows   [][]cell
}

type cell struct{ text, colour string }

func text(s string) cell                      { return cell{text: clean(s)} }
func number[T int | int64 | uint64](n T) cell { return cell{text: strconv.FormatInt(int64(n), 10)} }

// alarm is a number that is red unless it is 0.
func alarm[T int | int64 | uint64](n T) cell {
	c := number(n)
	if n > 0 {
		c.colour = red
	}
	return c
}

// ready is the column of that name.
func ready(ok bool) cell {
	if ok {
		return cell{text: "True"}
	}
	return cell{text: "False", colour: red}
}

func (t *table) add(row ...cell) { t.rows = append(t.rows, row) }

// print writes the header, if it is wanted, and the rows.
func (t *table) print(w io.Writer, withHeader bool) error {
	colour := colours(w)
	widths := make([]int, len(t.header))
	for i, h := range t.header {
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var out bytes.Buffer
	line := func(row []cell) {
		for i, c := range row {
			shown := c.text
			if colour {
				shown = paint(c.text, c.colour)
			}
			out.WriteString(shown)
			if i < len(row)-1 {
				out.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+3))
			}
		}
		text := bytes.TrimRight(out.Bytes(), " ")
		out.Truncate(len(text))
		out.WriteByte('\n')
	}
	if withHeader {
		head := make([]cell, len(t.header))
		for i, h := range t.header {
			head[i] = cell{text: h}
		}
		line(head)
	}
	for _, row := range t.rows {
		line(row)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// age is a duration as people say it, two units at most: 5m3s, 2d4h.
func age(d time.Duration) string {
	switch s := int(d / time.Second); {
	case d <= 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return units(s/60, "m", s%60, "s")
	case s < 86400:
		return units(s/3600, "h", s%3600/60, "m")
	default:
		return units(s/86400, "d", s%86400/3600, "h")
	}
}

func units(big int, bigUnit string, small int, smallUnit string) string {
	if small == 0 {
		return strconv.Itoa(big) + bigUnit
	}
	return strconv.Itoa(big) + bigUnit + strconv.Itoa(small) + smallUnit
}

// size is a number of bytes as people say it: 512, 1.5Ki, 20Mi.
func size(n int64) string {
	const prefixes = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(prefixes)-1 {
		f, i = f/1024, i+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + prefixes[i:i+1] + "i"
}
