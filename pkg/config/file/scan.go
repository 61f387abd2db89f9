package file

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

// file is what is known of one file.
type file struct {
	path string // as shown
	abs  string // as compared across restarts

	stamp stamp    // of the bytes read last
	sum   [32]byte // of the bytes read last
	seen  time.Time

	good    *contents // last good version; nil if there has been none in this process
	edition int       // counts good versions, over all files
	denied  error     // why it could not be read the last time
	fault   string    // why what was read last is no good, "" if it is
	origin  string    // where in the file, with fault
	blank   time.Time // since when it is empty that was not
}

// stamp tells cheaply that a file is not what it was.
type stamp struct {
	modified time.Time
	size     int64
	info     os.FileInfo // identity of the file, behind any links
}

func (a stamp) same(b stamp) bool {
	return a.info != nil && b.info != nil && a.modified.Equal(b.modified) && a.size == b.size && os.SameFile(a.info, b.info)
}

// racy is how young a file's time may be for an edit to hide behind it: file
// systems count in up to two seconds.
const racy = 2 * time.Second

// scan looks at all paths and reads what changed. The error is that of a path
// the user named and is there for the start; while running, what cannot be
// looked at stays as it was.
func (s *Source) scan() (err error) {
	s.scanProblems = nil
	var order []string
	named := make(map[string]bool)
	add := func(path string) {
		abs := absolute(path)
		if named[abs] {
			return // named twice, or named and in a folder that is named
		}
		named[abs] = true
		order = append(order, path)
		f := s.files[path]
		if f == nil {
			f = &file{path: path, abs: abs}
			s.files[path] = f
		}
		s.read(f)
	}
	for _, path := range s.o.Paths {
		paths, e := expand(path)
		if e != nil {
			err = cmp.Or(err, e)
			paths = s.within(path)
			if !slices.Contains(paths, path) { // read tells of a file
				s.scanProblems = append(s.scanProblems, config.Problem{Origin: path, Message: cause(e) + staysInForce})
			}
		}
		for _, p := range paths {
			if len(order) >= MaxFiles {
				s.scanProblems = append(s.scanProblems, config.Problem{Origin: path, Message: fmt.Sprintf("more than %d files: the others are not read: put several objects into one", MaxFiles)})
				break
			}
			add(p)
			if f := s.files[p]; p == path && f != nil {
				err = cmp.Or(err, f.denied)
			}
		}
	}
	if len(s.files) > len(order) {
		maps.DeleteFunc(s.files, func(path string, _ *file) bool { return !slices.Contains(order, path) })
	}
	s.order = order
	return err
}

// expand is the files that one path of the user's stands for, in order of name.
func expand(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("read %s: is neither a file nor a folder: name one that is", path)
		}
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !isYAML(e.Name()) {
			continue
		}
		p := filepath.Join(path, e.Name())
		// A link is judged by what it leads to; a dangling one is told by read.
		if info, err := os.Stat(p); err == nil && !info.Mode().IsRegular() {
			continue
		}
		out = append(out, p)
	}
	return out, nil
}

func isYAML(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// within is what the last scan found for a path.
func (s *Source) within(path string) []string {
	var out []string
	for _, p := range s.order {
		if p == path || filepath.Dir(p) == filepath.Clean(path) {
			out = append(out, p)
		}
	}
	return out
}

// read brings one file up to date.
func (s *Source) read(f *file) {
	now := s.o.Now()
	info, err := os.Stat(f.path)
	if err != nil {
		f.unreadable(pathError(f.path, err))
		return
	}
	at := stamp{modified: info.ModTime(), size: info.Size(), info: info}
	if f.stamp.same(at) && f.blank.IsZero() && f.seen.Sub(at.modified) > racy {
		return
	}
	data, err := readBounded(f.path)
	if err != nil {
		f.unreadable(err)
		return
	}
	sum := sha256.Sum256(data)
	known := f.stamp.info != nil && sum == f.sum
	f.stamp, f.seen, f.denied = at, now, nil
	if known && f.blank.IsZero() {
		return
	}
	if len(bytes.TrimSpace(data)) == 0 && f.good != nil && len(f.good.objects) > 0 {
		if f.blank.IsZero() {
			f.blank = now
		}
		if now.Sub(f.blank) < blankSettle {
			return
		}
	}
	f.blank, f.sum = time.Time{}, sum
	good, err := parse(f.path, data, f.good)
	if err != nil {
		f.fail(err)
		return
	}
	s.editions++
	f.good, f.edition, f.fault, f.origin = good, s.editions, "", ""
}

// unreadable forgets the stamp, so that the file is read as soon as it can be.
func (f *file) unreadable(err error) {
	f.stamp, f.sum, f.denied = stamp{}, [32]byte{}, err
	f.fail(err)
}

func (f *file) fail(err error) {
	f.blank = time.Time{}
	f.origin, f.fault = f.path, cause(err)
	// A syntax error begins with its place.
	if rest, ok := strings.CutPrefix(err.Error(), f.path+":"); ok {
		if line, text, ok := strings.Cut(rest, ": "); ok && line != "" && strings.Trim(line, "0123456789") == "" {
			f.origin, f.fault = f.path+":"+line, text
		} else {
			f.fault = strings.TrimPrefix(rest, " ")
		}
	}
}

// readBounded reads a file of at most MaxFileBytes; of a longer one it reads
// enough to be refused by parse.
func readBounded(path string) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	defer in.Close()
	var data bytes.Buffer
	if info, err := in.Stat(); err == nil {
		data.Grow(int(min(info.Size(), MaxFileBytes)) + bytes.MinRead)
	}
	if _, err := data.ReadFrom(io.LimitReader(in, MaxFileBytes+1)); err != nil {
		return nil, pathError(path, err)
	}
	return data.Bytes(), nil
}

// pathError says what is wrong with a path and what to do.
func pathError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read %s: there is no such file or folder: check the path", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("read %s: permission denied: make it readable for the user who runs penstock", path)
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// cause is an error's text without the path in front, which a Problem names itself.
func cause(err error) string {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "read "); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			return after
		}
	}
	return text
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}
