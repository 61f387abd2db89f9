package history

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
)

// Collect asks a broker's API for all dead letters and all Triggers' counters
// and records them. It is for the end of a run.
func (r *Recorder) Collect(ctx context.Context, api string) error {
	for cursor := ""; ; {
		var page v1.DeadLetterList
		address := api + "/api/v1/deadletters?limit=1000"
		if cursor != "" {
			address += "&cursor=" + url.QueryEscape(cursor)
		}
		if err := get(ctx, address, &page); err != nil {
			return err
		}
		for _, d := range page.Items {
			r.Dead(d.Trigger, d.EventID, Dead{Attempts: d.Attempts, Code: d.Code, Reason: d.Reason})
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	var triggers v1.TriggerList
	if err := get(ctx, api+"/api/v1/triggers", &triggers); err != nil {
		return err
	}
	for _, t := range triggers.Items {
		r.Final(t.FullName(), Final{
			Delivered: int64(t.Delivered), Dead: int64(t.Dead), Cancelled: int64(t.Cancelled), Pending: int64(t.Backlog),
		})
	}
	return nil
}

func get(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", address, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("GET %s: %w", address, err)
	}
	return nil
}
