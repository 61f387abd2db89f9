package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// pendingEvents is a trigger's backlog as the broker's metrics have it.
func pendingEvents(ctx context.Context, metrics, trigger string) (uint64, error) {
	return scrape(ctx, metrics, gauge, `penstock_trigger_backlog{broker="default/default",trigger="default/`+trigger+`"}`)
}

// backlogOf is what is pending on triggers whose names begin like that, as the
// broker's metrics have it.
func backlogOf(ctx context.Context, metrics, prefix string) (uint64, error) {
	return scrape(ctx, metrics, sumOf, `penstock_trigger_backlog{broker="default/default",trigger="default/`+prefix)
}

// mallocs is how many objects the process has allocated on its heap since it
// began, by the Go runtime's own count; unknown without metrics. To ask costs
// some too: a few thousand objects in the difference of two answers.
func (t *target) mallocs(ctx context.Context) (float64, error) {
	if t.metrics == "" {
		return unknown, nil
	}
	n, err := scrape(ctx, t.metrics, gauge, "go_memstats_mallocs_total")
	return float64(n), err
}

// scrape has read find a name in the metrics of a process.
func scrape(ctx context.Context, metrics string, read func(metrics io.Reader, name string) (uint64, error), name string) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, metrics, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return read(resp.Body, name)
}

// gauge finds one sample in Prometheus' text format.
func gauge(metrics io.Reader, name string) (uint64, error) {
	lines := bufio.NewScanner(metrics)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			return uint64(n), err
		}
	}
	return 0, errors.Join(fmt.Errorf("no metric %s", name), lines.Err())
}

// sumOf adds up the samples in Prometheus' text format that begin like that.
func sumOf(metrics io.Reader, prefix string) (sum uint64, err error) {
	found := false
	lines := bufio.NewScanner(metrics)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			_, value, _ := strings.Cut(rest, " ")
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum, found = sum+uint64(n), true
		}
	}
	if !found {
		err = fmt.Errorf("no metric %s", prefix)
	}
	return sum, errors.Join(err, lines.Err())
}
