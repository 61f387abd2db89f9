package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/event"
)

// got is one request that the ingress of a test took.
type got struct {
	path   string
	header http.Header
	body   string
	events []event.Event
}

// ingress is an HTTP server that decodes what it is sent and answers what the
// test says.
type ingress struct {
	*httptest.Server
	mu     sync.Mutex
	got    []got
	answer func(nth int, w http.ResponseWriter) // nil: 202
}

func openIngress(t *testing.T, answer func(int, http.ResponseWriter)) *ingress {
	t.Helper()
	in := &ingress{answer: answer}
	var decoder event.Decoder
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		events, _, err := decoder.Decode(r.Header, body)
		if err != nil {
			t.Errorf("the ingress got no event: %v", err)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.got = append(in.got, got{r.URL.Path, r.Header.Clone(), string(body), events})
		if in.answer != nil {
			in.answer(len(in.got), w)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(in.Close)
	t.Setenv("PENSTOCK_URL", in.URL)
	return in
}

func (in *ingress) requests() []got {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.got)
}

// ids lists the CloudEvents ids in the order they came.
func (in *ingress) ids() []string {
	var ids []string
	for _, r := range in.requests() {
		for _, e := range r.events {
			ids = append(ids, e.ID())
		}
	}
	return ids
}

func TestSendWritesTheWireOfEachMode(t *testing.T) {
	in := openIngress(t, nil)
	args := []string{"send", "--broker", "shop/orders", "--type", "order.created", "--source", "/tests", "--subject", "42 é",
		"--id", "1", "-e", "region=eu", "--data", `{"a": 1}`, "--mode"}
	for _, mode := range []string{"binary", "structured", "batch"} {
		if out := must(t, append(args, mode)...); out != "sent 1, accepted 1\n" {
			t.Errorf("%s: %q", mode, out)
		}
	}
	requests := in.requests()
	for _, r := range requests {
		if r.path != "/shop/orders" {
			t.Errorf("path %q", r.path)
		}
		if e := r.events[0]; e.Text("region") != "eu" || e.Subject() != "42 é" || string(e.Data()) != `{"a": 1}` || e.Text("time") == "" || e.Text("datacontenttype") != "application/json" {
			t.Errorf("event %s", r.body)
		}
	}
	binary := requests[0]
	for name, want := range map[string]string{"Ce-Id": "1", "Ce-Type": "order.created", "Ce-Source": "/tests", "Ce-Specversion": "1.0",
		"Ce-Region": "eu", "Ce-Subject": "42%20%C3%A9", "Content-Type": "application/json"} {
		if got := binary.header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("binary header %s: %q, want %q", name, got, want)
		}
	}
	if binary.body != `{"a": 1}` {
		t.Errorf("binary body %q", binary.body)
	}
	if got := requests[1].header.Get("Content-Type"); got != event.ContentTypeJSON || !strings.HasPrefix(requests[1].body, "{") {
		t.Errorf("structured: %s %s", got, requests[1].body)
	}
	if got := requests[2].header.Get("Content-Type"); got != event.ContentTypeBatch || !strings.HasPrefix(requests[2].body, "[{") {
		t.Errorf("batch: %s %s", got, requests[2].body)
	}
}

func TestSendGuessesTheContentTypeOfData(t *testing.T) {
	in := openIngress(t, nil)
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, []byte{0xff, 0xfe, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"application/json":          {"--data", "[1]"},
		"text/plain; charset=utf-8": {"--data", "hello"},
		"application/octet-stream":  {"--data-file", file},
		"application/xml":           {"--data", "<a/>", "--content-type", "application/xml"},
		"":                          nil,
	} {
		must(t, append([]string{"send", "--type", "t"}, args...)...)
		requests := in.requests()
		last := requests[len(requests)-1]
		if got := last.header.Get("Content-Type"); got != want {
			t.Errorf("%v: content type %q, want %q", args, got, want)
		}
		if args == nil && last.events[0].HasData() {
			t.Error("an event without --data has data")
		}
	}
	r := penstock(t.Context(), "from stdin", "send", "--type", "t", "--data-file", "-")
	requests := in.requests()
	if last := requests[len(requests)-1]; r.code != ExitDone || last.body != "from stdin" {
		t.Errorf("%+v, body %q", r, last.body)
	}
}

func TestSendManyGivesEachItsOwnID(t *testing.T) {
	in := openIngress(t, nil)
	must(t, "send", "--type", "t", "-n", "3", "--id", "x")
	if ids := in.ids(); !slices.Equal(ids, []string{"x-1", "x-2", "x-3"}) {
		t.Errorf("ids %v", ids)
	}
	must(t, "send", "--type", "t", "-n", "50", "-c", "8")
	ids := in.ids()[3:]
	slices.Sort(ids)
	if len(ids) != 50 || len(slices.Compact(ids)) != 50 {
		t.Errorf("%d ids, not 50 different ones", len(ids))
	}
}

func line(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":"t"}`, id)
}

func TestSendLeavesBadLinesOutAndSendsTheRestInOrder(t *testing.T) {
	in := openIngress(t, nil)
	input := line("1") + "\n\n" + `{"specversion":"1.0","id":"2"}` + "\n" + "not JSON \x1b[31m\n" + line("3") + "\r\n" + line("4") // no newline at the end
	r := penstock(t.Context(), input, "send", "-f", "-")
	if r.code != ExitFailed {
		t.Errorf("exit code %d, want 1: something was left out", r.code)
	}
	if ids := in.ids(); !slices.Equal(ids, []string{"1", "3", "4"}) {
		t.Errorf("sent %v, want 1, 3, 4", ids)
	}
	if !strings.HasPrefix(r.out, "sent 3, accepted 3, invalid 2") {
		t.Errorf("summary %q", r.out)
	}
	lines := strings.Split(r.err, "\n")
	if !strings.HasPrefix(lines[0], "line 3: ") || !strings.HasPrefix(lines[1], "line 4: ") || lines[2] != "Error: 2 of 5 events were not accepted" {
		t.Errorf("standard error %q", r.err)
	}
	if strings.Contains(r.err, "\x1b") {
		t.Error("a bad line reaches the terminal as it is")
	}
}

func TestSendReadsArraysAndPrettyPrintedEvents(t *testing.T) {
	var pretty strings.Builder
	for _, id := range []string{"1", "2"} {
		var v any
		if err := json.Unmarshal([]byte(line(id)), &v); err != nil {
			t.Fatal(err)
		}
		text, _ := json.MarshalIndent(v, "", "  ")
		pretty.Write(append(text, '\n'))
	}
	for name, c := range map[string]struct {
		input string
		ids   []string
		says  string
	}{
		"array":            {" \n[" + line("1") + ",\n" + line("2") + "]", []string{"1", "2"}, ""},
		"bad in an array":  {"[" + line("1") + `,{"id":"x"},` + line("2") + "]", []string{"1", "2"}, "event 2: "},
		"cut array":        {"[" + line("1") + "," + line("2"), []string{"1", "2"}, "does not end"},
		"broken array":     {"[" + line("1") + ",{oops}," + line("2") + "]", []string{"1"}, "event 2: "},
		"pretty":           {pretty.String(), []string{"1", "2"}, ""},
		"broken pretty":    {pretty.String() + "{\n  oops", []string{"1", "2"}, "event 3, at or before line"},
		"byte order mark":  {"\uFEFF" + line("1") + "\n" + line("2"), []string{"1", "2"}, ""},
		"bad first line":   {"{oops}\n" + line("1") + "\n" + line("2"), []string{"1", "2"}, "line 1: "},
		"nothing":          {"", nil, ""},
		"only white space": {" \n\n", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := openIngress(t, nil)
			r := penstock(t.Context(), c.input, "send", "-f", "-")
			if ids := in.ids(); !slices.Equal(ids, c.ids) {
				t.Errorf("sent %v, want %v", ids, c.ids)
			}
			wantCode := ExitDone
			if c.says != "" {
				wantCode = ExitFailed
			}
			if r.code != wantCode || !strings.Contains(r.err, c.says) {
				t.Errorf("%+v, want exit code %d saying %q", r, wantCode, c.says)
			}
		})
	}
}

func TestFlagsReplaceAttributesOfAFile(t *testing.T) {
	in := openIngress(t, nil)
	file := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(file, []byte(line("1")+"\n"+line("2")), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "send", "-f", file, "--source", "/replayed", "-e", "run=7", "--mode", "batch")
	requests := in.requests()
	if len(requests) != 1 {
		t.Fatalf("%d requests, want one batch", len(requests))
	}
	for _, e := range requests[0].events {
		if e.Source() != "/replayed" || e.Text("run") != "7" || e.Type() != "t" {
			t.Errorf("event %s from %s", e.ID(), e.Source())
		}
	}
	r := penstock(t.Context(), "", "send", "-f", file, "--source", "no uri \x7f")
	if r.code != ExitFailed || !strings.Contains(r.out, "invalid 2") {
		t.Errorf("a source that is none: %+v", r)
	}
}

func TestBatchesAreCutToSize(t *testing.T) {
	in := openIngress(t, nil)
	must(t, "send", "--type", "t", "-n", "25", "--mode", "batch", "--batch", "10")
	var sizes []int
	for _, r := range in.requests() {
		sizes = append(sizes, len(r.events))
	}
	if !slices.Equal(sizes, []int{10, 10, 5}) {
		t.Errorf("batches of %v", sizes)
	}
}

func TestRefusalsAreCountedByCodeWithTheirReason(t *testing.T) {
	openIngress(t, func(nth int, w http.ResponseWriter) {
		switch nth {
		case 1:
			http.Error(w, "ce-id: \x1b[31mmissing\nsecond line", 400)
		case 2, 3:
			http.Error(w, "quota is used up", http.StatusInsufficientStorage)
		case 4:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(307)
		case 5:
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(202)
		}
	})
	r := penstock(t.Context(), "", "send", "--type", "t", "-n", "6", "-o", "json")
	if r.code != ExitFailed || !strings.Contains(r.err, "5 of 6 events were not accepted") {
		t.Errorf("%+v", r)
	}
	var sum tally
	if err := json.Unmarshal([]byte(r.out), &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Sent != 6 || sum.Accepted != 1 || sum.Refused[400] != 1 || sum.Refused[507] != 2 || sum.Refused[307] != 1 || sum.Unanswered != 1 || sum.Retries != 0 {
		t.Errorf("summary %+v", sum)
	}
	if !slices.Contains(sum.Reasons, "507 quota is used up") || len(sum.Reasons) != 4 {
		t.Errorf("reasons %q", sum.Reasons)
	}
	r = penstock(t.Context(), "", "send", "--type", "t")
	if r.code != ExitDone {
		t.Errorf("%+v", r)
	}
}

// answers is a transport that answers from a list, in virtual time.
type answers struct {
	list []http.Response
	at   []time.Time
}

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	resp := a.list[len(a.at)]
	a.at = append(a.at, time.Now())
	resp.Body = http.NoBody
	return &resp, nil
}

func TestOnlyWhatWasRefusedForNowIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		codes := func(codes ...int) *answers {
			a := &answers{}
			for _, code := range codes {
				a.list = append(a.list, http.Response{StatusCode: code})
			}
			return a
		}
		for _, c := range []struct {
			answers       *answers
			code, retries int
		}{
			{codes(429, 503, 507, 202), 202, 3},
			{codes(503, 503, 503, 503, 202), 503, 3}, // --retry 3
			{codes(500, 202), 500, 0},                // may be stored
			{codes(400, 202), 400, 0},
			{codes(413, 202), 413, 0},
		} {
			p := newPoster("http://broker/default/default", "", event.Binary, 3, time.Minute, 1)
			p.http = &http.Client{Transport: c.answers}
			if out := p.post(t.Context(), []event.Event{cloudEvent(t, "1", "t", "")}); out.code != c.code || out.retries != c.retries {
				t.Errorf("%+v, want %d after %d retries", out, c.code, c.retries)
			}
		}
	})
}

func TestRetriesWaitAsLongAsTheBrokerAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusal := func(after string) http.Response {
			return http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {after}}}
		}
		start := time.Now()
		a := &answers{list: []http.Response{
			refusal("3"), refusal(start.Add(8 * time.Second).UTC().Format(http.TimeFormat)), refusal("soon"), refusal(""), refusal("99999999"), {StatusCode: 202}}}
		p := newPoster("http://broker/default/default", "", event.Binary, 10, time.Minute, 1)
		p.http = &http.Client{Transport: a}
		if out := p.post(t.Context(), []event.Event{cloudEvent(t, "1", "t", "")}); out.code != 202 || out.retries != 5 {
			t.Fatalf("%+v", out)
		}
		// 3 s; at the date; no sensible word: 200 ms, then 400 ms; no longer than 5 min.
		want := []time.Duration{0, 3 * time.Second, 8 * time.Second, 8200 * time.Millisecond, 8600 * time.Millisecond, 308600 * time.Millisecond}
		for i, at := range a.at {
			if got := at.Sub(start); got != want[i] {
				t.Errorf("try %d at %s, want %s", i+1, got, want[i])
			}
		}
	})
}

func TestRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit, err := parseRate("120/m")
		if err != nil {
			t.Fatal(err)
		}
		a := &answers{list: slices.Repeat([]http.Response{{StatusCode: 202}}, 5)}
		p := newPoster("http://broker/default/default", "", event.Binary, 0, time.Minute, 1)
		p.http = &http.Client{Transport: a}
		s := &sending{poster: p, limiter: rate.NewLimiter(limit, 1), warn: io.Discard}
		one := []event.Event{cloudEvent(t, "1", "t", "")}
		all := func(yield func(chunk) bool) {
			for range 5 {
				if !yield(chunk{events: one}) {
					return
				}
			}
		}
		start := time.Now()
		if err := s.run(t.Context(), all, 1); err != nil {
			t.Fatal(err)
		}
		for i, at := range a.at {
			if got, want := at.Sub(start), time.Duration(i)*500*time.Millisecond; got != want {
				t.Errorf("event %d at %s, want %s", i+1, got, want)
			}
		}
	})
}

func TestInterruptedSendSaysHowFarItCame(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	in := openIngress(t, func(nth int, w http.ResponseWriter) {
		w.WriteHeader(202)
		if nth == 3 {
			interrupt()
		}
	})
	r := penstock(ctx, "", "send", "--type", "t", "-n", "1000000", "--rate", "1000/s")
	if r.code != ExitFailed || r.err != "Error: interrupted\n" || !strings.HasPrefix(r.out, "sent ") {
		t.Errorf("%+v", r)
	}
	if n := len(in.requests()); n < 3 || n > 100 {
		t.Errorf("%d requests", n)
	}
}

func TestSendURLWithAPathIsUsedAsItIs(t *testing.T) {
	in := openIngress(t, nil)
	must(t, "send", "--type", "t", "--url", in.URL+"/some/where")
	must(t, "send", "--type", "t", "--url", in.URL+"/", "-b", "orders")
	if requests := in.requests(); requests[0].path != "/some/where" || requests[1].path != "/default/orders" {
		t.Errorf("paths %s and %s", requests[0].path, requests[1].path)
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add([]byte(line("1") + "\n" + line("2")))
	f.Add([]byte("[" + line("1") + "," + line("2") + "]"))
	f.Add([]byte("{\n\"id\":1}\n"))
	f.Add([]byte("\uFEFF [1,{}]"))
	f.Add([]byte("\n\n{oops\n" + line("1")))
	f.Fuzz(func(t *testing.T, input []byte) {
		items := 0
		for e, err := range readEvents(strings.NewReader(string(input))) {
			if items++; items > len(input)+1 {
				t.Fatal("more items than bytes")
			}
			if err == nil && (e.IsZero() || e.ID() == "" || e.Type() == "") {
				t.Fatal("neither an event nor an error")
			}
		}
	})
}
