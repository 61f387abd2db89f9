package loaded

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Bounds of a stream, the same on both sides.
const (
	// MaxLine bounds one line in bytes.
	MaxLine = 256 << 10

	// MaxEntries bounds the objects, and MaxLineTypes the types, of one line. So
	// many types fit into a line also where JSON needs six bytes for each of
	// theirs.
	MaxEntries   = 500
	MaxLineTypes = 16

	// MaxObjects bounds what a Watcher keeps of one pod.
	MaxObjects = 200_000

	// MaxUID and MaxVersion bound what a Watcher takes for one, and MaxAttribute
	// each text of a Type, in bytes.
	MaxUID       = 128
	MaxVersion   = 128
	MaxAttribute = 512
)

// line is one line of a stream, a JSON object. The first has Reset: what
// follows is the whole, which ends with the line that has Whole. From then on
// lines are changes. A process that has loaded nothing yet sends no Whole.
type line struct {
	Reset bool                   `json:"reset,omitempty"`
	Set   map[channel.UID]string `json:"set,omitempty"`   // versions by uid
	Unset []channel.UID          `json:"unset,omitempty"` // not in force any more
	Whole bool                   `json:"whole,omitempty"`
	Types []Type                 `json:"types,omitempty"`
}

// readLine reads one line whose bounds hold. The end of the stream is io.EOF,
// also inside a line: that is not whole. An empty object is a heartbeat;
// fields that are not known are a newer Board's.
func readLine(r *bufio.Reader) (line, error) {
	var l line
	raw, err := r.ReadSlice('\n')
	if err == nil {
		return l, decode(raw, &l)
	}
	// A long line is rare: the whole of a large cluster.
	long := bytes.Clone(raw)
	for errors.Is(err, bufio.ErrBufferFull) && len(long) <= MaxLine {
		raw, err = r.ReadSlice('\n')
		long = append(long, raw...)
	}
	switch {
	case len(long) > MaxLine:
		return l, fmt.Errorf("a line is longer than %d bytes", MaxLine)
	case err != nil:
		return l, err
	}
	return l, decode(long, &l)
}

func decode(raw []byte, l *line) error {
	if len(raw) > MaxLine {
		return fmt.Errorf("a line is longer than %d bytes", MaxLine)
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] != '{' {
		return errors.New("a line is not a JSON object")
	}
	if err := json.Unmarshal(raw, l); err != nil {
		return errors.New("a line is not what a board writes")
	}
	return l.check()
}

func (l *line) check() error {
	if len(l.Set) > MaxEntries || len(l.Unset) > MaxEntries || len(l.Types) > MaxLineTypes {
		return errors.New("a line has too many entries")
	}
	for uid, version := range l.Set {
		if uid == "" || len(uid) > MaxUID || version == "" || len(version) > MaxVersion {
			return errors.New("an object is without uid or version, or they are too long")
		}
	}
	for _, uid := range l.Unset {
		if uid == "" || len(uid) > MaxUID {
			return errors.New("an object is without uid, or it is too long")
		}
	}
	for i := range l.Types {
		if !l.Types[i].fits() {
			return errors.New("an event type is too long")
		}
	}
	return nil
}

// fits reports whether all its texts are within bounds.
func (t *Type) fits() bool {
	return len(t.Broker) <= MaxUID && len(t.Trigger) <= MaxUID && len(t.Type) <= MaxAttribute &&
		len(t.Source) <= MaxAttribute && len(t.Schema) <= MaxAttribute && len(t.SpecVersion) <= MaxAttribute
}

// writeLine appends the line to w.
func writeLine(w io.Writer, l line) error {
	enc := json.NewEncoder(w) // ends the line
	enc.SetEscapeHTML(false)
	return enc.Encode(l)
}
