package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// examine asks each channel how it is, for `penstock doctor`.
func examine(logs map[string]channel.Log) func() []channel.Finding {
	return func() []channel.Finding {
		var all []channel.Finding
		for _, kind := range slices.Sorted(maps.Keys(logs)) {
			if log, ok := logs[kind].(channel.Examiner); ok {
				all = append(all, log.Examine()...)
			}
		}
		return all
	}
}

// scrubRate is the flag as disk.Options have it: negative for off.
func scrubRate(text string) (int64, error) {
	rate, err := config.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("--scrub-rate %q: %w", text, err)
	}
	if rate == 0 {
		return -1, nil
	}
	return rate, nil
}
