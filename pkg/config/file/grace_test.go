package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

// Here time is virtual and the files are real: edits are found by the poll.
func story(t *testing.T, o Options, act func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := New(o)
		s.notify = false
		first, err := s.Load()
		if err != nil {
			t.Fatal(err)
		}
		var last atomic.Pointer[config.Snapshot]
		last.Store(first)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx, last.Store) }()
		act(t, first, func() *config.Snapshot {
			synctest.Wait()
			return last.Load()
		})
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestEditIsInForceWithinASecondOnAnyFileSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, triggers("a"))
	story(t, Options{Paths: []string{path}}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		names := []string{"a"}
		for i := range 5 {
			name := fmt.Sprintf("b%d", i)
			names = append(names, name)
			write(t, path, triggers(names...))
			time.Sleep(time.Second)
			if !live(latest(), name) {
				t.Fatalf("after a second %s is not in force", name)
			}
		}
		before := latest()
		time.Sleep(time.Hour)
		if now := latest(); now != before {
			t.Errorf("%d Snapshots though nothing was edited", now.Generation()-before.Generation())
		}
	})
}

func TestRemovedTriggerIsHeldForItsGraceAndThenGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, triggers("a", "b"))
	story(t, Options{Paths: []string{path}, Dir: t.TempDir()}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		uid := trigger(t, first, "default", "b").UID
		write(t, path, triggers("a"))
		time.Sleep(time.Second)
		b := trigger(t, latest(), "default", "b")
		if !b.Held || b.UID != uid || b.Filter == nil || len(latest().Removed()) != 0 {
			t.Fatalf("b is %+v", b)
		}
		if left := time.Until(b.HeldUntil); left < 9*time.Minute || left > 10*time.Minute {
			t.Errorf("%v of the grace are left", left)
		}

		time.Sleep(time.Until(b.HeldUntil) - time.Millisecond)
		if !isHeld(latest(), "b") {
			t.Fatal("b is gone before its grace has ended")
		}
		time.Sleep(time.Second)
		now := latest()
		if _, there := now.Trigger("default", "b"); there {
			t.Fatal("b is still there after its grace")
		}
		if r := now.Removed(); len(r) != 1 || r[0].UID != uid || r[0].Kind != config.KindTrigger || r[0].Broker != "default" {
			t.Errorf("removed are %+v", r)
		}

		write(t, path, triggers("a", "b"))
		time.Sleep(time.Second)
		if again := trigger(t, latest(), "default", "b"); again.Held || again.UID == uid {
			t.Errorf("made again after its grace it is another: %+v", again)
		}
	})
}

func TestTriggerThatComesBackWithinItsGraceIsTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, triggers("a", "b"))
	story(t, Options{Paths: []string{path}}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		write(t, path, triggers("a"))
		time.Sleep(9 * time.Minute)
		if !isHeld(latest(), "b") {
			t.Fatal("b is not held")
		}
		write(t, path, triggers("a", "b"))
		time.Sleep(time.Hour)
		if b := trigger(t, latest(), "default", "b"); !b.Ready || b.UID != trigger(t, first, "default", "b").UID {
			t.Errorf("b is %+v", b)
		}
	})
}

const shopBroker = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: shop}\n---\n"

func TestRemovedBrokerIsNotServedAndItsTriggersWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	onShop := fmt.Sprintf(aTrigger, "a", "shop")
	write(t, path, shopBroker+onShop)
	story(t, Options{Paths: []string{path}}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		shop, _ := first.Broker("default", "shop")
		write(t, path, onShop)
		time.Sleep(time.Second)
		now := latest()
		if _, served := now.Broker("default", "shop"); served {
			t.Error("shop is served though it is gone")
		}
		if h := now.HeldBrokers(); len(h) != 1 || h[0].UID != shop.UID || !h[0].Held {
			t.Errorf("held are %v", h)
		}
		if a := trigger(t, now, "default", "a"); a.Ready || a.Reason != config.ReasonBrokerDoesNotExist || !strings.Contains(a.Message, "removed from") {
			t.Errorf("a is %+v", a)
		}
		write(t, path, shopBroker+onShop)
		time.Sleep(time.Second)
		if b, ok := latest().Broker("default", "shop"); !ok || b.UID != shop.UID || !trigger(t, latest(), "default", "a").Ready {
			t.Error("shop is back as it was, and its Trigger with it")
		}
		write(t, path, onShop)
		time.Sleep(11 * time.Minute)
		now = latest()
		if r := now.Removed(); len(now.HeldBrokers()) != 0 || len(r) != 1 || r[0].UID != shop.UID || r[0].Kind != config.KindBroker {
			t.Errorf("removed are %+v", r)
		}
	})
}

func TestTriggerThatMovesToAnotherBrokerIsAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, shopBroker+fmt.Sprintf(aTrigger, "a", "default"))
	story(t, Options{Paths: []string{path}}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		write(t, path, shopBroker+fmt.Sprintf(aTrigger, "a", "shop"))
		time.Sleep(time.Second)
		now := latest()
		old, moved := now.TriggersOf("default", "default"), now.TriggersOf("default", "shop")
		if len(old) != 1 || !old[0].Held || old[0].UID != trigger(t, first, "default", "a").UID {
			t.Errorf("on the old Broker: %+v", old)
		}
		if len(moved) != 1 || !moved[0].Ready || moved[0].UID == old[0].UID || trigger(t, now, "default", "a") != moved[0] {
			t.Errorf("on the new Broker: %+v", moved)
		}
	})
}

// Some editors empty a file and then fill it. In between, everything in it
// would seem to be removed.
func TestFileThatIsEmptyForAMomentRemovesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, triggers("a"))
	story(t, Options{Paths: []string{path}}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		time.Sleep(400 * time.Millisecond)
		write(t, path, "")
		time.Sleep(200 * time.Millisecond)
		if !live(latest(), "a") {
			t.Error("a is held as soon as its file is empty")
		}
		write(t, path, triggers("a", "b"))
		time.Sleep(time.Second)
		if !live(latest(), "a") || !live(latest(), "b") {
			t.Error("the new text is not in force")
		}
		write(t, path, "\n")
		time.Sleep(1500 * time.Millisecond)
		if !isHeld(latest(), "a") {
			t.Error("a file that stays empty declares nothing")
		}
	})
}

func TestNoGraceEndsWhileAFileCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), triggers("a", "b"))
	write(t, filepath.Join(dir, "z.yaml"), triggers("z"))
	story(t, Options{Paths: []string{dir}}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		write(t, filepath.Join(dir, "a.yaml"), triggers("a"))
		write(t, filepath.Join(dir, "z.yaml"), "{ b may be on its way into this file")
		time.Sleep(time.Hour)
		if !isHeld(latest(), "b") || !live(latest(), "z") {
			t.Error("b is gone, though an unreadable file may declare it")
		}
		write(t, filepath.Join(dir, "z.yaml"), triggers("z"))
		time.Sleep(time.Second)
		if _, there := latest().Trigger("default", "b"); there {
			t.Error("b is not declared anywhere and its grace is long over")
		}
	})
}

func TestNewConfigurationWaitsUntilItsIdentitiesAreKept(t *testing.T) {
	path, data := filepath.Join(t.TempDir(), "a.yaml"), filepath.Join(t.TempDir(), "data")
	write(t, path, triggers("a"))
	story(t, Options{Paths: []string{path}, Dir: data}, func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
		// The folder is not one any more: nothing can be kept there.
		if err := os.Rename(data, data+".away"); err != nil {
			t.Fatal(err)
		}
		write(t, data, "")
		write(t, path, triggers("a", "b"))
		time.Sleep(time.Minute)
		if latest() != first {
			t.Fatal("b got events under an identity that a crash would lose")
		}
		if err := os.Rename(data+".away", data+".back"); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(data); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if !live(latest(), "b") {
			t.Error("b is not in force though its identity can be kept")
		}
	})
}
