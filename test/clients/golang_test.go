package clients

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/penstock-events/penstock/test/e2e/sink"
)

const (
	concurrency = 8
	batchSize   = 20
	again       = 20 * time.Millisecond // between two attempts
)

// message is what is sent at once.
type message struct {
	lines []line
	send  func(context.Context) error // nil after a 202
}

// golang sends the webhook examples of a file with the CloudEvents SDK for Go.
func golang(examples string) sender {
	return func(t *testing.T, url string, tell func(line)) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(url))
		if err != nil {
			return err
		}
		all, err := messages(examples, client, url)
		if err != nil {
			return err
		}
		queue := make(chan message, len(all))
		for _, m := range all {
			queue <- m
		}
		close(queue)
		var workers sync.WaitGroup
		for range concurrency {
			workers.Go(func() {
				for m := range queue {
					if err := until202(ctx, m); err != nil {
						cancel(err)
						return
					}
					for _, l := range m.lines {
						tell(l)
					}
				}
			})
		}
		workers.Wait()
		return context.Cause(ctx)
	}
}

// errRefused is an answer that sending again would not change.
var errRefused = errors.New("refused for good")

func until202(ctx context.Context, m message) error {
	for {
		err := m.send(ctx)
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(again):
		}
	}
}

func outcome(status int, err error) error {
	switch {
	case status == http.StatusAccepted:
		return nil
	case status/100 == 4 && status != http.StatusTooManyRequests:
		return fmt.Errorf("%w: status %d: %v", errRefused, status, err)
	}
	return fmt.Errorf("status %d: %w", status, err)
}

// messages are all examples in binary, in structured and in batched mode.
func messages(examples string, client cloudevents.Client, url string) ([]message, error) {
	var out []message
	for mode, force := range map[string]func(context.Context) context.Context{
		"binary": binding.WithForceBinary, "structured": binding.WithForceStructured,
	} {
		events, err := webhooks(examples, mode)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			l := describe(e, e.Data())
			out = append(out, message{[]line{l}, func(ctx context.Context) error {
				err := client.Send(force(ctx), e)
				var result *cehttp.Result
				if cloudevents.ResultAs(err, &result) {
					return outcome(result.StatusCode, err)
				}
				return fmt.Errorf("no answer: %w", err)
			}})
		}
	}
	events, err := webhooks(examples, "batch")
	if err != nil {
		return nil, err
	}
	for batch := range slices.Chunk(events, batchSize) {
		m, err := batched(batch, url)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// batched writes a batch with the SDK. It removes blanks from JSON on the way,
// so what was sent is read from the body it made.
func batched(events []event.Event, url string) (message, error) {
	r, err := cehttp.NewHTTPRequestFromEvents(context.Background(), url, events)
	if err != nil {
		return message{}, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return message{}, err
	}
	var sent []struct {
		Data   json.RawMessage
		Base64 []byte `json:"data_base64"`
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return message{}, err
	}
	m := message{send: func(ctx context.Context) error {
		again := r.Clone(ctx)
		again.Body = io.NopCloser(bytes.NewReader(body))
		again.ContentLength = int64(len(body))
		resp, err := http.DefaultClient.Do(again)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return outcome(resp.StatusCode, errors.New(string(text)))
	}}
	for i, e := range events {
		data := []byte(sent[i].Data)
		if data == nil {
			data = sent[i].Base64
		}
		m.lines = append(m.lines, describe(e, data))
	}
	return m, nil
}

// webhooks makes an event of each example. Some carry their data compressed,
// so that there are bytes that are no text.
func webhooks(examples, mode string) ([]event.Event, error) {
	text, err := os.ReadFile(examples)
	if err != nil {
		return nil, err
	}
	var hooks []struct {
		Name     string
		Examples []json.RawMessage
	}
	if err := json.Unmarshal(text, &hooks); err != nil {
		return nil, err
	}
	var out []event.Event
	for _, hook := range hooks {
		for i, payload := range hook.Examples {
			var p struct {
				Action     string
				Repository struct {
					FullName string `json:"full_name"`
				}
				Organization struct{ Login string }
			}
			// Some payloads have a text where others have an object.
			var other *json.UnmarshalTypeError
			if err := json.Unmarshal(payload, &p); err != nil && !errors.As(err, &other) {
				return nil, err
			}
			e := event.New()
			e.SetID(fmt.Sprintf("go-%s-%s-%d", mode, hook.Name, i))
			e.SetType("com.github." + strings.TrimSuffix(hook.Name+"."+p.Action, "."))
			e.SetSource("/github/" + firstOf(p.Repository.FullName, p.Organization.Login, "app"))
			// Nothing that a header must escape: this SDK neither writes nor reads
			// the percent-encoding of the HTTP binding (3.1.3.2).
			e.SetSubject(fmt.Sprintf("%s/%d", hook.Name, i))
			e.SetTime(time.Date(2024, 1, 1, 0, 0, i, 123_456_789, time.UTC))
			if p.Action != "" {
				e.SetExtension("githubaction", p.Action)
			}
			contentType, data := "application/json", []byte(payload)
			if i%5 == 3 {
				contentType, data = "application/gzip", compressed(payload)
			}
			if err := e.SetData(contentType, data); err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func firstOf(texts ...string) string {
	i := slices.IndexFunc(texts, func(s string) bool { return s != "" })
	return texts[i]
}

func compressed(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data) // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// describe is the line of an event whose data was sent as these bytes.
func describe(e event.Event, data []byte) line {
	action, _ := e.Extensions()["githubaction"].(string)
	l := line{
		ID: e.ID(), SHA256: sink.Sum(data), SpecVersion: e.SpecVersion(), Type: e.Type(), Source: e.Source(), Subject: e.Subject(),
		Time: e.Time(), DataContentType: e.DataContentType(), GithubAction: action,
	}
	if strings.HasPrefix(l.Type, "com.github.pull_request") || action == "created" {
		l.Wants = append(l.Wants, "reviews")
	}
	if action != "" && action != "opened" && strings.HasSuffix(l.Source, "/Hello-World") {
		l.Wants = append(l.Wants, "hello-world")
	}
	return l
}
