//go:build unix

package disk

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/proof"
)

// plainFile is what the log is measured against: a preallocated file that the
// same bytes are appended to, with one fdatasync each time.
type plainFile struct {
	File
	off int64
	buf []byte
}

func openPlain(t testing.TB, n int, e event.Event) *plainFile {
	t.Helper()
	f, err := osFS{}.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := &plainFile{File: f, buf: make([]byte, int64(n)*frameSize(e.Size()))}
	if err := p.Allocate(defaultSegmentSize); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *plainFile) append() error {
	if p.off+int64(len(p.buf)) > defaultSegmentSize {
		// Anew, as the log does: to write over blocks that were written before
		// is cheaper.
		if err := errors.Join(p.Truncate(0), p.Allocate(defaultSegmentSize)); err != nil {
			return err
		}
		p.off = 0
	}
	if _, err := p.WriteAt(p.buf, p.off); err != nil {
		return err
	}
	p.off += int64(len(p.buf))
	return p.Datasync()
}

// TestLogKeepsUpWithAPlainFile alternates short blocks of appends to the log
// and to a plain file, so that what else the machine does hits both, and
// compares the medians. 1 KiB events, one caller.
//
// The aim is 0.9. A batch of 256 misses it where the disk is quick: checksums,
// the copy into the commit and the memory of the newest events take 0.1 ms beside
// a sync of 0.4. What fails the test is half as much again, a second sync or a
// change of goroutine.
func TestLogKeepsUpWithAPlainFile(t *testing.T) {
	if !proof.Full() {
		t.Skip("a figure of make reliability")
	}
	const aim, atLeast, tries = 0.9, 0.65, 5
	for _, n := range []int{1, 16, 256} {
		t.Run(fmt.Sprint("batch=", n), func(t *testing.T) {
			var seen []float64
			for range tries { // a machine that others use too has bad moments
				ratio := againstPlain(t, n)
				if seen = append(seen, ratio); ratio >= aim {
					break
				}
			}
			best := slices.Max(seen)
			t.Logf("batches of %d: %.2f times the speed of a plain file, best of %.2f; aim %v", n, best, seen, aim)
			if best < atLeast {
				t.Errorf("batches of %d: %.2f times the speed of a plain file with the same sync, want %v", n, best, atLeast)
			}
		})
	}
}

// againstPlain is the median over rounds of the time that the plain file took
// for what took the log one.
func againstPlain(t *testing.T, n int) float64 {
	r := start(t, t.TempDir(), Options{})
	defer r.stop()
	r.broker(channel.BrokerInfo{UID: "b"})
	e := made(t, "speed", 1024)
	events := slices.Repeat([]event.Event{e}, n)
	plain := openPlain(t, n, e)
	inLog := func() error {
		_, err := r.Append(context.Background(), "b", events)
		return err
	}
	const rounds, block = 30, 25
	var ratios []float64
	for i := range rounds {
		var took [2]time.Duration // log, plain
		for j := range took {
			which := (i + j) % 2 // each goes first in turn
			work := []func() error{inLog, plain.append}[which]
			begin := time.Now()
			for range block {
				if err := work(); err != nil {
					t.Fatal(err)
				}
			}
			took[which] = time.Since(begin)
		}
		ratios = append(ratios, float64(took[1])/float64(took[0]))
	}
	slices.Sort(ratios)
	return ratios[rounds/2]
}
