package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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
	c, state, err := l.state()
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := l.writeCheckpoint(l.sequence+1, c, state); err != nil {
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
func (l *Log) state() (c cover, state picture, err error) {
	if err := l.stopped(); err != nil {
		return c, state, err
	}
	l.mu.Lock()
	lazies := l.lazies
	l.lazies, l.lazyBytes, l.lazyTold = nil, 0, false
	l.encodeState(&state)
	l.mu.Unlock()
	// The state holds the progress that waits: its frames belong before the
	// LSN. What does not fit comes after it and is applied again, which costs
	// a duplicate at most.
	l.wait(l.putLazies(lazies))
	l.flush()
	if err := l.stopped(); err != nil {
		return c, state, err
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
	return c, state, nil
}

// writeCheckpoint makes the file appear whole or not at all.
func (l *Log) writeCheckpoint(sequence uint64, c cover, state picture) error {
	temp := filepath.Join(l.dir, checkpointTemp)
	f, err := l.fs.Create(temp)
	if err != nil {
		return err
	}
	size, err := putCheckpoint(f, c, state)
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
	l.vitals.checkpointed(l.o.Now(), size)
	return nil
}

// putCheckpoint writes a checkpoint's file, a piece at a time, and returns how
// long it is:
//
//	 0 "PENSTKCP"
//	 8 u32 format version
//	12 u32 CRC32C of the version and of the rest of the file; before version 3 of the rest alone
//	16 u64 length of the rest, after these 24 bytes
func putCheckpoint(to io.WriterAt, c cover, state picture) (size int64, err error) {
	w := pieces{to: to, off: checkpointHeader}
	w.put(encodeCover(c))
	state.put(&w)
	w.flush()
	h := append([]byte(checkpointMagic), make([]byte, checkpointHeader-8)...)
	binary.LittleEndian.PutUint32(h[8:], formatVersion)
	binary.LittleEndian.PutUint64(h[16:], uint64(w.off-checkpointHeader))
	// The length stands before the rest and is known after it.
	before := crc32.Update(checksum(h[8:12]), castagnoli, h[16:])
	binary.LittleEndian.PutUint32(h[12:], joinSums(before, w.sum, w.off-checkpointHeader))
	if w.err == nil {
		_, w.err = to.WriteAt(h, 0)
	}
	return w.off, w.err
}

// checkpointSum is the checksum of a checkpoint's file with this header. The
// version is part of it: a damaged one could be another that there is, by which
// the rest reads otherwise.
func checkpointSum(h []byte, f io.ReaderAt, size int64) (uint32, error) {
	var sum uint32
	if binary.LittleEndian.Uint32(h[8:]) >= 3 {
		sum = checksum(h[8:12])
	}
	sum = crc32.Update(sum, castagnoli, h[16:])
	b := make([]byte, min(piece, size-checkpointHeader))
	for off := int64(checkpointHeader); off < size; off += int64(len(b)) {
		b = b[:min(int64(len(b)), size-off)]
		if n, err := f.ReadAt(b, off); n < len(b) {
			return 0, err
		}
		sum = crc32.Update(sum, castagnoli, b)
	}
	return sum, nil
}

// readCheckpoint verifies a checkpoint and decodes what comes first. The body is
// for decodeState, which reads the file as it goes; the caller must close it.
func (l *Log) readCheckpoint(name string) (c cover, body *decoder, err error) {
	f, err := l.fs.Open(name)
	if err != nil {
		return c, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	size, err := f.Size()
	if err != nil {
		return c, nil, err
	}
	if size < checkpointHeader || size > 1<<32 {
		return c, nil, &CorruptError{File: name, Reason: fmt.Sprintf("checkpoint of %d bytes", size)}
	}
	h := make([]byte, checkpointHeader)
	if _, err := f.ReadAt(h, 0); err != nil {
		return c, nil, fmt.Errorf("read %s: %w", name, err)
	}
	if string(h[:8]) != checkpointMagic {
		return c, nil, &CorruptError{File: name, Reason: "not a checkpoint"}
	}
	version := binary.LittleEndian.Uint32(h[8:])
	sum, err := checkpointSum(h, f, size)
	if err != nil {
		return c, nil, fmt.Errorf("read %s: %w", name, err)
	}
	if binary.LittleEndian.Uint32(h[12:]) != sum || binary.LittleEndian.Uint64(h[16:]) != uint64(size-checkpointHeader) {
		return c, nil, &CorruptError{File: name, Reason: "checkpoint has a bad checksum"}
	}
	if version < oldestVersion || version > formatVersion {
		return c, nil, &VersionError{File: name, Version: version}
	}
	body = &decoder{file: f, off: checkpointHeader, end: size}
	c = decodeCover(body, version)
	if err := body.failure(name); err != nil {
		return c, nil, err
	}
	return c, body, nil
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
	if d.more(uint64(len(c.store))); len(d.rest) < len(c.store) {
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
func (l *Log) encodeState(e *picture) {
	e.int(l.lastTime)
	e.uint(uint64(l.nextStream))
	e.uint(uint64(l.nextMoveNumber))
	brokers := *l.brokers.Load()
	e.uint(uint64(len(brokers)))
	for _, b := range brokers {
		b.encodeState(e)
	}
}

func (b *broker) encodeState(e *picture) {
	putInfo(&e.encoder, b.info, b.base)
	changes := b.routes.Changes()
	e.uint(uint64(len(changes)))
	for i := range changes {
		putRoutes(&e.encoder, &changes[i])
	}
	for i, s := range b.shards {
		e.uint(uint64(s.next))
		p := &b.progress[i]
		e.uint(uint64(i))
		e.uint(uint64(p.scanned))
		e.uint(uint64(len(p.lanes)))
		for trigger, lane := range p.lanes { // as putProgress has it
			e.string(string(trigger))
			e.positions(&lane.Positions)
			e.uint(0) // settled
			e.uint(uint64(len(lane.Retries)))
			for _, r := range lane.Retries {
				putRetry(&e.encoder, &r)
			}
		}
	}
	e.uint(uint64(b.dead.next))
	e.uint(uint64(len(b.letters)))
	for trigger, set := range b.letters {
		e.string(string(trigger))
		e.set(set)
	}
	b.encodeGaps(e)
}

func (l *Log) decodeState(d *decoder, version uint32) error {
	l.lastTime = d.int()
	l.nextStream = uint32(d.uint())
	if version > 1 {
		l.nextMoveNumber = uint32(d.uint())
	}
	for range d.count() {
		info, base := getInfo(d)
		if d.err != nil {
			return d.err
		}
		b := newBroker(l, info, base)
		for range d.count() {
			b.routes.Add(getRoutes(d))
		}
		for i, s := range b.shards {
			s.next = channel.Position(d.uint())
			b.decodeProgress(channel.ShardID(i), d)
		}
		b.dead.next = channel.Position(d.uint())
		for range d.count() {
			trigger, set := channel.UID(d.string()), d.bitmap()
			b.letters[trigger] = set
		}
		if version > 1 {
			b.decodeGaps(d)
		}
		l.enter(b)
	}
	if d.err == nil && d.left() > 0 {
		return fmt.Errorf("%d bytes behind the end", d.left())
	}
	return d.err
}

// decodeProgress takes over one shard's progress, a lane at a time.
func (b *broker) decodeProgress(shard channel.ShardID, d *decoder) {
	d.uint() // the shard again
	scanned := channel.Position(d.uint())
	for range d.count() {
		trigger := channel.UID(d.string())
		b.progress[shard].lane(trigger).Positions = d.positions()
		lane := channel.LaneProgress{Trigger: trigger, Settled: d.bitmap(), Retries: getRetries(d)}
		b.apply([]channel.ShardProgress{{Shard: shard, Lanes: []channel.LaneProgress{lane}}})
	}
	b.apply([]channel.ShardProgress{{Shard: shard, Scanned: scanned}})
}
