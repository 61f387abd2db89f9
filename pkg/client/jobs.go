package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

// jobPaths are where a job of each kind is begun.
var jobPaths = map[string][]string{
	v1.JobRedrive: {"deadletters", "redrive"},
	v1.JobDiscard: {"deadletters", "discard"},
	v1.JobReplay:  {"replays"},
}

// BeginJob begins a redrive, discard or replay.
func (c *Client) BeginJob(ctx context.Context, kind string, q v1.JobRequest) (v1.Job, error) {
	var j v1.Job
	q.DryRun = false
	err := c.post(ctx, &j, q, jobPaths[kind]...)
	return j, err
}

// PreviewJob counts what such a job would be about.
func (c *Client) PreviewJob(ctx context.Context, kind string, q v1.JobRequest) (v1.JobPreview, error) {
	var p v1.JobPreview
	q.DryRun = true
	err := c.post(ctx, &p, q, jobPaths[kind]...)
	return p, err
}

// JobQuery narrows a list of jobs. The zero value lists all.
type JobQuery struct {
	Trigger   string // namespace/name
	Namespace string
}

// Jobs lists jobs, the newest first.
func (c *Client) Jobs(ctx context.Context, q JobQuery) ([]v1.Job, error) {
	var list v1.JobList
	err := c.get(ctx, &list, values("trigger", q.Trigger, "namespace", q.Namespace), "jobs")
	return list.Items, err
}

// Job gets one job.
func (c *Client) Job(ctx context.Context, id string) (v1.Job, error) {
	var j v1.Job
	err := c.get(ctx, &j, nil, "jobs", id)
	return j, err
}

// CancelJob ends a job.
func (c *Client) CancelJob(ctx context.Context, id string) (v1.Job, error) {
	var j v1.Job
	err := c.post(ctx, &j, nil, "jobs", id, "cancel")
	return j, err
}

// ResumeJob has a job go on that was cancelled or failed.
func (c *Client) ResumeJob(ctx context.Context, id string) (v1.Job, error) {
	var j v1.Job
	err := c.post(ctx, &j, nil, "jobs", id, "resume")
	return j, err
}

// post sends a JSON body, nil for none, and reads the answer.
func (c *Client) post(ctx context.Context, into, body any, path ...string) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := c.request(ctx, http.MethodPost, nil, bytes.NewReader(text), path...)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.do(req, into)
}
