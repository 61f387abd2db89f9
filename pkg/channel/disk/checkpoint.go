package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"

	"github.com/penstock-events/penstock/pkg/channel"
)

const (
	checkpointMagic  = "PENSTKCP"
	checkpointHeader = 24
	checkpointSuffix = ".ckpt"
	checkpointTemp   = "checkpoint.tmp"
	checkpointsKept  = 2
)

func checkpointName(dir string, sequence uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", sequence, checkpointSuffix))
}

// cover is what a checkpoint says beside the brokers' state.
type cover struct {
	version  uint32 // of the format it was read in
	store    [16]byte
	epoch    uint32
	lsn      uint64 // all frames below it are in the state
	active   uint64 // the segment that lsn is in
	base     uint64 // of that
	segments []covered
	moves    []uint32 // into the active segment that count
	damaged  []uint64 // segments whose files are to be set aside, and not removed
}

// covered is a sealed segment as a checkpoint knows it, with the moves into
// it that count: what it holds of others is a move's that never ended.
type covered struct {
	number, base, size uint64
	moves              []uint32
}

// checkpoint writes the whole state beside the log, so that recovery begins
// here and segments can go. Committer only, with nothing in the buffer.
func (l *Log) checkpoint() error {
	c, body, err := l.state()
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := l.writeCheckpoint(l.sequence+1, c, body); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	l.sequence++
	l.sinceCheckpoint, l.putOff = 0, false
	if old := l.sequence - checkpointsKept; l.sequence > checkpointsKept {
		if err := l.fs.Remove(checkpointName(l.dir, old)); err != nil && !isAbsent(err) {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	return l.sweep()
}

// state is what a checkpoint of this moment holds. Committer only, with
// nothing in the buffer.
func (l *Log) state() (c cover, body []byte, err error) {
	if err := l.stopped(); err != nil {
		return c, nil, err
	}
	l.mu.Lock()
	lazies := l.lazies
	l.lazies, l.lazyBytes, l.lazyTold = nil, 0, false
	body, err = l.encodeState()
	l.mu.Unlock()
	// The state holds the progress that waits: its frames belong before the
	// LSN. What does not fit comes after it and is applied again, which costs
	// a duplicate at most.
	l.wait(l.putLazies(lazies))
	l.flush()
	if err == nil {
		err = l.stopped()
	}
	if err != nil {
		return c, nil, err
	}
	l.mu.Lock()
	c = cover{store: l.store, epoch: l.epoch, lsn: l.durable(), active: l.active.number, base: l.active.base, moves: l.active.moves}
	for _, g := range l.segments {
		c.segments = append(c.segments, covered{g.number, g.base, uint64(g.size), g.moves})
	}
	for _, g := range l.garbage {
		if g.segment.damaged {
			c.damaged = append(c.damaged, g.segment.number)
		}
	}
	l.mu.Unlock()
	return c, body, nil
}

// writeCheckpoint makes the file appear whole or not at all.
func (l *Log) writeCheckpoint(sequence uint64, c cover, body []byte) error {
	b := putCheckpoint(c, body)
	temp := filepath.Join(l.dir, checkpointTemp)
	f, err := l.fs.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, l.fs.Remove(temp))
	}
	if err := l.fs.Rename(temp, checkpointName(l.dir, sequence)); err != nil {
		return errors.Join(err, l.fs.Remove(temp))
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	l.vitals.checkpointed(l.o.Now(), int64(len(b)))
	return nil
}

// putCheckpoint is a checkpoint's file:
//
//	 0 "PENSTKCP"
//	 8 u32 format version
//	12 u32 CRC32C of the version and of the rest of the file; before version 3 of the rest alone
//	16 u64 length of the rest, after these 24 bytes
func putCheckpoint(c cover, body []byte) []byte {
	rest := encodeCover(c)
	rest = append(rest, body...)
	b := append([]byte(checkpointMagic), make([]byte, checkpointHeader-8)...)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(rest)))
	b = append(b, rest...)
	binary.LittleEndian.PutUint32(b[12:], checkpointSum(b))
	return b
}

// checkpointSum is the checksum of a checkpoint's file. The version is part of
// it: a damaged one could be another that there is, by which the rest reads
// otherwise.
func checkpointSum(b []byte) uint32 {
	if binary.LittleEndian.Uint32(b[8:]) < 3 {
		return checksum(b[16:])
	}
	return crc32.Update(checksum(b[8:12]), castagnoli, b[16:])
}

// readCheckpoint verifies a checkpoint and splits it.
func (l *Log) readCheckpoint(name string) (c cover, body []byte, err error) {
	f, err := l.fs.Open(name)
	if err != nil {
		return c, nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return c, nil, err
	}
	if size < checkpointHeader || size > 1<<32 {
		return c, nil, &CorruptError{File: name, Reason: fmt.Sprintf("checkpoint of %d bytes", size)}
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return c, nil, fmt.Errorf("read %s: %w", name, err)
	}
	if string(b[:8]) != checkpointMagic {
		return c, nil, &CorruptError{File: name, Reason: "not a checkpoint"}
	}
	version := binary.LittleEndian.Uint32(b[8:])
	if binary.LittleEndian.Uint32(b[12:]) != checkpointSum(b) || binary.LittleEndian.Uint64(b[16:]) != uint64(size-checkpointHeader) {
		return c, nil, &CorruptError{File: name, Reason: "checkpoint has a bad checksum"}
	}
	if version < oldestVersion || version > formatVersion {
		return c, nil, &VersionError{File: name, Version: version}
	}
	d := decoder{rest: b[checkpointHeader:]}
	c = decodeCover(&d, version)
	if d.err != nil {
		return c, nil, &CorruptError{File: name, Reason: d.err.Error()}
	}
	return c, d.rest, nil
}

func encodeCover(c cover) []byte {
	e := encoder(slices.Clone(c.store[:]))
	e.uint(uint64(c.epoch))
	e.uint(c.lsn)
	e.uint(c.active)
	e.uint(c.base)
	e.uint(uint64(len(c.segments)))
	for _, s := range c.segments {
		e.uint(s.number)
		e.uint(s.base)
		e.uint(s.size)
		putMoves(&e, s.moves)
	}
	putMoves(&e, c.moves)
	e.uint(uint64(len(c.damaged)))
	for _, number := range c.damaged {
		e.uint(number)
	}
	return e
}

func putMoves(e *encoder, moves []uint32) {
	e.uint(uint64(len(moves)))
	for _, m := range moves {
		e.uint(uint64(m))
	}
}

func getMoves(d *decoder) (moves []uint32) {
	for range d.count() {
		moves = append(moves, uint32(d.uint()))
	}
	return moves
}

func decodeCover(d *decoder, version uint32) (c cover) {
	c.version = version
	if len(d.rest) < len(c.store) {
		d.fail()
		return c
	}
	d.rest = d.rest[copy(c.store[:], d.rest):]
	c.epoch, c.lsn, c.active = uint32(d.uint()), d.uint(), d.uint()
	if version == 1 {
		for range d.count() {
			c.segments = append(c.segments, covered{number: d.uint(), base: d.uint(), size: d.uint()})
		}
		if n := len(c.segments); n > 0 { // the base is only needed where the segment's own is damaged
			c.base = c.segments[n-1].base + c.segments[n-1].size
		}
		return c
	}
	c.base = d.uint()
	for range d.count() {
		c.segments = append(c.segments, covered{d.uint(), d.uint(), d.uint(), getMoves(d)})
	}
	c.moves = getMoves(d)
	for range d.count() {
		c.damaged = append(c.damaged, d.uint())
	}
	return c
}

// encodeState is all that recovery cannot read from footers. Under Log.mu.
func (l *Log) encodeState() ([]byte, error) {
	var e encoder
	e.int(l.lastTime)
	e.uint(uint64(l.nextStream))
	e.uint(uint64(l.nextMoveNumber))
	brokers := *l.brokers.Load()
	e.uint(uint64(len(brokers)))
	for _, b := range brokers {
		if err := b.encodeState(&e); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (b *broker) encodeState(e *encoder) error {
	putInfo(e, b.info, b.base)
	changes := b.routes.Changes()
	e.uint(uint64(len(changes)))
	for i := range changes {
		putRoutes(e, &changes[i])
	}
	for i, s := range b.shards {
		e.uint(uint64(s.next))
		whole := channel.ShardProgress{Shard: channel.ShardID(i), Scanned: b.progress[i].scanned}
		for trigger, lane := range b.progress[i].lanes {
			lane.Positions.RunOptimize()
			part := channel.LaneProgress{Trigger: trigger, Added: &lane.Positions}
			for _, r := range lane.Retries {
				part.Retries = append(part.Retries, r)
			}
			whole.Lanes = append(whole.Lanes, part)
		}
		if err := putProgress(e, &whole); err != nil {
			return err
		}
	}
	e.uint(uint64(b.dead.next))
	e.uint(uint64(len(b.letters)))
	for trigger, set := range b.letters {
		e.string(string(trigger))
		if err := e.bitmap(set); err != nil {
			return err
		}
	}
	return b.encodeGaps(e)
}

func (l *Log) decodeState(body []byte, version uint32) error {
	d := decoder{rest: body}
	l.lastTime = d.int()
	l.nextStream = uint32(d.uint())
	if version > 1 {
		l.nextMoveNumber = uint32(d.uint())
	}
	for range d.count() {
		info, base := getInfo(&d)
		if d.err != nil {
			return d.err
		}
		b := newBroker(l, info, base)
		for range d.count() {
			b.routes.Add(getRoutes(&d))
		}
		for i, s := range b.shards {
			s.next = channel.Position(d.uint())
			whole := getProgress(&d)
			whole.Shard = channel.ShardID(i)
			b.apply([]channel.ShardProgress{whole})
		}
		b.dead.next = channel.Position(d.uint())
		for range d.count() {
			trigger, set := channel.UID(d.string()), d.bitmap()
			b.letters[trigger] = set
		}
		if version > 1 {
			b.decodeGaps(&d)
		}
		l.enter(b)
	}
	if d.err == nil && len(d.rest) > 0 {
		return fmt.Errorf("%d bytes behind the end", len(d.rest))
	}
	return d.err
}
