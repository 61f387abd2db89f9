package history

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// beat is how often a Metronome looks; lateness below noLine is not written down.
const (
	beat   = 20 * time.Millisecond
	noLine = 5 * time.Millisecond
)

// Late says that this machine has just been late by so much.
func (r *Recorder) Late(by time.Duration) { r.write(Line{Do: doLate, Count: uint64(by)}) }

// Metronome records how late this machine is until ctx ends, for runs with real
// processes: it waits, writes to a file in dir and syncs it, as the broker does
// when it saves progress, and records how much longer that took than the wait.
// A crash may cost that much more than Rules.Lag, twice, for the broker has two
// such waits.
func (r *Recorder) Metronome(ctx context.Context, dir string) error {
	f, err := os.Create(filepath.Join(dir, "metronome"))
	if err != nil {
		return fmt.Errorf("metronome: %w", err)
	}
	defer f.Close()
	timer := time.NewTimer(beat)
	defer timer.Stop()
	var page [4096]byte
	for {
		began := time.Now()
		timer.Reset(beat)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if _, err := f.WriteAt(page[:], 0); err != nil {
			return fmt.Errorf("metronome: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("metronome: %w", err)
		}
		if late := time.Since(began) - beat; late > noLine {
			r.Late(late)
		}
	}
}
