package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Check reads a history and judges it. Several parts are read one behind the
// other: a part that begins with a restored line continues from the backup it
// names. The error is about lines that are no history; what the broker did
// wrong is in the Verdict.
func Check(parts ...io.Reader) (*Verdict, error) {
	f := newFacts()
	for _, r := range parts {
		if err := f.read(r); err != nil {
			return nil, fmt.Errorf("history: line %d: %w", f.line, err)
		}
	}
	if f.part == 0 {
		return nil, errors.New("history: no lines")
	}
	f.finish()
	return f.judge(), nil
}

func (f *facts) read(r io.Reader) error {
	lines := bufio.NewReaderSize(r, 1<<16)
	for {
		text, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(text)) > 0 {
			f.line++
			var l Line
			if err := json.Unmarshal(text, &l); err != nil {
				return err
			}
			if err := f.add(&l); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			f.endPart()
			return nil
		}
		if err != nil {
			return err
		}
	}
}
