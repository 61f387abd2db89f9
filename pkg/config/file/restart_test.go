package file

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

func TestIdentitiesSurviveARestartAndAnEdit(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, triggers("a"))
	_, first := start(t, Options{Paths: []string{path}, Dir: dir})
	write(t, path, "# moved down and changed\n"+strings.ReplaceAll(triggers("a"), "3000", "4000"))
	_, second := start(t, Options{Paths: []string{path}, Dir: dir})
	a, b := trigger(t, first, "default", "a"), trigger(t, second, "default", "a")
	if a.UID != b.UID || b.Subscriber != "http://localhost:4000" {
		t.Errorf("was %+v, is %+v", a, b)
	}
}

func TestTriggerRemovedWhileNobodyRanIsHeldWithItsFilter(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "a.yaml")
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	write(t, path, strings.ReplaceAll(triggers("a"), "broker: default", `broker: default, filter: {attributes: {type: wanted}}`))
	_, first := start(t, Options{Paths: []string{path}, Dir: dir, Now: clock})

	write(t, path, "")
	now = now.Add(24 * time.Hour)
	_, second := start(t, Options{Paths: []string{path}, Dir: dir, Now: clock})
	a := trigger(t, second, "default", "a")
	if !a.Held || a.UID != trigger(t, first, "default", "a").UID || !a.HeldUntil.Equal(now.Add(DefaultGrace)) {
		t.Fatalf("a is %+v", a)
	}
	if !a.Filter.Match(anEvent(t, "wanted")) || a.Filter.Match(anEvent(t, "other")) {
		t.Error("it matches as it did")
	}

	// The deadline is a point in time: another restart does not move it.
	now = now.Add(6 * time.Minute)
	_, third := start(t, Options{Paths: []string{path}, Dir: dir, Now: clock})
	if b := trigger(t, third, "default", "a"); !b.HeldUntil.Equal(a.HeldUntil) {
		t.Errorf("held until %v, was %v", b.HeldUntil, a.HeldUntil)
	}
	now = now.Add(6 * time.Minute)
	for range 2 { // and it is told again, in case nobody acted on it
		_, last := start(t, Options{Paths: []string{path}, Dir: dir, Now: clock})
		if _, there := last.Trigger("default", "a"); there || len(last.Removed()) != 1 || last.Removed()[0].UID != a.UID {
			t.Errorf("removed are %+v", last.Removed())
		}
	}
	now = now.Add(8 * 24 * time.Hour)
	if _, last := start(t, Options{Paths: []string{path}, Dir: dir, Now: clock}); len(last.Removed()) != 0 {
		t.Error("what was removed is told for a week")
	}
}

func TestFileBrokenAtTheStartStaysInForceAsItLastWas(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	bad, good := filepath.Join(files, "bad.yaml"), filepath.Join(files, "good.yaml")
	write(t, bad, triggers("a"))
	write(t, good, triggers("b"))
	_, first := start(t, Options{Paths: []string{files}, Dir: dir})
	write(t, bad, "{ not yaml")
	_, second := start(t, Options{Paths: []string{files}, Dir: dir})
	a := trigger(t, second, "default", "a")
	if !a.Ready || a.UID != trigger(t, first, "default", "a").UID || a.Subscriber == "" {
		t.Errorf("a is %+v", a)
	}
	if !live(second, "b") || len(second.Problems()) != 1 {
		t.Errorf("problems are %v", second.Problems())
	}
}

func TestChannelIsFixedWhenTheBrokerIsFirstReady(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "a.yaml")
	broker := func(channel string) string {
		return "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: shop, annotations: {penstock.dev/channel: " + channel + "}}\n"
	}
	o := Options{Paths: []string{path}, Dir: dir, Compile: config.Options{Channels: []string{config.ChannelDisk, config.ChannelMemory}}}
	for _, step := range []struct{ channel, is, reason string }{
		{"dsk", config.ChannelDisk, config.ReasonAnnotationInvalid},
		{"jetstream", config.ChannelJetStream, config.ReasonChannelUnavailable},
		{"memory", config.ChannelMemory, ""},
		{"disk", config.ChannelMemory, config.ReasonChannelImmutable},
		{"memory", config.ChannelMemory, ""},
	} {
		write(t, path, broker(step.channel))
		_, s := start(t, o)
		b, _ := s.Broker("default", "shop")
		if b.Channel != step.is || b.Reason != step.reason {
			t.Errorf("asked for %s: is %s, %s %s", step.channel, b.Channel, b.Reason, b.Message)
		}
	}
}

func TestIdentitiesThatCannotBeTrustedStopTheStart(t *testing.T) {
	dir := t.TempDir()
	start(t, Options{Dir: dir})
	path := filepath.Join(dir, identityFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"newer":     {bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1), "use a newer one"},
		"cut short": {good[:len(good)/2], "is damaged: restore it from a backup"},
		"empty":     {nil, "is damaged"},
		"edited":    {bytes.Replace(good, []byte(`"name":"default"`), []byte(`"name":"defaulu"`), 1), "is damaged"},
		"no state":  {[]byte(`{"version":1}`), "is damaged"},
	} {
		if bytes.Equal(c.data, good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(Options{Dir: dir}).Load()
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error is %v", name, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, c.data) {
			t.Errorf("%s: the file was touched", name)
		}
	}
	// White space does no harm: somebody may have looked at it with a formatter.
	var spaced bytes.Buffer
	spaced.WriteString("  ")
	spaced.Write(good)
	if err := os.WriteFile(path, spaced.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir}).Load(); err != nil {
		t.Error(err)
	}
}
