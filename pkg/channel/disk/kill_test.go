//go:build unix

package disk

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

const (
	// killDir names the store to a process that is there to be killed.
	killDir = "PENSTOCK_TEST_KILL_DIR"
	// killRound tells it apart from its predecessors.
	killRound = "PENSTOCK_TEST_KILL_ROUND"
	killers   = 6 // goroutines that append
)

var killOptions = Options{SegmentSize: 1 << 20}

// TestNoAcknowledgedEventIsLostWhenTheProcessIsKilled lets a process append to
// a store and kills it at a random moment, again and again on the same store.
// Whatever it had reported as acknowledged must be there in the end: in its
// place, byte for byte, with no hole in any shard and no half of a batch.
func TestNoAcknowledgedEventIsLostWhenTheProcessIsKilled(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		appendUntilKilled(t, dir, os.Getenv(killRound))
		return
	}
	rounds := 15
	if testing.Short() {
		rounds = 4
	}
	dir := t.TempDir()
	all := make(acked)
	for round := range rounds {
		n := len(all)
		killOnce(t, dir, round, all)
		t.Logf("round %d: %d events acknowledged", round, len(all)-n)
	}
	l, err := Open(dir, killOptions)
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, l)
	b := r.broker(channel.BrokerInfo{UID: "b"})
	got, err := contents(b)
	if err != nil {
		t.Fatal(err)
	}
	for id, name := range all {
		if e, ok := got[id]; !ok || e.ID() != name {
			t.Fatalf("%s was acknowledged as %s, what is there is %q", name, id, e.ID())
		}
	}
	batches := make(map[string]int)
	for id, e := range got {
		if !bytes.Equal(e.Raw(), madeToBeKilled(t, e.ID()).Raw()) {
			t.Fatalf("%s is altered", id)
		}
		batch, _, _ := strings.Cut(e.ID(), "/")
		batches[batch]++
	}
	for batch, n := range batches {
		if want := sizeOf(batch); n != want {
			t.Errorf("of batch %s %d of %d events are there", batch, n, want)
		}
	}
	total := 0
	for _, shard := range b.Shards() {
		_, next := b.Range(shard)
		total += int(next) - 1
	}
	if total != len(got) {
		t.Errorf("%d positions hold %d events", total, len(got))
	}
	t.Logf("%d events acknowledged, %d stored, %d bytes torn in the last round", len(all), len(got), l.Torn())
}

// killOnce runs one process for a moment and notes what it acknowledged.
func killOnce(t *testing.T, dir string, round int, all acked) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("%s=%d", killRound, round))
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	n := 0
	for ; lines.Scan(); n++ {
		if n == 0 { // it is under way
			time.AfterFunc(rand.N(400*time.Millisecond), func() { _ = cmd.Process.Kill() })
		}
		at, name, ok := strings.Cut(lines.Text(), " ")
		id, err := channel.ParseID(at)
		if !ok || err != nil {
			t.Fatalf("round %d: the process says %q", round, lines.Text())
		}
		all[id] = name
	}
	err = cmd.Wait()
	if n == 0 || cmd.ProcessState.Exited() {
		t.Fatalf("round %d: the process ended by itself after %d events: %v\n%s", round, n, err, failure.String())
	}
}

// appendUntilKilled is the life of a process that is killed. It reports each
// batch that was acknowledged in one write, which a kill cannot cut in two.
func appendUntilKilled(t *testing.T, dir, round string) {
	die := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := Open(dir, killOptions)
	if err != nil {
		die(err)
	}
	go func() { die(l.Run(context.Background())) }()
	if _, err := l.Broker(context.Background(), channel.BrokerInfo{UID: "b", Shards: 3}); err != nil {
		die(err)
	}
	var wg sync.WaitGroup
	for w := range killers {
		wg.Go(func() {
			for n := 0; ; n++ {
				batch := fmt.Sprintf("%s-%d-%d", round, w, n)
				var events []event.Event
				for i := range sizeOf(batch) {
					events = append(events, madeToBeKilled(t, fmt.Sprintf("%s/%d", batch, i)))
				}
				ids, err := l.Append(context.Background(), "b", events)
				if err != nil {
					die(err)
				}
				var report strings.Builder
				for i, id := range ids {
					fmt.Fprintf(&report, "%s %s\n", id, events[i].ID())
				}
				if _, err := os.Stdout.WriteString(report.String()); err != nil {
					die(err)
				}
			}
		})
	}
	wg.Wait()
}

// sizeOf is how many events a batch has: its name says it.
func sizeOf(batch string) int { return 1 + int(crc32.ChecksumIEEE([]byte(batch))%5) }

// madeToBeKilled is an event whose bytes follow from its id alone. Most are
// small, some take several pages.
func madeToBeKilled(t testing.TB, id string) event.Event {
	h := crc32.ChecksumIEEE([]byte("size " + id))
	size := int(h % 700)
	if h%17 == 0 {
		size = int(h % 30_000)
	}
	return made(t, id, size)
}
