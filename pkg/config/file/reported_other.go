//go:build !linux

package file

import "os"

// What other systems report of an edit differs too much to be relied on.
func reportedFolder(string) bool { return false }

func reportedFile(string, os.FileInfo) bool { return false }
