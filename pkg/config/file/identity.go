package file

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

const (
	identityFile    = "identities.json"
	identityVersion = 1

	// What was removed is told for so long, and at most so many times over, so
	// that a crash between telling and acting does not leave storage behind.
	removedFor  = 7 * 24 * time.Hour
	removedMost = 10_000
)

// key is what an object's identity hangs on. A Trigger's Broker belongs to it:
// what it has pending there has no meaning anywhere else.
type key struct{ kind, namespace, name, broker string }

// identity is what is remembered of one object.
type identity struct {
	UID     channel.UID    `json:"uid"`
	Channel string         `json:"channel,omitempty"` // of a Broker: the kind it was created with
	File    string         `json:"file,omitempty"`    // absolute
	Until   *time.Time     `json:"until,omitempty"`   // end of its grace, if it is gone from the files
	Object  *config.Object `json:"object"`            // as last seen

	stored span // where it stands in the stored state; zero once it has changed
	round  int  // of reconcile, in which it was declared last
}

// span is a part of the stored state.
type span struct{ from, to uint32 }

func (s span) of(raw []byte) []byte { return raw[s.from:s.to] }

// change notes that what is stored is no longer true.
func (i *identity) change() { i.stored = span{} }

func (i *identity) key() key {
	o := i.Object
	return key{o.Kind, o.Namespace, o.Name, o.BrokerName()}
}

// state is what identities.json holds. The whole objects are in it, because a
// Trigger that is held must keep matching, and a file that cannot be parsed
// must keep its last good version, after a restart as before.
type state struct {
	Identities []*identity      `json:"identities"`
	Removed    []config.Removed `json:"removed,omitempty"`
}

// envelope protects a state against what can happen to a file.
type envelope struct {
	About   string          `json:"about"`
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"` // of State, as it stands here
	State   json.RawMessage `json:"state,omitempty"`
}

// store keeps the state in a folder, or in memory where dir is "".
type store struct {
	dir   string
	state state
	byKey map[key]*identity
	round int
	sum   string // of the state as it is on disk; "" for none
}

// openStore reads what an earlier run left behind. declared are objects of
// which some are likely to be in it: those are not decoded again. It may be nil.
func openStore(dir string, declared []*config.Object) (*store, error) {
	s := &store{dir: dir, byKey: make(map[key]*identity)}
	if dir == "" {
		return s, nil
	}
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, pathError(path, err)
	}
	raw, sum, err := open(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if s.state, err = decodeState(raw, declared); err != nil {
		return nil, fmt.Errorf("read %s: %w: restore it from a backup", path, err)
	}
	for _, i := range s.state.Identities {
		if i == nil || i.Object == nil || i.UID == "" || (i.Object.Broker == nil) == (i.Object.Trigger == nil) {
			return nil, fmt.Errorf("read %s: an identity is not whole: restore the file from a backup", path)
		}
		s.byKey[i.key()] = i
	}
	s.sum = sum
	return s, nil
}

// open checks an envelope and returns the state inside, compact, and its sum.
func open(data []byte) (raw []byte, sum string, err error) {
	const damaged = "is damaged: restore it from a backup: without it stored events belong to nobody"
	if raw, sum, ok := asWritten(data); ok {
		return raw, sum, nil
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, "", errors.New(damaged)
	}
	if e.Version > identityVersion {
		return nil, "", fmt.Errorf("has version %d, this penstock reads up to %d: use a newer one", e.Version, identityVersion)
	}
	var compact bytes.Buffer
	if e.Version < 1 || json.Compact(&compact, e.State) != nil || checksum(compact.Bytes()) != e.SHA256 {
		return nil, "", errors.New(damaged)
	}
	return compact.Bytes(), e.SHA256, nil
}

// asWritten opens an envelope that stands byte for byte as save writes it.
func asWritten(data []byte) (raw []byte, sum string, ok bool) {
	head, rest, ok := bytes.Cut(data, []byte(stateField))
	if !ok {
		return nil, "", false
	}
	var e envelope
	if json.Unmarshal(append(slices.Clone(head), '}'), &e) != nil || e.Version != identityVersion {
		return nil, "", false
	}
	raw, ok = bytes.CutSuffix(rest, []byte(envelopeEnd))
	if !ok || checksum(raw) != e.SHA256 {
		return nil, "", false
	}
	return raw, e.SHA256, true
}

const (
	stateField  = `,"state":`
	envelopeEnd = "}\n"
)

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// save makes the state durable. It must return before a new identity is used:
// events stored under one that is lost would belong to nobody.
func (s *store) save() error {
	if s.dir == "" {
		return nil
	}
	raw, spans, err := s.encode()
	if err != nil {
		return fmt.Errorf("keep identities: %w", err)
	}
	sum := checksum(raw)
	if sum != s.sum {
		head, err := json.Marshal(envelope{
			About:   "Identities of the Brokers and Triggers of this Penstock. Do not edit.",
			Version: identityVersion,
			SHA256:  sum,
		})
		if err != nil {
			return fmt.Errorf("keep identities: %w", err)
		}
		if err := replace(s.dir, identityFile, bytes.TrimSuffix(head, []byte("}")), []byte(stateField), raw, []byte(envelopeEnd)); err != nil {
			return fmt.Errorf("keep identities: %w", err)
		}
	}
	s.sum = sum
	for i, id := range s.state.Identities {
		id.stored = spans[i]
	}
	return nil
}

// replace writes a file so that after a crash there is either the old or the
// new one, whole.
func replace(dir, name string, parts ...[]byte) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+name+".*") // created 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	for _, part := range parts {
		if _, err := tmp.Write(part); err != nil {
			return err
		}
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
