package file

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/penstock-events/penstock/pkg/config"
)

// With many objects nearly all of the state is what it was at the last save,
// or the last run. So what did not change is copied as it stands in the file,
// and an object that is declared as it is stored is not decoded.

const (
	identitiesHead = `{"identities":[`
	objectField    = `,"object":`
	removedField   = `,"removed":`
)

// encode is the state as JSON, and where in it each identity stands.
func (s *store) encode() ([]byte, []span, error) {
	old := s.onDisk()
	const usual = 512 // bytes of an identity
	var raw bytes.Buffer
	raw.Grow(max(len(old), usual*len(s.state.Identities)) + 4*usual)
	enc := json.NewEncoder(&raw)
	encode := func(v any) error {
		err := enc.Encode(v)
		raw.Truncate(raw.Len() - 1) // its line end; after an error it is all thrown away
		return err
	}
	raw.WriteString(identitiesHead)
	spans := make([]span, len(s.state.Identities))
	for i, id := range s.state.Identities {
		if i > 0 {
			raw.WriteByte(',')
		}
		from := raw.Len()
		if old != nil && id.stored != (span{}) {
			raw.Write(id.stored.of(old))
		} else if err := encode(id); err != nil {
			return nil, nil, err
		}
		spans[i] = span{uint32(from), uint32(raw.Len())}
	}
	raw.WriteByte(']')
	if len(s.state.Removed) > 0 {
		raw.WriteString(removedField)
		if err := encode(s.state.Removed); err != nil {
			return nil, nil, err
		}
	}
	raw.WriteByte('}')
	return raw.Bytes(), spans, nil
}

// onDisk is the state as it was saved last; nil where the file does not hold
// that, byte for byte: nothing may then be copied from it.
func (s *store) onDisk() []byte {
	if s.sum == "" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(s.dir, identityFile))
	if err != nil {
		return nil
	}
	if raw, sum, ok := asWritten(data); ok && sum == s.sum {
		return raw
	}
	return nil
}

// decodeState reads a compact state. An object that is declared as it is
// stored is the declared one.
func decodeState(raw []byte, declared []*config.Object) (state, error) {
	if s, ok := splitState(raw, declared); ok {
		return s, nil
	}
	var s state
	err := json.Unmarshal(raw, &s)
	return s, err
}

// splitState reads a state that stands as encode writes it. What it takes for
// the parts of one is decoded by itself or found to be what some declared object
// would be; so a state that is otherwise is not ok, rather than misread.
func splitState(raw []byte, declared []*config.Object) (s state, ok bool) {
	rest, ok := bytes.CutPrefix(raw, []byte(identitiesHead))
	if !ok {
		return s, false
	}
	known := encoded(declared)
	for !bytes.HasPrefix(rest, []byte{']'}) {
		from := len(raw) - len(rest)
		size := objectEnd(rest)
		if size == 0 {
			return s, false
		}
		id, err := decodeIdentity(rest[:size], known)
		if err != nil {
			return s, false
		}
		id.stored = span{uint32(from), uint32(from + size)}
		s.Identities = append(s.Identities, id)
		rest = bytes.TrimPrefix(rest[size:], []byte{','})
	}
	rest = rest[1:]
	if removed, ok := bytes.CutPrefix(rest, []byte(removedField)); ok {
		removed, ok = bytes.CutSuffix(removed, []byte{'}'})
		return s, ok && json.Unmarshal(removed, &s.Removed) == nil
	}
	return s, string(rest) == "}"
}

// encoded finds objects by how they are stored.
func encoded(objects []*config.Object) map[[sha256.Size]byte]*config.Object {
	known := make(map[[sha256.Size]byte]*config.Object, len(objects))
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for _, o := range objects {
		buf.Reset()
		if enc.Encode(o) == nil {
			known[sha256.Sum256(bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}))] = o
		}
	}
	return known
}

func decodeIdentity(text []byte, known map[[sha256.Size]byte]*config.Object) (*identity, error) {
	id := new(identity)
	// A quote inside a string has a backslash before it, so that what looks like
	// the field is the field: those before it hold no objects.
	if head, object, ok := bytes.Cut(text, []byte(objectField)); ok {
		object = object[:len(object)-1]
		if o := known[sha256.Sum256(object)]; o != nil {
			err := json.Unmarshal(append(head[:len(head):len(head)], '}'), id)
			id.Object = o
			return id, err
		}
	}
	return id, json.Unmarshal(text, id)
}

// objectEnd is how long the JSON object is that text begins with; 0 if it has
// no end. What is inside need not be JSON.
func objectEnd(text []byte) int {
	if len(text) == 0 || text[0] != '{' {
		return 0
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
	}
	return 0
}
