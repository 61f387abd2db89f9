//go:build !race

// The oracle pulls in a large part of Kubernetes, which the race detector's
// build need not wait for.

package requestreply_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	knative "knative.dev/eventing/pkg/requestreply"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/requestreply"
)

// Ids that Knative has made, whole and damaged in every way: we say of each
// what Knative says with the same key.
func TestIdsVerifyAsTheyDoInKnative(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	aes := []byte(key('k'))
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, secret), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, secret, "default.rr.key-0"), aes, 0o600))
	f, err := filter.CompileWith(
		filter.Spec{Filters: []filter.Dialect{{CESQL: fmt.Sprintf("KN_VERIFY_CORRELATION_ID(replyid, %q, %q, %q, 0, 1)", "rr", "default", secret)}}},
		filter.Options{Keys: requestreply.Open(requestreply.Options{Dir: dir})})
	must(t, err)

	ids := []string{"", ":", "::", ":::", "a:b:0", "a:b:c", "1:" + strings.Repeat("A", 40) + ":0"}
	for i := range 200 {
		ce := cloudevents.NewEvent()
		ce.SetID(fmt.Sprintf("id %d%s", i, strings.Repeat("x", rng.IntN(100))))
		must(t, knative.SetCorrelationId(&ce, "replyid", aes, rng.IntN(5)))
		id := ce.Extensions()["replyid"].(string)
		ids = append(ids, id)
		for range 10 {
			at := rng.IntN(len(id))
			ids = append(ids, id[:at]+string(rune(' '+rng.IntN(95)))+id[at+1:], id[:at]+id[at+1:], id[:at])
		}
	}
	verified := 0
	for _, id := range ids {
		want, err := knative.VerifyReplyId(id, aes)
		want = want && err == nil
		if parts := strings.Split(id, ":"); want {
			var index int32
			_, err := fmt.Sscanf(parts[2]+" end", "%d end", &index) // as its CESQL function does
			want = err == nil
		}
		var b event.Builder
		e, err := b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "t").Set("replyid", id).Build()
		if err != nil {
			continue
		}
		if got := f.Match(e); got != want {
			t.Errorf("%q: %v, Knative says %v", id, got, want)
		}
		if want {
			verified++
		}
	}
	if verified < 200 {
		t.Errorf("%d of %d ids verified", verified, len(ids))
	}
}
