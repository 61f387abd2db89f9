package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
)

// volume is a file system of its own, of so many MiB.
func volume(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skip("SKIPPED, a full disk was not tried: only root may mount a small one")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill posts large events until one is refused, and returns those accepted.
func fill(t *testing.T, b *broker.Broker, prefix, data string) (accepted []string) {
	t.Helper()
	for n := range 1000 {
		id := fmt.Sprintf("%s-%d", prefix, n)
		status, header := post(b.Default(), id, "a", data)
		switch status {
		case http.StatusAccepted:
			accepted = append(accepted, id)
		case http.StatusInsufficientStorage:
			if after, err := strconv.Atoi(header.Get("Retry-After")); err != nil || after < 1 {
				t.Errorf("507 with Retry-After %q", header.Get("Retry-After"))
			}
			return accepted
		default:
			t.Fatalf("event %d is answered with %d", n, status)
		}
	}
	t.Fatal("the disk does not fill")
	return nil
}

// acceptsAgain posts until an event is accepted, and returns its id.
func acceptsAgain(t *testing.T, b *broker.Broker, prefix string) string {
	t.Helper()
	id, n := "", 0
	broker.Await(t, "events are accepted again", func() bool {
		id = fmt.Sprintf("%s-%d", prefix, n)
		n++
		status, _ := post(b.Default(), id, "a", "small")
		if status != http.StatusAccepted && status != http.StatusInsufficientStorage {
			t.Fatalf("status is %d", status)
		}
		return status == http.StatusAccepted
	})
	return id
}

// One subscriber is down until its backlog fills the disk. The other one gets
// its events all the same; when the first comes back its backlog goes out, and
// that makes room.
func TestFullDiskRefusesEventsAndGoesOnDelivering(t *testing.T) {
	data := filepath.Join(volume(t, 160), "data")
	var up atomic.Bool
	s := sink.Start(t, func(r *http.Request) int {
		if r.URL.Path == "/slow" && !up.Load() {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	slow := strings.Replace(trigger("slow", "", s.URL("/slow"), "{retry: 100000, backoffPolicy: linear, backoffDelay: PT0.2S}"),
		"{name: slow}", `{name: slow, annotations: {penstock.dev/backoff-max: 400ms}}`, 1)
	file := write(t, filepath.Join(t.TempDir(), "t.yaml"), slow+trigger("good", "", s.URL("/good"), ""))
	b := broker.Start(t, broker.Options{Binary: penstock, Data: data, Files: []string{file}})

	accepted := fill(t, b, "first", strings.Repeat("x", 512<<10))
	if len(accepted) < 50 {
		t.Errorf("only %d events of 512 KiB fit on 160 MiB", len(accepted))
	}
	if status := get(t, b.API+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d while nothing is accepted", status)
	}
	if status := get(t, b.API+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz is %d: a restart would not help", status)
	}
	s.Await("/good", accepted...)

	// A crash just now is no reason to lose anything either.
	b.Kill()
	b.Restart()
	if status, _ := post(b.Default(), "full", "a", "x"); status != http.StatusInsufficientStorage {
		t.Errorf("after a restart on the full disk the answer is %d", status)
	}

	up.Store(true)
	s.Await("/slow", accepted...)
	last := acceptsAgain(t, b, "again")
	s.Await("/slow", last)
	s.Await("/good", last)
	b.AwaitSettled("slow", "good")
	if _, came := s.Got("/good")["full"]; came {
		t.Error("an event that was refused has been delivered")
	}
	if dead := b.Trigger("slow").Dead; dead != 0 {
		t.Errorf("%d dead letters", dead)
	}
}

// Somebody else fills the volume, and cleans up.
func TestDiskFilledByOthersIsUsedAgainOnceThereIsRoom(t *testing.T) {
	root := volume(t, 200)
	s := sink.Start(t, nil)
	file := write(t, filepath.Join(t.TempDir(), "t.yaml"), trigger("good", "", s.URL("/good"), ""))
	b := broker.Start(t, broker.Options{Binary: penstock, Data: filepath.Join(root, "data"), Files: []string{file}})

	ballast := filepath.Join(root, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 120<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	accepted := fill(t, b, "first", strings.Repeat("x", 512<<10))
	s.Await("/good", accepted...)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.Await("/good", acceptsAgain(t, b, "again"))
	b.AwaitSettled("good")
}
