package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watch starts the file system's own reports. They make an edit count sooner,
// and spare the poll where they are complete; where they cannot be had, the poll
// does alone, so that is no error.
func (s *Source) watch() *watcher {
	w := &watcher{folders: make(map[string]os.FileInfo)}
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
	fs      *fsnotify.Watcher
	folders map[string]os.FileInfo // that are watched, as they were then
	missed  bool                   // reports have been lost
	news    bool                   // a watch is young: something may have changed before it
	sure    string                 // the outcome of a scan of which all is reported; "" for none
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
	w.news = false
	if w.fs == nil {
		return
	}
	watched := w.fs.WatchList()
	for _, path := range s.o.Paths {
		folder := folderOf(path)
		is, err := os.Stat(folder)
		was := w.folders[folder]
		switch {
		case err != nil:
			delete(w.folders, folder)
			continue
		case !slices.Contains(watched, folder):
		case was != nil && os.SameFile(is, was):
			continue
		default:
			_ = w.fs.Remove(folder) // of one that had this name
		}
		w.news = true
		if w.folders[folder] = is; w.fs.Add(folder) != nil {
			delete(w.folders, folder) // the poll sees what this does not
		}
	}
}

// folderOf is the folder of a path, or the path where it is one.
func folderOf(path string) string {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return filepath.Dir(path)
	}
	return filepath.Clean(path)
}

// complete reports whether any edit of what is in force will be reported. What
// it has found out holds for as long as neither a folder nor a file is another.
func (w *watcher) complete(s *Source) bool {
	if w.fs == nil || w.missed || w.news || s.blind() {
		w.sure = ""
		return false
	}
	if is := "of " + s.input; w.sure != is {
		w.sure = ""
		if w.examine(s) {
			w.sure = is
		}
	}
	return w.sure != ""
}

func (w *watcher) examine(s *Source) bool {
	for folder := range w.folders {
		if !reportedFolder(folder) {
			return false
		}
	}
	for _, path := range s.o.Paths {
		if w.folders[folderOf(path)] == nil {
			return false
		}
	}
	return !slices.ContainsFunc(s.order, func(path string) bool {
		folder := w.folders[filepath.Dir(path)]
		return folder == nil || !reportedFile(path, folder)
	})
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
	return slices.ContainsFunc(s.o.Paths, func(p string) bool {
		return filepath.Base(p) == base || filepath.Dir(p) == filepath.Clean(e.Name) // the folder itself is gone
	})
}
