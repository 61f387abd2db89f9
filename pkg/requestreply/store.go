// Package requestreply keeps the keys of Knative's RequestReply objects, by
// which a Trigger of theirs knows their replies: the filter.Keys of
// KN_VERIFY_CORRELATION_ID.
//
// The keys are read from files, as a Secret that is mounted into the pod has
// them: the process needs no right to read Secrets. They are read again while
// Run runs, so that a key that is added, changed or removed is in force within
// Every of the mount's change. A key that is not there verifies nothing.
//
// It promises that what cannot be read leaves the keys as they were, that no
// file makes it hold more than its bounds, and that a key is never logged. It
// does not make keys: Knative's controller does.
package requestreply

import (
	"context"
	"crypto/cipher"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Bounds. What is beyond one is not read, and said in the log once.
const (
	// MaxSecrets is how many folders are looked into.
	MaxSecrets = 64
	// MaxFiles is how many keys one Secret may have: with keys of 32 bytes, more
	// than fit into the 1 MiB that Kubernetes gives it.
	MaxFiles = 16384
	// MaxKeys is how many keys of one RequestReply are tried: those whose names
	// come last, since Knative counts them up.
	MaxKeys = 16
)

// Options of a Store. Dir is needed.
type Options struct {
	// Dir has a folder for each Secret, of its name, and in it a file for each
	// key: NAMESPACE.NAME.KEY, of 16, 24 or 32 bytes, where NAMESPACE and NAME are
	// the RequestReply's. So it is where a Secret is mounted at Dir/NAME. A
	// folder that is not there holds no keys.
	Dir string

	// Every is how long a change of the files may go unnoticed; 0 is 5 s.
	Every time.Duration

	Logger *slog.Logger // nil: slog.Default()
}

// Store holds the keys. Ciphers may be called by any number of goroutines at
// any time; Run once.
type Store struct {
	o    Options
	keys atomic.Pointer[keys]
	seen map[string]folder // by Secret, of the last look; Open's and then Run's
	said map[string]bool   // what the log has been told and still holds
}

// keys are those of each RequestReply.
type keys map[owner][]cipher.AEAD

type owner struct{ secret, namespace, name string }

// Open reads the keys there are. It never fails: what is wrong is in the log,
// and may be put right while Run runs.
func Open(o Options) *Store {
	if o.Every <= 0 {
		o.Every = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Store{o: o, seen: make(map[string]folder)}
	s.look()
	return s
}

// Run reads the keys again and again until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(s.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.look()
		}
	}
}

// Ciphers makes a Store a filter.Keys.
func (s *Store) Ciphers(secret, namespace, name string) []cipher.AEAD {
	return (*s.keys.Load())[owner{secret, namespace, name}]
}

// look puts the keys in force that the files have now.
func (s *Store) look() {
	var trouble []string
	folders, err := s.folders(&trouble)
	if err != nil {
		trouble, folders = append(trouble, err.Error()), slices.Collect(maps.Keys(s.seen))
	}
	seen := make(map[string]folder, len(folders))
	for _, secret := range folders {
		f, err := s.read(secret)
		if err != nil {
			f = s.seen[secret] // as it was
			trouble = append(trouble, "Secret "+secret+": "+err.Error())
		}
		seen[secret] = f
		trouble = append(trouble, f.trouble...)
	}
	s.seen = seen
	all := make(keys)
	for _, f := range seen {
		maps.Copy(all, f.keys)
	}
	s.keys.Store(&all)
	s.tell(trouble)
}

// tell logs what has not been said before, and forgets what is over.
func (s *Store) tell(trouble []string) {
	said := make(map[string]bool, len(trouble))
	for _, what := range trouble {
		if !s.said[what] && !said[what] {
			s.o.Logger.Warn("keys of a RequestReply cannot be used", "dir", s.o.Dir, "err", what)
		}
		said[what] = true
	}
	s.said = said
}
