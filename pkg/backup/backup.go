// Package backup writes and reads the archive of a broker's data folder: the
// log as it stood at one moment, the identities, the configuration, and what
// is needed to tell whether all of it is still as it was.
//
// It promises that an archive read without an error is the one that was
// written, to the last bit; that one which was cut short, altered or written
// by a newer Penstock is refused before anything of it can be used; that
// restoring brings back every event acknowledged, every dead letter and all
// progress saved before the backup began, or nothing; and that no archive,
// however made, writes outside the folder it is restored into. It does not
// encrypt: an archive holds events and configuration as they are. What Brokers
// keep in memory is not in it.
//
// An Archive belongs to one goroutine.
package backup

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config/file"
)

// Format is the version of archives that this package writes. It reads none
// that is later.
const Format = 1

// ContentType is that of an archive over HTTP.
const ContentType = "application/x-tar"

// An archive is a tar stream of plain files in this order. Its last entry is
// what sha256sum -c reads; where the backup failed it is the reason instead.
const (
	manifestName = "manifest.json"
	logFolder    = "log/"
	configFolder = "config/"
	sumsName     = "SHA256SUMS"
	failureName  = "ERROR"
)

// Bounds on what an archive may claim to hold.
const (
	maxManifest   = 64 << 20
	maxContents   = 1 << 20
	maxSegment    = 4 << 30
	maxIdentities = 1 << 30
	maxConfig     = 64 << 20 // of all files
	maxFailure    = 480      // bytes of the reason
)

// Manifest is the first entry of an archive.
type Manifest struct {
	Format   int       `json:"format"`
	Penstock string    `json:"penstock"` // version that wrote it
	Created  time.Time `json:"created"`  // of the cut, to the second
	Store    string    `json:"store"`    // id of the log, the same in all its copies
	LSN      uint64    `json:"lsn"`      // where in the log the copy ends
	Brokers  []Broker  `json:"brokers"`
	Resolve  []string  `json:"resolve,omitempty"` // --resolve of the broker that was backed up
	Notes    []string  `json:"notes,omitempty"`   // what a person should know before restoring
	Contents []Entry   `json:"contents"`          // all that follows but the sums, in order
}

// Broker is one Broker as it stood at the cut.
type Broker struct {
	UID     channel.UID        `json:"uid"`
	Name    string             `json:"name"`        // namespace/name
	Next    []channel.Position `json:"next"`        // by shard: the position after the last event
	Pending uint64             `json:"pending"`     // events with a delivery outstanding
	Dead    uint64             `json:"deadLetters"` //
}

// Entry is one file in an archive.
type Entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Origin string `json:"origin,omitempty"` // of configuration: the path it was read from
}

// Bytes is the length of the archive, if the backup does not fail.
func (m *Manifest) Bytes() (int64, error) {
	text, err := m.encode()
	if err != nil {
		return 0, err
	}
	n := blocks(int64(len(text)))
	sums := int64(len(sumLine(nil, manifestName)))
	for _, e := range m.Contents {
		n += blocks(e.Size)
		sums += int64(len(sumLine(nil, e.Name)))
	}
	return n + blocks(sums) + 2*block, nil
}

func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(m)
	return b.Bytes(), err
}

// VersionError says that an archive was written by a newer Penstock.
type VersionError struct {
	Format   int
	Penstock string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("the archive has format %d, written by penstock %.64q; this penstock reads up to %d: use one at least as new as the one that wrote it",
		e.Format, e.Penstock, Format)
}

// parseManifest reads a manifest and holds it to what an archive may contain.
func parseManifest(text []byte) (*Manifest, error) {
	var v struct {
		Format   int    `json:"format"`
		Penstock string `json:"penstock"`
	}
	if err := json.Unmarshal(text, &v); err != nil || v.Format < 1 {
		return nil, errors.New("the archive begins with no manifest of Penstock")
	}
	if v.Format > Format {
		return nil, &VersionError{v.Format, v.Penstock}
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if again, err := m.encode(); err != nil || !bytes.Equal(again, text) {
		return nil, errors.New("the manifest is not as it was written")
	}
	return m, m.check()
}

// The names that an archive may hold. None can lead out of a folder, and none
// means something to a shell. They are compiled when there is an archive: every
// start of the program would wait for it.
var (
	checkpointName = names(`^log/[0-9]{16}\.ckpt$`)
	segmentName    = names(`^log/[0-9]{16}\.log$`)
	configName     = names(`^config/[0-9]{5}-[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)
)

func names(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// check says what of the contents cannot be: one checkpoint, the segments in
// order, the identities, the configuration.
func (m *Manifest) check() error {
	if len(m.Contents) > maxContents || len(m.Contents) < 3 {
		return fmt.Errorf("manifest: %d entries", len(m.Contents))
	}
	identities := slices.IndexFunc(m.Contents, func(e Entry) bool { return e.Name == file.IdentityFile })
	seen := make(map[string]bool, len(m.Contents))
	for i, e := range m.Contents {
		var ok bool
		var most int64 = maxSegment
		switch {
		case i == 0:
			ok = checkpointName().MatchString(e.Name)
		case i < identities:
			ok = segmentName().MatchString(e.Name)
		case i == identities:
			ok, most = i > 1, maxIdentities
		default:
			ok, most = configName().MatchString(e.Name), file.MaxFileBytes
		}
		if !ok || seen[e.Name] {
			return fmt.Errorf("manifest: entry %d, %.128q, has no place there", i+1, e.Name)
		}
		seen[e.Name] = true
		if e.Size < 0 || e.Size > most {
			return fmt.Errorf("manifest: entry %.128q of %d bytes", e.Name, e.Size)
		}
	}
	return nil
}

// differs says how a log is not the one that the manifest tells of.
func (m *Manifest) differs(found []disk.CutBroker) error {
	if len(found) != len(m.Brokers) {
		return fmt.Errorf("the log holds %d brokers, the manifest names %d", len(found), len(m.Brokers))
	}
	for i, b := range m.Brokers {
		f := found[i]
		if f.UID != b.UID || f.Name != b.Name || !slices.Equal(f.Next, b.Next) || f.Dead != b.Dead {
			return fmt.Errorf("broker %.128q ends at %v with %d dead letters, the manifest says %v and %d", b.Name, f.Next, f.Dead, b.Next, b.Dead)
		}
	}
	return nil
}

const block = 512

// blocks is what a file of so many bytes takes in an archive, header included.
func blocks(size int64) int64 { return block + (size+block-1)/block*block }

// header is the tar header of an entry: the same bytes whoever makes it, so
// that reading can compare instead of believing.
func header(name string, size int64, created time.Time) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: created, Format: tar.FormatUSTAR,
	})
	return b.Bytes(), err
}

// sumLine is one line of the sums, as sha256sum writes it.
func sumLine(sum []byte, name string) string {
	if sum == nil {
		sum = make([]byte, 32)
	}
	return fmt.Sprintf("%x  %s\n", sum, name)
}
