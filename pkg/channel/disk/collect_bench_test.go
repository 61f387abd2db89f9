package disk

import (
	"fmt"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// BenchmarkCollectWithManyLanes is one look through a log with 10,000 lanes,
// of which each has something pending.
func BenchmarkCollectWithManyLanes(b *testing.B) {
	r := start(b, b.TempDir(), Options{FS: quickFS{}, SegmentSize: minSegmentSize, ScrubRate: -1})
	log := r.broker(channel.BrokerInfo{UID: "b"})
	fill(r, 400, 16, 900)
	for _, shard := range log.Shards() {
		_, next := log.Range(shard)
		change := channel.ShardProgress{Shard: shard, Scanned: next}
		for i := range 10_000 {
			set := roaring64.New()
			for p := uint64(i % 64); p < uint64(next); p += 64 {
				set.Add(max(p, 1))
			}
			change.Lanes = append(change.Lanes, channel.LaneProgress{Trigger: channel.UID(fmt.Sprint(i)), Added: set})
		}
		for lanes := change.Lanes; len(lanes) > 0; lanes = lanes[min(len(lanes), 300):] {
			change.Lanes = lanes[:min(len(lanes), 300)]
			if err := log.SaveProgress(b.Context(), []channel.ShardProgress{change}); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		r.lead(func() { r.collect(log.(*broker)) })
	}
	r.mu.Lock()
	b.ReportMetric(float64(len(r.segments)), "segments")
	r.mu.Unlock()
}
