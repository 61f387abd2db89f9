package dedup_test

import (
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

// sent is an event with this identity.
func sent(t testing.TB, source, id string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set(event.AttrID, id).Set(event.AttrSource, source).Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t")
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}
