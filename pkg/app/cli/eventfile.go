package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"

	"github.com/penstock-events/penstock/pkg/event"
)

// badEvent says which part of the input is no event. Reading goes on after it.
type badEvent struct {
	where string // "line 3", "event 2"
	err   error
}

func (b *badEvent) Error() string { return b.where + ": " + b.err.Error() }
func (b *badEvent) Unwrap() error { return b.err }

// readEvents yields the events of a file in any of three forms: a line for
// each, a JSON array, or one or more JSON objects over several lines. What is
// no event comes as a *badEvent in its place, and the rest follows; any other
// error ends the input.
func readEvents(in io.Reader) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		r := bufio.NewReaderSize(in, 64<<10)
		if bom, _ := r.Peek(3); string(bom) == "\uFEFF" {
			_, _ = r.Discard(3) // what was peeked can be discarded
		}
		first, err := firstByte(r)
		switch {
		case err == io.EOF:
		case err != nil:
			yield(event.Event{}, err)
		case first == '[':
			readArray(r, yield)
		default:
			readLines(r, yield)
		}
	}
}

// firstByte peeks at the first byte that is no white space, within the buffer.
func firstByte(r *bufio.Reader) (byte, error) {
	for n := 1; ; n++ {
		peeked, err := r.Peek(n)
		if len(peeked) < n {
			if errors.Is(err, bufio.ErrBufferFull) {
				return 0, errors.New("the input begins with 64 KiB of white space")
			}
			return 0, err
		}
		if b := peeked[n-1]; b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			return b, nil
		}
	}
}

func readLines(r *bufio.Reader, yield func(event.Event, error) bool) {
	for number := 1; ; number++ {
		line, err := readLine(r)
		where := "line " + strconv.Itoa(number)
		if errors.Is(err, errLongLine) {
			if !yield(event.Event{}, &badEvent{where, err}) {
				return
			}
			continue
		}
		if err != nil && err != io.EOF {
			yield(event.Event{}, err)
			return
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			if unfinished(text) && err == nil {
				readObjects(io.MultiReader(bytes.NewReader(line), r), number, yield)
				return
			}
			if !one(text, where, yield) {
				return
			}
		}
		if err == io.EOF {
			return
		}
	}
}

var errLongLine = fmt.Errorf("longer than %d bytes", maxData)

// readLine reads to a newline. A line over the bound is read to its end and dropped.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxData; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case long && (err == nil || err == io.EOF):
			return nil, errLongLine
		default:
			return line, err
		}
	}
}

// unfinished reports whether a line is the beginning of a JSON object that
// goes on below, as in a pretty-printed file.
func unfinished(line []byte) bool {
	var v json.RawMessage
	err := json.NewDecoder(bytes.NewReader(line)).Decode(&v)
	return line[0] == '{' && errors.Is(err, io.ErrUnexpectedEOF)
}

// readObjects reads JSON objects that span lines. Where the JSON itself is
// broken nobody can say where the next begins, so that ends the input.
func readObjects(in io.Reader, line int, yield func(event.Event, error) bool) {
	lines := &lineCounter{in: in, line: line}
	dec := json.NewDecoder(lines)
	for number := 1; ; number++ {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if err == io.EOF {
			return
		}
		if err != nil {
			yield(event.Event{}, fmt.Errorf("event %d, at or before line %d: %w; the rest is not read", number, lines.line, err))
			return
		}
		if !one(raw, "event "+strconv.Itoa(number), yield) {
			return
		}
	}
}

// lineCounter counts the lines of what was read.
type lineCounter struct {
	in   io.Reader
	line int
}

func (l *lineCounter) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	l.line += bytes.Count(p[:n], []byte{'\n'})
	return n, err
}

func readArray(r io.Reader, yield func(event.Event, error) bool) {
	dec := json.NewDecoder(r)
	if _, err := dec.Token(); err != nil {
		yield(event.Event{}, err)
		return
	}
	number := 0
	for dec.More() {
		number++
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			yield(event.Event{}, fmt.Errorf("event %d: %w; the rest is not read", number, err))
			return
		}
		if !one(raw, "event "+strconv.Itoa(number), yield) {
			return
		}
	}
	if _, err := dec.Token(); err != nil {
		yield(event.Event{}, fmt.Errorf("after event %d: the array does not end: %w", number, err))
	}
}

func one(raw []byte, where string, yield func(event.Event, error) bool) bool {
	e, err := event.DecodeJSON(raw)
	if err != nil {
		return yield(event.Event{}, &badEvent{where, err})
	}
	return yield(e, nil)
}
