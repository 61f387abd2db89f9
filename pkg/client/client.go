// Package client is a typed client of Penstock's API, as the command line and
// tests use it.
//
// It promises that an answer other than 2xx becomes an *Error with the
// server's own words, that a server which cannot be reached becomes an
// *Unreachable, and that no answer, however long, is read past a bound. It
// does not retry and it does not log.
//
// A Client may be used by any number of goroutines. A Tail belongs to one.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

// maxAnswer bounds one answer: a page of 1,000 dead letters without data, or
// one with 1 MiB of data in base64, is well below it.
const maxAnswer = 64 << 20

// DefaultURL is where `penstock serve` has its API if nothing else is said.
const DefaultURL = "http://127.0.0.1:8088"

// Client talks to one server.
type Client struct {
	// Incomplete, if not nil, is told which dispatchers of a cluster an answer
	// lacks the part of. It is set before the first call.
	Incomplete func(dispatchers string)

	base *url.URL
	http *http.Client
}

// Error is an answer of the server that is not 2xx.
type Error struct {
	Code    int    // HTTP status
	Message string // one line, as the server sent it: clean it before it meets a terminal
}

func (e *Error) Error() string { return e.Message + " (" + strconv.Itoa(e.Code) + ")" }

// Unreachable says that no answer came at all.
type Unreachable struct {
	URL string // of the API, without a path
	Err error
}

func (u *Unreachable) Error() string { return "reach " + u.URL + ": " + u.Err.Error() }
func (u *Unreachable) Unwrap() error { return u.Err }

// New takes the URL of the API port, as in http://127.0.0.1:8088. A nil
// httpClient means http.DefaultClient; it should have no Timeout of its own,
// which would cut tails: calls end with their context.
func New(base string, httpClient *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("API address %q: want a URL such as %s", base, DefaultURL)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("API address %q: want a URL such as %s", base, DefaultURL)
	}
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return &Client{base: u, http: httpClient}, nil
}

// URL is the address the client was made with.
func (c *Client) URL() string { return c.base.String() }

// Brokers lists all Brokers.
func (c *Client) Brokers(ctx context.Context) ([]v1.Broker, error) {
	var list v1.BrokerList
	err := c.get(ctx, &list, nil, "brokers")
	return list.Items, err
}

// Broker gets one Broker.
func (c *Client) Broker(ctx context.Context, namespace, name string) (v1.Broker, error) {
	var b v1.Broker
	err := c.get(ctx, &b, nil, "brokers", namespace, name)
	return b, err
}

// TriggerQuery narrows a list of Triggers. The zero value lists all.
type TriggerQuery struct {
	Broker    string // namespace/name
	Namespace string
}

// Triggers lists Triggers.
func (c *Client) Triggers(ctx context.Context, q TriggerQuery) ([]v1.Trigger, error) {
	var list v1.TriggerList
	err := c.get(ctx, &list, values("broker", q.Broker, "namespace", q.Namespace), "triggers")
	return list.Items, err
}

// Trigger gets one Trigger.
func (c *Client) Trigger(ctx context.Context, namespace, name string) (v1.Trigger, error) {
	var t v1.Trigger
	err := c.get(ctx, &t, nil, "triggers", namespace, name)
	return t, err
}

// Pause stops a Trigger's deliveries, for a duration such as 30m or, with "",
// until Resume. It answers how the Trigger is then, as Resume and Skip do.
func (c *Client) Pause(ctx context.Context, namespace, name, duration string) (v1.Trigger, error) {
	return c.control(ctx, v1.PauseRequest{For: duration}, namespace, name, "pause")
}

// Resume ends a pause that somebody asked for.
func (c *Client) Resume(ctx context.Context, namespace, name string) (v1.Trigger, error) {
	return c.control(ctx, struct{}{}, namespace, name, "resume")
}

// Skip buries the event that a key of an ordered Trigger waits for.
func (c *Client) Skip(ctx context.Context, namespace, name, id string) (v1.Trigger, error) {
	return c.control(ctx, v1.SkipRequest{ID: id}, namespace, name, "skip")
}

// Blocked lists blocked keys of an ordered Trigger, at most limit; 0 means the
// server's default, 100.
func (c *Client) Blocked(ctx context.Context, namespace, name string, limit int) (v1.BlockedList, error) {
	text := ""
	if limit > 0 {
		text = strconv.Itoa(limit)
	}
	var list v1.BlockedList
	err := c.get(ctx, &list, values("limit", text), "triggers", namespace, name, "blocked")
	return list, err
}

// control asks for a change of a Trigger's delivery.
func (c *Client) control(ctx context.Context, body any, namespace, name, action string) (v1.Trigger, error) {
	var t v1.Trigger
	text, err := json.Marshal(body)
	if err != nil {
		return t, err
	}
	req, err := c.request(ctx, http.MethodPost, nil, bytes.NewReader(text), "triggers", namespace, name, action)
	if err != nil {
		return t, err
	}
	req.Header.Set("Content-Type", "application/json")
	return t, c.do(req, &t)
}

// DeadLetterQuery asks for one page of dead letters.
type DeadLetterQuery struct {
	Trigger string // namespace/name; "" for all
	Broker  string // namespace/name; "" for all
	Limit   int    // at most 1,000; 0 means the server's default, 100
	Cursor  string // Next of the page before, "" for the first
}

// DeadLetters lists dead letters, oldest first within a Broker.
func (c *Client) DeadLetters(ctx context.Context, q DeadLetterQuery) (v1.DeadLetterList, error) {
	limit := ""
	if q.Limit > 0 {
		limit = strconv.Itoa(q.Limit)
	}
	var list v1.DeadLetterList
	err := c.get(ctx, &list, values("trigger", q.Trigger, "broker", q.Broker, "limit", limit, "cursor", q.Cursor), "deadletters")
	return list, err
}

// DeadLetterGroups counts the dead letters of a Trigger, of a Broker, or, where
// both are "", all of them, by Trigger and reason. Names are namespace/name.
func (c *Client) DeadLetterGroups(ctx context.Context, trigger, broker string) ([]v1.DeadLetterGroup, error) {
	var list v1.DeadLetterGroupList
	err := c.get(ctx, &list, values("trigger", trigger, "broker", broker), "deadletters", "groups")
	return list.Items, err
}

// DeadLetter gets one dead letter with its event.
func (c *Client) DeadLetter(ctx context.Context, namespace, trigger, id string) (v1.DeadLetter, error) {
	var d v1.DeadLetter
	err := c.get(ctx, &d, nil, "deadletters", namespace, trigger, id)
	return d, err
}

// Problems lists what is wrong in the configuration.
func (c *Client) Problems(ctx context.Context) ([]v1.Problem, error) {
	var list v1.ProblemList
	err := c.get(ctx, &list, nil, "problems")
	return list.Items, err
}

// Doctor asks the broker how it is.
func (c *Client) Doctor(ctx context.Context) (v1.Diagnosis, error) {
	var d v1.Diagnosis
	err := c.get(ctx, &d, nil, "doctor")
	return d, err
}

// Explain asks which Triggers of a Broker an event would go to. The event is
// an HTTP message in any mode of the CloudEvents HTTP binding: its headers
// and its body.
func (c *Client) Explain(ctx context.Context, namespace, name string, header http.Header, body []byte) (v1.Explanation, error) {
	var x v1.Explanation
	req, err := c.request(ctx, http.MethodPost, nil, bytes.NewReader(body), "brokers", namespace, name, "explain")
	if err != nil {
		return x, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	return x, c.do(req, &x)
}

func (c *Client) get(ctx context.Context, into any, query url.Values, path ...string) error {
	req, err := c.request(ctx, http.MethodGet, query, nil, path...)
	if err != nil {
		return err
	}
	return c.do(req, into)
}

// request builds a request below /api/v1. Each element of path is one
// segment, whatever characters it has.
func (c *Client) request(ctx context.Context, method string, query url.Values, body io.Reader, path ...string) (*http.Request, error) {
	target := c.base.JoinPath("api", "v1")
	var escaped strings.Builder
	for _, segment := range path {
		if segment == "" || segment == "." || segment == ".." {
			return nil, fmt.Errorf("%q is not a name", segment)
		}
		target.Path += "/" + segment
		escaped.WriteString("/" + url.PathEscape(segment))
	}
	target.RawPath = c.base.JoinPath("api", "v1").EscapedPath() + escaped.String()
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/x-ndjson")
	return req, nil
}

func (c *Client) do(req *http.Request, into any) error {
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return c.unreachable(err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("answer of %s is longer than %d bytes", c.URL(), maxAnswer)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("answer of %s is not Penstock's: %w", c.URL(), err)
	}
	return nil
}

// send performs a request; any answer but 2xx becomes an error.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode/100 == 2 {
		if lacks := resp.Header.Get("Penstock-Incomplete"); lacks != "" && c.Incomplete != nil {
			c.Incomplete(lacks)
		}
		return resp, nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var e v1.Error
	if json.Unmarshal(body, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("%s answers %s: is that Penstock's API?", c.URL(), resp.Status)
	}
	return nil, &Error{Code: resp.StatusCode, Message: e.Error}
}

// unreachable wraps a transport error without the method and URL that
// net/http puts in front. A context's own end stays recognisable.
func (c *Client) unreachable(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &Unreachable{URL: c.URL(), Err: err}
}

// values builds a query of the pairs whose value is not empty.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}
