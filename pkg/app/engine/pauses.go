package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// pausesFile is where the data folder keeps who is paused.
const pausesFile = "pauses.json"

// pausesVersion is what this version writes and reads.
const pausesVersion = 1

// pauses keeps the pauses of people in one small file, written anew and renamed
// at each change: after a crash it says what it said before the change or after it.
type pauses struct {
	path string
	mu   sync.Mutex
}

type storedPauses struct {
	Version int                       `json:"version"`
	Paused  map[channel.UID]time.Time `json:"paused"` // until when; the zero time: until resumed
}

// openPauses reads the file. One that cannot be read refuses the start: to go
// on without would deliver what somebody has asked to hold.
func openPauses(dir string) (*pauses, map[channel.UID]time.Time, error) {
	p := &pauses{path: filepath.Join(dir, pausesFile)}
	text, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var stored storedPauses
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, nil, fmt.Errorf("read %s: is damaged: remove it to resume what was paused by hand: %w", p.path, err)
	}
	if stored.Version > pausesVersion {
		return nil, nil, fmt.Errorf("read %s: has version %d, this penstock reads up to %d: use a newer one", p.path, stored.Version, pausesVersion)
	}
	return p, stored.Paused, nil
}

// save makes the file say this. When it returns nil a crash does not undo it.
func (p *pauses) save(all map[channel.UID]time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := json.MarshalIndent(storedPauses{Version: pausesVersion, Paused: all}, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(p.path)
	f, err := os.CreateTemp(dir, "."+pausesFile+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), p.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
