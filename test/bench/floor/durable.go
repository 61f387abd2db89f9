package floor

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/penstock-events/penstock/test/bench/flush"
)

const (
	batchEvents = 256
	recordHead  = 8 // length and checksum
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Durable is FastHTTP with a log: an event is appended and synced before its
// 202, by one committer that takes whatever came during the last sync. It
// reads nothing back: what was not forwarded when it ends stays in its files.
func Durable(ctx context.Context, l net.Listener, o Options) error {
	log := &log{dir: o.Dir, in: make(chan *record, batchEvents)}
	if err := log.roll(); err != nil {
		return err
	}
	committing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { log.run(committing) })
	defer wg.Wait()
	defer stop()
	pool := sync.Pool{New: func() any { return &record{done: make(chan error, 1)} }}
	return fast(ctx, l, o, func(request *fasthttp.Request) error {
		r := pool.Get().(*record)
		r.set(request.Header.Header(), request.Body())
		select {
		case log.in <- r:
		case <-committing.Done():
			return context.Cause(committing)
		}
		select {
		case err := <-r.done:
			pool.Put(r)
			return err
		case <-committing.Done():
			return context.Cause(committing) // the record may still be the committer's
		}
	})
}

// record is an event on its way into the log.
type record struct {
	bytes []byte
	done  chan error
}

func (r *record) set(header, body []byte) {
	r.bytes = append(r.bytes[:0], make([]byte, recordHead)...)
	r.bytes = append(append(r.bytes, header...), body...)
	payload := r.bytes[recordHead:]
	binary.LittleEndian.PutUint32(r.bytes, uint32(len(payload)))
	binary.LittleEndian.PutUint32(r.bytes[4:], crc32.Checksum(payload, castagnoli))
}

// log is the files that events are appended to. Only its committer touches them.
type log struct {
	dir    string
	in     chan *record
	file   *os.File
	number int
	end    int64
}

// run commits until ctx ends. After an error nothing more is accepted: what a
// failed sync has left on the medium is unknown.
func (l *log) run(ctx context.Context) {
	var (
		batch  []*record
		buf    []byte
		failed error
	)
	defer func() { _ = l.file.Close() }() // synced, or failed before
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-l.in:
			batch, buf = append(batch[:0], r), append(buf[:0], r.bytes...)
		}
	more:
		for len(batch) < batchEvents {
			select {
			case r := <-l.in:
				batch, buf = append(batch, r), append(buf, r.bytes...)
			default:
				break more
			}
		}
		if failed == nil {
			failed = l.commit(buf)
		}
		for _, r := range batch {
			r.done <- failed
		}
	}
}

func (l *log) commit(buf []byte) error {
	if l.end+int64(len(buf)) > flush.FileSize {
		if err := l.roll(); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(buf, l.end); err != nil {
		return err
	}
	l.end += int64(len(buf))
	return flush.Sync(l.file)
}

// roll begins the next file.
func (l *log) roll() error {
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
	}
	name := filepath.Join(l.dir, fmt.Sprintf("%08d.log", l.number))
	f, err := flush.Create(name)
	if err != nil {
		return err
	}
	l.file, l.number, l.end = f, l.number+1, 0
	return nil
}
