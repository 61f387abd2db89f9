package ingress_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
)

// knowing is a channel that stores its events as 2-1, 2-2, ... and says of
// every n-th that it was there before; 0 is none.
func knowing(n int) appenderFunc {
	return func(_ context.Context, _ channel.UID, events []event.Event) ([]channel.Stored, error) {
		var all []channel.Stored
		for i := range events {
			all = append(all, channel.Stored{ID: channel.ID{Shard: 2, Position: channel.Position(i + 1)}, Duplicate: n > 0 && i%n == 0})
		}
		return all, nil
	}
}

func manyOf(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t"}`, i))
	}
	return "[" + strings.Join(all, ",") + "]"
}

func TestA202SaysWhereItsEventsAre(t *testing.T) {
	for prefix, want := range map[string]string{
		"":                         "/api/v1/events/2-1?broker=default/default",
		"http://127.0.0.1:8088":    "http://127.0.0.1:8088/api/v1/events/2-1?broker=default/default",
		"https://api.example/pen/": "https://api.example/pen/api/v1/events/2-1?broker=default/default",
		"https://" + strings.Repeat("long.", 40) + "example": "https://" + strings.Repeat("long.", 40) + "example/api/v1/events/2-1?broker=default/default",
	} {
		d := open(t, ingress.Options{Routes: only(knowing(0)), EventLink: prefix}, ingress.ServerOptions{})
		got := send(t, "POST", d.url, strings.NewReader("hello"), binary()...)
		if got.StatusCode != 202 || !slices.Equal(got.Header.Values("Penstock-Event"), []string{want}) {
			t.Errorf("prefix %q: %d, %q", prefix, got.StatusCode, got.Header.Values("Penstock-Event"))
		}
		if dup := got.Header.Values("Penstock-Duplicate"); dup != nil {
			t.Errorf("prefix %q: duplicate %q", prefix, dup)
		}
	}
}

func TestABatchHasALineForEachOfItsFirstSixteenEvents(t *testing.T) {
	for _, n := range []int{1, 2, 16, 17, 1000} {
		d := open(t, ingress.Options{Routes: only(knowing(0)), EventLink: "http://127.0.0.1:8088"}, ingress.ServerOptions{})
		got := send(t, "POST", d.url, strings.NewReader(manyOf(n)), "Content-Type: application/cloudevents-batch+json")
		var want []string
		for i := range min(n, 16) {
			want = append(want, fmt.Sprintf("http://127.0.0.1:8088/api/v1/events/2-%d?broker=default/default", i+1))
		}
		if got.StatusCode != 202 || !slices.Equal(got.Header.Values("Penstock-Event"), want) {
			t.Errorf("%d events: %d, %q", n, got.StatusCode, got.Header.Values("Penstock-Event"))
		}
	}
}

func TestA202SaysWhatWasThereBefore(t *testing.T) {
	for _, tt := range []struct {
		events, every int
		want          string
		counted       string
	}{
		{1, 1, "true", "1"},
		{1, 0, "", ""},
		{5, 1, "true", "5"},
		{5, 2, "3/5", "3"},
		{1000, 3, "334/1000", "334"},
		{0, 1, "", ""},
	} {
		d := open(t, ingress.Options{Routes: only(knowing(tt.every))}, ingress.ServerOptions{})
		got := send(t, "POST", d.url, strings.NewReader(manyOf(tt.events)), "Content-Type: application/cloudevents-batch+json")
		if got.StatusCode != 202 || got.Header.Get("Penstock-Duplicate") != tt.want {
			t.Errorf("every %d of %d: %d, %q, want %q", tt.every, tt.events, got.StatusCode, got.Header.Get("Penstock-Duplicate"), tt.want)
		}
		if tt.counted != "" {
			d.wantMetric(t, `penstock_events_duplicate_total{broker="default/default"} `+tt.counted)
			d.wantMetric(t, fmt.Sprintf(`penstock_events_received_total{broker="default/default",code="202"} %d`, tt.events))
		} else if strings.Contains(d.metrics(), "\npenstock_events_duplicate_total") {
			t.Errorf("every %d of %d: duplicates are counted", tt.every, tt.events)
		}
	}
}

func TestARefusalHasNoReceipt(t *testing.T) {
	d := open(t, ingress.Options{Routes: only(appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
		return nil, &channel.Refused{Err: channel.ErrFull}
	}))}, ingress.ServerOptions{})
	got := send(t, "POST", d.url, strings.NewReader("hello"), binary()...)
	if got.StatusCode != 429 || got.Header.Get("Penstock-Event") != "" || got.Header.Get("Penstock-Duplicate") != "" {
		t.Errorf("%d, %v", got.StatusCode, got.Header)
	}
}
