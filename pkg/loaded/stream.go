package loaded

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// typesEvery is how often new types are told, MaxLineTypes at a time: a
// producer that makes a new type for each event is no load on the controller.
// What waits for too long is forgotten, and told when it is seen again.
const typesEvery = 200 * time.Millisecond

// stream is one reader's. It belongs to one goroutine.
type stream struct {
	b     *Board
	conn  *http.ResponseController
	out   *bufio.Writer
	told  map[channel.UID]string // what the reader knows; nil: nothing is whole
	types bool
	mark  uint64 // of the types that have been told
}

func newStream(b *Board, w http.ResponseWriter, types bool) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &stream{b: b, conn: http.NewResponseController(w), out: bufio.NewWriterSize(w, 16<<10), types: types}
}

// run writes until the reader goes (nil), the Board closes (nil), or a write
// takes too long.
func (s *stream) run(ctx context.Context) error {
	_ = s.conn.SetReadDeadline(time.Time{}) // passing it would end the request
	if err := s.write(line{Reset: true}); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	heartbeat := time.NewTicker(s.b.o.Heartbeat)
	defer heartbeat.Stop()
	var types <-chan time.Time
	if s.types {
		ticker := time.NewTicker(typesEvery)
		defer ticker.Stop()
		types = ticker.C
	}
	for {
		now, changed := s.b.state()
		wrote, err := s.tell(now)
		if err == nil && wrote {
			heartbeat.Reset(s.b.o.Heartbeat)
			err = s.flush()
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.b.closing:
			return nil
		case <-changed:
			continue
		case <-types:
			var fresh []Type
			if fresh, s.mark = s.b.types.since(s.mark, MaxLineTypes); len(fresh) == 0 {
				continue
			}
			err = s.write(line{Types: fresh})
		case <-heartbeat.C:
			err = s.write(line{})
		}
		if err == nil {
			err = s.flush()
		}
		if err != nil {
			return err
		}
	}
}

// tell writes how what is in force now differs from what the reader knows.
func (s *stream) tell(now map[channel.UID]string) (wrote bool, err error) {
	if now == nil {
		return false, nil
	}
	var l line
	put := func() error {
		wrote = true
		err := s.write(l)
		l = line{}
		return err
	}
	for uid, version := range now {
		if s.told[uid] == version {
			continue
		}
		if l.Set == nil {
			l.Set = make(map[channel.UID]string)
		}
		if l.Set[uid] = version; len(l.Set) == MaxEntries {
			if err := put(); err != nil {
				return wrote, err
			}
		}
	}
	for uid := range s.told {
		if _, still := now[uid]; still {
			continue
		}
		if l.Unset = append(l.Unset, uid); len(l.Unset) == MaxEntries {
			if err := put(); err != nil {
				return wrote, err
			}
		}
	}
	first := s.told == nil
	s.told = now
	if l.Whole = first; first || len(l.Set)+len(l.Unset) > 0 {
		slices.Sort(l.Unset)
		return true, put()
	}
	return wrote, nil
}

func (s *stream) write(l line) error {
	// Not every ResponseWriter has deadlines; those of connections do.
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.b.o.Timeout))
	return writeLine(s.out, l)
}

func (s *stream) flush() error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.conn.Flush()
}
