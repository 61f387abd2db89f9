package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
)

// controlled is a dispatcher as the API changes it: what it is asked for shows in
// the lanes.
type controlled struct {
	shop    *shop
	skipped channel.ID
	blocked []v1.BlockedKey
	total   int
	err     error
}

// lane changes the lane of one Trigger.
func (c *controlled) lane(trigger channel.UID, change func(*api.Lane)) error {
	if c.err != nil {
		return &api.Conflict{Err: c.err}
	}
	lanes := slices.Clone(*c.shop.lanes.Load())
	for i := range lanes {
		if lanes[i].Trigger == trigger {
			change(&lanes[i])
		}
	}
	c.shop.lanes.Store(&lanes)
	return nil
}

func (c *controlled) Pause(_ context.Context, trigger channel.UID, until time.Time) error {
	return c.lane(trigger, func(l *api.Lane) { l.PausedBy, l.PausedUntil = true, until })
}

func (c *controlled) Resume(_ context.Context, trigger channel.UID) error {
	return c.lane(trigger, func(l *api.Lane) { l.PausedBy, l.PausedUntil = false, time.Time{} })
}

func (c *controlled) Skip(_ context.Context, trigger channel.UID, id channel.ID) error {
	return c.lane(trigger, func(*api.Lane) { c.skipped = id })
}

func (c *controlled) Blocked(_ channel.UID, limit int) ([]v1.BlockedKey, int, error) {
	if c.err != nil {
		return nil, 0, &api.Conflict{Err: c.err}
	}
	return c.blocked[:min(limit, len(c.blocked))], c.total, nil
}

func TestATriggerIsPausedAndResumed(t *testing.T) {
	s := openShop(t)
	for _, step := range []struct{ args, says string }{
		{"pause orders --for 30m", "trigger default/orders paused until 2026-03-01 12:30:00, 12 pending\n"},
		{"pause default/orders", "trigger default/orders paused until it is resumed, 12 pending\n"},
		{"resume orders", "trigger default/orders resumed, 12 pending\n"},
	} {
		if got := must(t, strings.Fields(step.args)...); got != step.says {
			t.Errorf("%s: %q, want %q", step.args, got, step.says)
		}
	}
	for _, bad := range []struct {
		args, says string
		code       int
	}{
		{"pause orders --for soon", `for: "soon": want a duration`, ExitFailed}, {"pause orders --for=", "--for is empty", ExitUsage},
		{"pause", "accepts 1 arg", ExitUsage}, {"pause a/b/c", "want NAMESPACE/NAME", ExitUsage}, {"resume nobody", `no trigger "default/nobody"`, ExitFailed},
		{"skip orders", "accepts 2 arg", ExitUsage}, {"skip orders 42", "want the id of an event", ExitFailed}, {"get blocked orders --limit 0", "want 1 to 1000", ExitUsage},
	} {
		if r := penstock(t.Context(), "", strings.Fields(bad.args)...); r.code != bad.code || r.out != "" || !strings.Contains(r.err, bad.says) {
			t.Errorf("%s: %+v, want %d and %q", bad.args, r, bad.code, bad.says)
		}
	}
	s.control.err = errors.New("the annotation penstock.dev/paused holds it: change that")
	if r := penstock(t.Context(), "", "resume", "orders"); r.code != ExitFailed || r.err != "Error: trigger default/orders: the annotation penstock.dev/paused holds it: change that\n" {
		t.Errorf("%+v", r)
	}
}

func TestBlockedKeysAreListedAndSkipped(t *testing.T) {
	s := openShop(t)
	if r := penstock(t.Context(), "", "get", "blocked", "orders"); r.code != ExitDone || r.out != "" || r.err != "No blocked keys found.\n" {
		t.Errorf("%+v", r)
	}
	s.control.total = 2
	s.control.blocked = []v1.BlockedKey{
		{Key: "customer-7", ID: "1-42", Since: noon(), Attempts: 3, NextAttempt: noon().Add(time.Minute), Behind: 46},
		{Key: "x\x1b[31m", ID: "0-7", Since: noon(), Attempts: 1, NextAttempt: noon().Add(time.Minute)},
	}
	golden(t, "blocked.golden", must(t, "get", "blocked", "orders"))
	if got := must(t, "get", "blocked", "orders", "-o", "name"); got != "1-42\n0-7\n" {
		t.Errorf("names %q", got)
	}
	if r := penstock(t.Context(), "", "get", "blocked", "orders", "--limit", "1"); r.code != ExitDone || r.err != "There are 1 more.\n" {
		t.Errorf("%+v", r)
	}
	if got := must(t, "skip", "orders", "1-42"); got != "trigger default/orders 1-42 skipped: it is a dead letter now\n" || s.control.skipped.String() != "1-42" {
		t.Errorf("%q, skipped %v", got, s.control.skipped)
	}
}

func TestTheListSaysWhyATriggerWaits(t *testing.T) {
	s := openShop(t)
	since, next := noon().Add(-time.Hour), noon().Add(20*time.Second)
	for _, lane := range []struct {
		word string
		lane api.Lane
	}{
		{"paused", api.Lane{PausedByAnnotation: true, Waits: "paused by annotation"}},
		{"circuit", api.Lane{Circuit: v1.Circuit{State: "open", Since: &since, NextProbe: &next, Failures: 130, Reason: "status 503"}, Waits: "circuit open: status 503 since ..., next probe at ..."}},
		{"rate", api.Lane{Rate: 20, Waits: "rate 20/s"}},
		{"blocked", api.Lane{Ordered: true, BlockedKeys: 1, Waits: "key a blocked by 0-42: 3 attempts, next at ..."}},
		{"", api.Lane{}},
	} {
		lane.lane.Trigger = "uid-orders"
		s.lanes.Store(&[]api.Lane{lane.lane})
		row := strings.TrimRight(must(t, "get", "trigger", "orders"), "\n")
		if word := row[strings.LastIndexByte(row, ' ')+1:]; lane.word != "" && word != lane.word {
			t.Errorf("REASON is %q, want %q", word, lane.word)
		}
		if wide := must(t, "get", "trigger", "orders", "-o", "wide"); !strings.Contains(wide, lane.lane.Waits) {
			t.Errorf("-o wide does not say %q: %s", lane.lane.Waits, wide)
		}
	}
}
