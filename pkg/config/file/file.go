// Package file reads Brokers and Triggers from YAML files and folders, keeps
// an eye on them, and hands out a new config.Snapshot whenever something in
// them changed, within a second of the edit. (Where a folder further up than
// those that were named is replaced by another, within ten.) It sleeps where the
// kernel reports every edit, which it does of local file systems on Linux; what
// it may not see is looked at twice a second: files of a network or of the host
// of a virtual machine, those behind links, and what could not be read.
//
// It promises that a file which cannot be read or parsed keeps its last good
// version in force, across a restart too; that an object has the same identity
// for life; and that one which disappears is held for a grace before it is
// gone for good. An edit costs what it changes: a document whose bytes are those
// of the last version is not read again, wherever it stands. It does not judge objects (package config does) and opens no
// storage.
//
// A Source belongs to one goroutine: Load once, then Run.
package file

import (
	"log/slog"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

const (
	// DefaultGrace is how long an object that was removed is held.
	DefaultGrace = 10 * time.Minute

	// MaxFileBytes bounds one file.
	MaxFileBytes = 10 << 20

	// MaxFiles bounds how many files all paths together may name.
	MaxFiles = 10_000

	// A change is looked at once nothing has moved for settle, or after maxSettle
	// at the latest. Some editors empty a file before they write it: one that has
	// just become empty gets blankSettle to be filled again.
	settle      = 50 * time.Millisecond
	maxSettle   = 250 * time.Millisecond
	blankSettle = 300 * time.Millisecond

	// poll finds what the file system does not report. With settle it keeps the
	// promise of a second.
	poll = 500 * time.Millisecond

	// slowPoll is the same where the file system reports every edit there is:
	// what remains is a folder further up that is replaced by another, and a
	// program that writes through a mapping of the file.
	slowPoll = 10 * time.Second

	// graceLook is how often the clock is looked at while a grace lasts: it may be set.
	graceLook = time.Minute
)

// Options say what to read. The zero value reads nothing and declares the one
// Broker that always exists, default/default.
type Options struct {
	// Paths are files, read whatever their name, and folders, of which .yaml,
	// .yml and .json files are read that are not hidden. Folders inside folders
	// are not looked into.
	Paths []string

	// Dir is where identities are kept, in identities.json. "" keeps them in
	// memory: each start then has new ones.
	Dir string

	// Compile is passed on to config.Compile. Generation, Previous, Problems and
	// Removed are filled in here.
	Compile config.Options

	Grace  time.Duration    // 0 is DefaultGrace
	Logger *slog.Logger     // nil is silent
	Now    func() time.Time // wall clock; nil is time.Now
}

// Source is the state between two looks at the files.
type Source struct {
	o        Options
	files    map[string]*file // by path as shown
	order    []string         // paths of the last scan, in order
	editions int
	store    *store

	scanProblems []config.Problem // of the last scan
	last         *config.Snapshot
	input        string // what last was compiled from
	logged       map[config.Problem]bool
	unsaved      bool // the last attempt to keep the identities went wrong

	notify bool // false in tests whose clock is virtual
}

// New makes a Source. It does not touch the file system.
func New(o Options) *Source {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Source{o: o, files: make(map[string]*file), logged: make(map[config.Problem]bool), notify: true}
}
