package disk

import (
	"errors"
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
	case kindMoved:
		return l.redoMoved(f)
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
	case kindRoutes, kindProgress, kindRemoval, kindGap, kindDiscard:
	default:
		return fmt.Errorf("frame of unknown kind %d", f.kind)
	}
	s := l.streams[f.stream]
	if s == nil {
		return l.unknown(f) // of a broker that was removed
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
		if l.lossy && change.Epoch != b.routes.Epoch()+1 {
			l.did("broker %s: changes of its triggers are missing before change %d", b.info.Name, change.Epoch)
		}
		b.routes.Add(change)
		b.routes.Forget(b.unscanned)
	case kindProgress:
		changes, err := decodeProgress(f.payload)
		if err != nil {
			return err
		}
		for i := range changes {
			if l.lossy {
				changes[i].Scanned = 0 // what became pending below it may be gone
			}
		}
		b.apply(changes)
	case kindGap:
		d, err := decodeDeclaration(b, f.payload)
		if err != nil {
			return err
		}
		d.apply()
	case kindDiscard:
		numbers, err := decodeDiscard(f.payload)
		if err != nil {
			return err
		}
		if b.discard(numbers); b.dead.skipped != nil {
			b.dead.skipped.AndNot(numbers) // nobody misses what a repair has not found of them
		}
	case kindRemoval:
		l.forget(b)
	}
	return nil
}

// redoRecord enters one record of a stream.
func (l *Log) redoRecord(f *scanned, fresh bool) error {
	s := l.streams[f.stream]
	if s == nil {
		return l.unknown(f) // of a broker that was removed
	}
	pos := channel.Position(f.position)
	if l.o.Repair {
		l.skip(s, pos, fresh)
	}
	if want := s.first + channel.Position(len(s.offsets)); len(s.offsets) > 0 && pos != want || fresh && pos != s.next {
		return fmt.Errorf("stream %d goes on at %d, not at %d", f.stream, pos, max(want, s.next))
	}
	if s.kind != f.kind {
		return fmt.Errorf("stream %d does not hold frames of kind %d", f.stream, f.kind)
	}
	s.note(pos, f.off, f.size(), f.time)
	s.broker.bytes.Add(f.size())
	l.touch(s)
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

// unknown passes over a frame of a broker that is not known: it was removed,
// or, after a hole, its beginning is gone.
func (l *Log) unknown(f *scanned) error {
	if l.lossy && f.stream >= l.nextStream {
		return errors.New("it belongs to a broker whose record is gone")
	}
	return nil
}

// redoMoved enters a record that was moved here. Whether its move counts is
// the checkpoint's to say; one that begins after it cannot count yet.
func (l *Log) redoMoved(f *scanned) error {
	l.nextMoveNumber = max(l.nextMoveNumber, f.move+1)
	s := l.streams[f.stream]
	if s == nil {
		return nil // of a broker that was removed
	}
	g, pos := l.active, channel.Position(f.position)
	if pos == 0 || pos >= s.next {
		return fmt.Errorf("stream %d has position %d moved before it was written", f.stream, pos)
	}
	var p *part
	for i := len(g.parts) - 1; i >= 0 && p == nil; i-- {
		if q := g.parts[i]; q.stream == f.stream && q.move == f.move && q.number == f.part {
			p = q
		}
	}
	if p == nil {
		p = &part{segment: g, number: f.part, entry: entry{kind: kindMoved, stream: f.stream, move: f.move}}
		g.parts = append(g.parts, p)
		l.entries++
	}
	if p.count > 0 && (pos <= p.last() || pos-p.first > 1<<32-1) {
		return fmt.Errorf("stream %d has position %d moved after %d", f.stream, pos, p.last())
	}
	p.add(pos, f.off, f.size(), f.time)
	s.charge(f.size())
	l.records += 2
	return nil
}
