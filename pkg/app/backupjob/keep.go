package backupjob

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/penstock-events/penstock/pkg/backup"
)

const (
	// stampLayout sorts as time does and has no character that a file system minds.
	stampLayout  = "20060102T150405Z"
	stampPattern = `-\d{8}T\d{6}Z`
	extension    = ".tar"
)

func archivePath(dir, name, stamp string) string {
	return filepath.Join(dir, name+"-"+stamp+extension)
}

// backups are the files in dir that are backups of one dispatcher and have
// this ending, oldest first.
func backups(dir, name, ending string) ([]string, error) {
	mine := regexp.MustCompile("^" + regexp.QuoteMeta(name) + stampPattern + regexp.QuoteMeta(ending) + "$")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.Type().IsRegular() && mine.MatchString(e.Name()) {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(all)
	return all, nil
}

// removeUnfinished removes what killed jobs have left of a dispatcher.
func removeUnfinished(dir, name string) error {
	all, err := backups(dir, name, extension+backup.Unsaved)
	for _, path := range all {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// removeOld keeps the newest backups of a dispatcher; keep 0 keeps all.
func removeOld(dir, name string, keep int) error {
	if keep == 0 {
		return nil
	}
	all, err := backups(dir, name, extension)
	for i := 0; i < len(all)-keep; i++ {
		err = errors.Join(err, os.Remove(all[i]))
	}
	return err
}
