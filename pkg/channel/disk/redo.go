package disk

import (
	"fmt"

	"github.com/penstock-events/penstock/pkg/channel"
)

// redo enters a frame in the active segment's index, and in the state if the
// checkpoint does not cover it.
func (l *Log) redo(f *scanned, base, covered uint64) error {
	fresh := base+uint64(f.off) >= covered
	l.lastTime = max(l.lastTime, f.time)
	if f.epoch < l.epoch && fresh {
		return fmt.Errorf("owner epoch %d after %d", f.epoch, l.epoch)
	}
	if fresh {
		l.epoch = f.epoch
	}
	switch f.kind {
	case kindEvent, kindDead:
		return l.redoRecord(f, fresh)
	case kindWatermark, kindOpen, kindFooter:
		return nil
	case kindBroker:
		d := decoder{rest: f.payload}
		info, first := getInfo(&d)
		if d.err != nil {
			return d.err
		}
		if fresh {
			if b := l.broker(info.UID); b != nil {
				b.set(info)
			} else {
				l.enter(newBroker(l, info, first))
			}
		}
	case kindRoutes, kindProgress, kindRemoval:
	default:
		return fmt.Errorf("frame of unknown kind %d", f.kind)
	}
	s := l.streams[f.stream]
	if s == nil {
		return nil // of a broker that was removed
	}
	b := s.broker
	b.noteOther(f.size(), f.time)
	b.bytes.Add(f.size())
	if l.touchOther(b); !fresh {
		return nil
	}
	switch f.kind {
	case kindRoutes:
		d := decoder{rest: f.payload}
		change := getRoutes(&d)
		if d.err != nil {
			return d.err
		}
		b.routes.Add(change)
		b.routes.Forget(b.unscanned)
	case kindProgress:
		changes, err := decodeProgress(f.payload)
		if err != nil {
			return err
		}
		b.apply(changes)
	case kindRemoval:
		l.forget(b)
	}
	return nil
}

// redoRecord enters one record of a stream.
func (l *Log) redoRecord(f *scanned, fresh bool) error {
	s := l.streams[f.stream]
	if s == nil {
		return nil // of a broker that was removed
	}
	pos := channel.Position(f.position)
	if want := s.first + channel.Position(len(s.offsets)); len(s.offsets) > 0 && pos != want || fresh && pos != s.next {
		return fmt.Errorf("stream %d goes on at %d, not at %d", f.stream, pos, max(want, s.next))
	}
	if s.kind != f.kind {
		return fmt.Errorf("stream %d does not hold frames of kind %d", f.stream, f.kind)
	}
	s.note(pos, f.off, f.size(), f.time)
	s.broker.bytes.Add(f.size())
	l.records++
	if s.touch != l.active.number {
		s.touch = l.active.number
		l.entries++
	}
	if f.kind == kindDead {
		s.broker.deadBytes += f.size()
		if fresh {
			letter, err := decodeLetter(f.payload)
			if err != nil {
				return err
			}
			s.broker.bury(deathOf(&letter), pos)
		}
	}
	return nil
}
