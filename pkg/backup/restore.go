package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config/file"
)

// unfinishedFolder is where an archive is unpacked, inside the data folder,
// which may be a volume of its own. While it is there the folder is not used.
const unfinishedFolder = ".restoring"

// Unfinished says why a data folder must not be used: a restore into it was
// cut short. It is nil for one that may be, and for one that is not there.
func Unfinished(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, unfinishedFolder)); err != nil {
		return nil // not there, or whoever uses the folder will hear why
	}
	return fmt.Errorf("a restore into %s was cut short: empty the folder and restore again", dir)
}

// Restored says what a restore brought back.
type Restored struct {
	Manifest *Manifest
	Brokers  []Broker // as they stand in the restored log
	Config   string   // folder with the configuration; "" if the archive has none
}

// Verify reads an archive and does nothing with it but verify it.
func Verify(r io.Reader) (*Manifest, error) {
	var ids []byte
	m, err := Read(r, func(_ *Manifest, e Entry, content io.Reader) (err error) {
		if e.Name == file.IdentityFile {
			ids, err = io.ReadAll(content)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	_, err = m.identities(ids)
	return m, err
}

// identities checks that every Broker of the log is known. A log with others
// would not be served.
func (m *Manifest) identities(data []byte) (file.Identities, error) {
	ids, err := file.ParseIdentities(data)
	if err != nil {
		return ids, fmt.Errorf("%s %w", file.IdentityFile, err)
	}
	for _, b := range m.Brokers {
		if !ids.Brokers[b.UID] && !ids.Removed[b.UID] {
			return ids, fmt.Errorf("%s does not know broker %.128q, which the log holds", file.IdentityFile, b.Name)
		}
	}
	return ids, nil
}

// Restore makes a data folder of an archive. The folder must be empty or not
// be there. Nothing gets its name in it before the whole archive is verified
// and the log in it has opened; after an error the folder is as it was. A
// crash leaves a folder that Unfinished refuses.
func Restore(ctx context.Context, r io.Reader, dir string, logger *slog.Logger) (_ *Restored, err error) {
	made, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	work := filepath.Join(dir, unfinishedFolder)
	defer func() {
		if err == nil {
			return
		}
		// The folder was empty. What cannot be removed is refused by Unfinished,
		// as long as the work folder is there: it goes last.
		for _, name := range []string{file.IdentityFile, logFolder, configFolder, unfinishedFolder} {
			if os.RemoveAll(filepath.Join(dir, name)) != nil {
				return
			}
		}
		if made {
			_ = os.Remove(dir)
		}
	}()
	out := &unpacked{ctx: ctx, dir: work}
	m, err := Read(r, out.take)
	if err == nil {
		err = out.sync()
	}
	if err != nil {
		return nil, err
	}
	brokers, err := m.open(ctx, work, logger)
	if err != nil {
		return nil, fmt.Errorf("the archive is whole, but its log does not open: %w", err)
	}
	if err := settle(dir, work); err != nil {
		return nil, err
	}
	done := &Restored{Manifest: m, Brokers: brokers}
	if out.folders[configFolder] {
		done.Config = filepath.Join(dir, strings.TrimSuffix(configFolder, "/"))
	}
	return done, nil
}

// prepare sees to it that the folder is there and empty. A volume's own
// lost+found is nobody's.
func prepare(dir string) (made bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if made, err = true, os.MkdirAll(dir, 0o700); err == nil {
			err = syncFolder(filepath.Dir(dir))
		}
	}
	if err != nil {
		return made, err
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case "lost+found":
		case unfinishedFolder:
			return false, Unfinished(dir)
		default:
			return false, fmt.Errorf("%s is not empty, %.64q is in it: name a folder that is empty or not there yet", dir, name)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, unfinishedFolder), 0o700); err != nil {
		return made, err
	}
	return made, nil
}

// unpacked writes the files of an archive below a folder.
type unpacked struct {
	ctx     context.Context
	dir     string
	folders map[string]bool
}

// take writes one file. Its name has passed Manifest.check.
func (u *unpacked) take(_ *Manifest, e Entry, content io.Reader) error {
	if folder, _, ok := strings.Cut(e.Name, "/"); ok && !u.folders[folder+"/"] {
		if u.folders == nil {
			u.folders = make(map[string]bool)
		}
		u.folders[folder+"/"] = true
		if err := os.Mkdir(filepath.Join(u.dir, folder), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(u.dir, filepath.FromSlash(e.Name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(f, interruptible{u.ctx, content}, make([]byte, 256<<10))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (u *unpacked) sync() error {
	for folder := range u.folders {
		if err := syncFolder(filepath.Join(u.dir, folder)); err != nil {
			return err
		}
	}
	return syncFolder(u.dir)
}

// interruptible ends a copy with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}

// open opens the unpacked log as a broker would, compares it with the
// manifest, and closes it in order.
func (m *Manifest) open(ctx context.Context, work string, logger *slog.Logger) (_ []Broker, err error) {
	data, err := file.ReadIdentities(work)
	if err != nil {
		return nil, err
	}
	ids, err := m.identities(data)
	if err != nil {
		return nil, err
	}
	log, err := disk.Open(filepath.Join(work, strings.TrimSuffix(logFolder, "/")), disk.Options{Logger: logger})
	if err != nil {
		return nil, err
	}
	ended, end := context.WithCancel(ctx)
	end()
	defer func() { err = errors.Join(err, log.Run(ended)) }()
	if err := m.differs(log.Summary()); err != nil {
		return nil, err
	}
	for _, b := range m.Brokers {
		// Its grace ended while the backup began. Left to a broker that starts
		// in a month, it would be in the log and known to nobody.
		if ids.Removed[b.UID] && !ids.Brokers[b.UID] {
			if err := log.Remove(ctx, b.UID); err != nil {
				return nil, err
			}
		}
	}
	var brokers []Broker
	for _, b := range log.Summary() {
		brokers = append(brokers, Broker(b))
	}
	return brokers, nil
}

// settle gives the unpacked files their names. The identities come last, and
// the folder that says that all this is not finished goes after them.
func settle(dir, work string) error {
	entries, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Name() != file.IdentityFile {
			names = append(names, e.Name())
		}
	}
	for _, name := range slices.Concat(names, []string{file.IdentityFile}) {
		if err := os.Rename(filepath.Join(work, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := syncFolder(dir); err != nil {
		return err
	}
	if err := os.Remove(work); err != nil {
		return err
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
