package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Options say what goes into an archive beside the log.
type Options struct {
	Dir     string   // the data folder; its identities.json is read
	Files   []string // -f of the broker
	Resolve []string // --resolve of the broker
	Rate    int64    // bytes a second; 0 is as fast as it goes
}

// Archive is a backup that is about to be written. While it is open the log
// removes none of the files in it.
type Archive struct {
	Manifest *Manifest

	cut        *disk.Backup
	manifest   []byte
	identities []byte
	config     []file.Original
	rate       int64
}

// New takes the cut: what was acknowledged before the call is in the archive.
// The caller must Close it. Errors are those of disk.Log.Backup, and of
// reading the identities.
func New(ctx context.Context, log *disk.Log, o Options) (*Archive, error) {
	cut, err := log.Backup(ctx)
	if err != nil {
		return nil, err
	}
	a := &Archive{cut: cut, rate: o.Rate}
	// After the cut: an identity is durable before its Broker's first record,
	// so that every Broker in the cut is known to these.
	if a.identities, err = file.ReadIdentities(o.Dir); err != nil {
		a.Close()
		return nil, err
	}
	m := &Manifest{
		Format: Format, Penstock: version(), Created: cut.Time.UTC().Truncate(time.Second),
		Store: cut.Store, LSN: cut.LSN, Brokers: []Broker{}, Resolve: o.Resolve,
	}
	for _, b := range cut.Brokers {
		m.Brokers = append(m.Brokers, Broker(b))
	}
	for _, f := range cut.Files {
		m.Contents = append(m.Contents, Entry{Name: logFolder + f.Name, Size: f.Size})
	}
	m.Contents = append(m.Contents, Entry{Name: file.IdentityFile, Size: int64(len(a.identities))})
	var missing []error
	a.config, missing = file.Originals(o.Files, maxConfig)
	for i, f := range a.config {
		m.Contents = append(m.Contents, Entry{Name: configEntry(i, f.Path), Size: int64(len(f.Data)), Origin: strings.ToValidUTF8(f.Path, "?")})
	}
	for _, err := range missing {
		m.Notes = append(m.Notes, "configuration is missing: "+strings.ToValidUTF8(err.Error(), "?"))
	}
	a.Manifest = m
	if _, err = m.identities(a.identities); err == nil { // here, not in a year
		a.manifest, err = m.encode()
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// version is this program's.
func version() string {
	version, revision := telemetry.Build()
	return version + " (" + revision[:min(12, len(revision))] + ")"
}

// configEntry names a file of configuration: in the order of the files, and
// so that a folder of them reads as one.
func configEntry(i int, path string) string {
	base := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '_'
	}, filepath.Base(path))
	if base = strings.TrimLeft(base, ".-"); base == "" {
		base = "config"
	}
	switch ext := strings.ToLower(filepath.Ext(base)); ext {
	case ".yaml", ".yml", ".json":
		base = base[:min(len(base)-len(ext), 59)] + ext
	default:
		base = base[:min(len(base), 59)] + ".yaml"
	}
	return fmt.Sprintf("%s%05d-%s", configFolder, i+1, base)
}

// Bytes is how long the archive will be.
func (a *Archive) Bytes() int64 {
	n, err := a.Manifest.Bytes()
	if err != nil {
		return -1 // cannot be: it was encoded before
	}
	return n
}

// Close ends the hold on the log's files. It may be called more than once.
func (a *Archive) Close() { a.cut.Close() }

// Write writes the archive. After an error what was written is refused by
// Read: where the log could not be copied it ends with the reason, else it
// just ends.
func (a *Archive) Write(ctx context.Context, w io.Writer) error {
	out := &outlet{ctx: ctx, w: w}
	if a.rate > 0 {
		out.limit = rate.NewLimiter(rate.Limit(a.rate), int(min(a.rate, 1<<20)))
	}
	t := &tarball{out: out, created: a.Manifest.Created}
	err := t.add(manifestName, int64(len(a.manifest)), func(w io.Writer) error { return put(w, a.manifest) })
	for i, e := range a.Manifest.Contents {
		if err != nil {
			break
		}
		err = t.add(e.Name, e.Size, func(w io.Writer) error { return a.content(ctx, w, i) })
	}
	if err == nil {
		return t.end()
	}
	if out.err == nil && ctx.Err() == nil && !errors.Is(err, channel.ErrClosed) {
		t.fail(err)
	}
	return err
}

// content writes one file of the archive.
func (a *Archive) content(ctx context.Context, w io.Writer, i int) error {
	if i < len(a.cut.Files) {
		return a.cut.Write(ctx, w, i)
	}
	if i -= len(a.cut.Files); i == 0 {
		return put(w, a.identities)
	}
	return put(w, a.config[i-1].Data)
}

func put(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// tarball writes entries and remembers their sums.
type tarball struct {
	out     *outlet
	created time.Time
	sums    strings.Builder
	size    int64 // of the entry that is being written
	left    int64 // of these bytes, what has not been written yet
}

func (t *tarball) add(name string, size int64, content func(io.Writer) error) error {
	if err := t.header(name, size); err != nil {
		return err
	}
	sum := sha256.New()
	if err := content(io.MultiWriter(t, sum)); err != nil {
		return err
	}
	if t.left != 0 {
		return fmt.Errorf("%s is %d bytes shorter than it was", name, t.left)
	}
	t.sums.WriteString(sumLine(sum.Sum(nil), name))
	return t.pad(size)
}

func (t *tarball) header(name string, size int64) error {
	h, err := header(name, size, t.created)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.size, t.left = size, size
	return put(t.out, h)
}

// Write takes the content of the entry.
func (t *tarball) Write(p []byte) (int, error) {
	if int64(len(p)) > t.left {
		return 0, errors.New("a file has grown while it was copied")
	}
	n, err := t.out.Write(p)
	t.left -= int64(n)
	return n, err
}

func (t *tarball) pad(size int64) error {
	return put(t.out, make([]byte, (block-size%block)%block))
}

// end writes the sums and the end of the archive.
func (t *tarball) end() error {
	sums := []byte(t.sums.String())
	err := t.header(sumsName, int64(len(sums)))
	if err == nil {
		err = put(t.out, sums)
	}
	if err == nil {
		err = t.pad(int64(len(sums)))
	}
	if err == nil {
		err = put(t.out, make([]byte, 2*block))
	}
	return err
}

// fail fills up the entry that went wrong and says why in another, so that
// whoever has only the archive knows too. Where that cannot be written either
// the archive just ends, which is refused as well.
func (t *tarball) fail(cause error) {
	t.out.limit = nil
	zeros := make([]byte, 64<<10)
	for t.left > 0 {
		if _, err := t.Write(zeros[:min(t.left, int64(len(zeros)))]); err != nil {
			return
		}
	}
	text := []byte(cause.Error())
	text = text[:min(len(text), maxFailure)]
	if t.pad(t.size) == nil && t.header(failureName, int64(len(text))) == nil && put(t.out, text) == nil {
		_ = t.pad(int64(len(text)))
	}
}

// outlet is where an archive goes, at most so fast.
type outlet struct {
	ctx   context.Context
	w     io.Writer
	limit *rate.Limiter
	err   error // the first of writing
}

func (o *outlet) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		part := p
		if o.limit != nil {
			part = p[:min(len(p), o.limit.Burst())]
			if err = o.limit.WaitN(o.ctx, len(part)); err != nil {
				break
			}
		}
		var k int
		k, err = o.w.Write(part)
		n, p = n+k, p[k:]
	}
	if err != nil {
		o.err = err
	}
	return n, err
}
