package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watch starts the file system's own reports. They make an edit count sooner;
// where they cannot be had, the poll does alone, so that is no error.
func (s *Source) watch() *watcher {
	w := &watcher{}
	if s.notify && len(s.o.Paths) > 0 {
		var err error
		if w.fs, err = fsnotify.NewWatcher(); err != nil {
			s.o.Logger.Warn("configuration cannot be watched, it is looked at twice a second instead", "error", err)
		}
	}
	w.add(s)
	return w
}

// watcher is an fsnotify.Watcher that may be absent.
type watcher struct {
	fs *fsnotify.Watcher
}

func (w *watcher) events() <-chan fsnotify.Event {
	if w.fs == nil {
		return nil
	}
	return w.fs.Events
}

func (w *watcher) errors() <-chan error {
	if w.fs == nil {
		return nil
	}
	return w.fs.Errors
}

func (w *watcher) close() {
	if w.fs != nil {
		w.fs.Close()
	}
}

// add watches the folders in which the files stand, not the files: editors
// replace a file by another, and a watch would stay with the one that is gone.
// A folder that was itself replaced is watched again this way.
func (w *watcher) add(s *Source) {
	if w.fs == nil {
		return
	}
	for _, path := range s.o.Paths {
		folder := path
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			folder = filepath.Dir(path)
		}
		if !slices.Contains(w.fs.WatchList(), filepath.Clean(folder)) {
			_ = w.fs.Add(folder) // the poll sees what this does not
		}
	}
}

// concerns keeps what other programs do in the same folder from being looked at.
func (s *Source) concerns(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false // indexers and backups; that a file became readable is seen by the poll
	}
	base := filepath.Base(e.Name)
	// Kubernetes swaps a mounted ConfigMap by the link ..data beside its files.
	if isYAML(base) || strings.HasPrefix(base, "..") {
		return true
	}
	return slices.ContainsFunc(s.o.Paths, func(p string) bool { return filepath.Base(p) == base })
}
