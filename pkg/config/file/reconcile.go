package file

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// situation is what reconcile must know of the moment.
type situation struct {
	now   time.Time
	grace time.Duration

	// broken are files, by absolute path, of which there is no good version in
	// this process: what they declared when they were last good stays in force.
	broken map[string]bool

	// blind means that some file or folder cannot be read. It may declare what
	// seems to be gone, so no grace ends meanwhile.
	blind bool
}

// reconcile gives the declared objects their identities, and adds those that
// are not declared any more but not gone yet. The result is what to compile.
// The store's state is brought up to date but not saved.
func (s *store) reconcile(declared []*config.Object, at situation) []*config.Object {
	out := make([]*config.Object, 0, len(declared))
	uses := make([]config.Object, len(declared)) // at once: there may be many
	s.round++
	var in declaredIn
	for i, o := range declared {
		k := key{o.Kind, o.Namespace, o.Name, o.BrokerName()}
		id := s.byKey[k]
		if id == nil {
			id = s.create(k, o)
		}
		if id.round != s.round {
			id.round = s.round
			if file := in.file(o.File); id.Until != nil || id.File != file {
				id.Until, id.File = nil, file
				id.change()
			}
			if id.Object != o {
				// Where only its place in the file is another, that can wait for the
				// next start: one line more at the top moves all objects.
				if !sameObject(id.Object, o) || id.Object.Line != o.Line && s.round == 1 {
					id.change()
				}
				id.Object = o // where it is the same, one of the two can go
			}
		}
		use := &uses[i]
		*use = *o
		use.UID, use.CreatedChannel = id.UID, id.Channel
		out = append(out, use)
	}

	kept := s.state.Identities[:0]
	for _, id := range s.state.Identities {
		if id.round == s.round {
			kept = append(kept, id)
			continue
		}
		k := id.key()
		use := *id.Object
		use.UID, use.CreatedChannel = id.UID, id.Channel
		switch {
		case id.Until == nil && at.broken[id.File]:
			// In force as it was when its file was last good.
		case id.Until == nil:
			until := at.now.Add(at.grace).Round(0).UTC()
			id.Until = &until
			id.change()
			use.HeldUntil = until
		case at.now.Before(*id.Until) || at.blind:
			use.HeldUntil = *id.Until
		default:
			delete(s.byKey, k)
			s.state.Removed = append(s.state.Removed, config.Removed{
				Kind: k.kind, UID: id.UID, Namespace: k.namespace, Name: k.name, Broker: k.broker, At: *id.Until,
			})
			continue
		}
		kept = append(kept, id)
		out = append(out, &use)
	}
	clear(s.state.Identities[len(kept):])
	s.state.Identities = kept
	if byKey := func(a, b *identity) int { return compareKeys(a.key(), b.key()) }; !slices.IsSortedFunc(kept, byKey) {
		slices.SortStableFunc(kept, byKey)
	}
	s.forget(at.now)
	return out
}

// create makes an identity for an object not known yet.
func (s *store) create(k key, o *config.Object) *identity {
	id := &identity{UID: channel.UID(uuid.NewString()), Object: o}
	s.byKey[k] = id
	s.state.Identities = append(s.state.Identities, id)
	return id
}

// created notes which kind of channel each Broker has, from the first time
// that it is ready.
func (s *store) created(brokers []*config.Broker) {
	for _, b := range brokers {
		if id := s.byKey[key{config.KindBroker, b.Namespace, b.Name, ""}]; id != nil && b.Ready && id.Channel == "" {
			id.Channel = b.Channel
			id.change()
		}
	}
}

// forget drops the oldest of what was removed.
func (s *store) forget(now time.Time) {
	s.state.Removed = slices.DeleteFunc(s.state.Removed, func(r config.Removed) bool { return now.Sub(r.At) > removedFor })
	if over := len(s.state.Removed) - removedMost; over > 0 {
		s.state.Removed = slices.Clone(s.state.Removed[over:])
	}
}

// due reports whether some grace has ended.
func (s *store) due(now time.Time) bool {
	return slices.ContainsFunc(s.state.Identities, func(id *identity) bool { return id.Until != nil && !now.Before(*id.Until) })
}

// nextEnd is when the first grace ends, false where there is none.
func (s *store) nextEnd() (first time.Time, some bool) {
	for _, id := range s.state.Identities {
		if id.Until != nil && (!some || id.Until.Before(first)) {
			first, some = *id.Until, true
		}
	}
	return first, some
}

// sameObject compares what is stored of two objects, but for the line.
func sameObject(a, b *config.Object) bool {
	if a.Trigger != nil && a.Trigger == b.Trigger {
		return true // a document that only moved; see parser.again
	}
	x, y := *a, *b
	x.UID, x.CreatedChannel, x.HeldUntil, x.Line, x.Lines = "", "", time.Time{}, 0, nil
	y.UID, y.CreatedChannel, y.HeldUntil, y.Line, y.Lines = "", "", time.Time{}, 0, nil
	return reflect.DeepEqual(x, y)
}

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name), cmp.Compare(a.broker, b.broker))
}

// declaredIn tells the files that objects are remembered with, by absolute
// path. It remembers the last, since objects come file by file.
type declaredIn struct{ path, abs string }

func (d *declaredIn) file(path string) string {
	if path == config.BuiltIn {
		return ""
	}
	if path != d.path {
		d.path, d.abs = path, absolute(path)
	}
	return d.abs
}
