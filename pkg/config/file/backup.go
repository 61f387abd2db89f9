package file

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// IdentityFile is the name of the file in a data folder that identities are
// kept in.
const IdentityFile = identityFile

// Identities are the Brokers that an identities.json knows.
type Identities struct {
	Brokers map[channel.UID]bool // declared, or in their grace
	Removed map[channel.UID]bool // gone; their storage is no longer wanted
}

// ReadIdentities reads the identities.json of a data folder as it is on disk,
// verified. It may be called while a Source keeps its identities there.
func ReadIdentities(dir string) ([]byte, error) {
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	if _, err := ParseIdentities(data); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// ParseIdentities verifies the contents of an identities.json.
func ParseIdentities(data []byte) (Identities, error) {
	ids := Identities{Brokers: make(map[channel.UID]bool), Removed: make(map[channel.UID]bool)}
	raw, _, err := open(data)
	if err != nil {
		return ids, err
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return ids, fmt.Errorf("is not a list of identities: %w", err)
	}
	for _, id := range s.Identities {
		if id != nil && id.Object != nil && id.Object.Kind == config.KindBroker {
			ids.Brokers[id.UID] = true
		}
	}
	for _, r := range s.Removed {
		if r.Kind == config.KindBroker {
			ids.Removed[r.UID] = true
		}
	}
	return ids, nil
}

// Original is one file of configuration, byte for byte.
type Original struct {
	Path string
	Data []byte
}

// Originals reads the files that Options.Paths stand for, in their order. Of
// those that cannot be read just now it returns the errors; the others are
// returned all the same. limit bounds the bytes of all of them.
func Originals(paths []string, limit int64) (files []Original, errs []error) {
	seen := make(map[string]bool)
	for _, path := range paths {
		names, err := expand(path)
		if err != nil {
			errs = append(errs, err)
		}
		for _, name := range names {
			if seen[absolute(name)] || len(seen) >= MaxFiles {
				continue
			}
			seen[absolute(name)] = true
			data, err := readBounded(name)
			if limit -= int64(len(data)); err == nil && (limit < 0 || len(data) > MaxFileBytes) {
				limit += int64(len(data))
				err = fmt.Errorf("read %s: it is too large", name)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			files = append(files, Original{Path: name, Data: data})
		}
	}
	return files, errs
}
