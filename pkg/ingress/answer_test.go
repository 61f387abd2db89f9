package ingress_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
)

const structured = `{"specversion":"1.0","id":"1","source":"/test","type":"test.happened","data":{"n":1}}`

func TestAnswerSaysWhatBecameOfTheEvent(t *testing.T) {
	const json = "Content-Type: application/cloudevents+json"
	const batch = "Content-Type: application/cloudevents-batch+json"
	tests := []struct {
		name    string
		method  string // POST
		path    string // /default/default
		headers []string
		body    string
		code    int
		stored  int
		reason  string // part of it
	}{
		{name: "binary", headers: binary(), body: "hello", code: 202, stored: 1},
		{name: "binary without content type", headers: binary()[:4], body: "hello", code: 202, stored: 1},
		{name: "binary without body", headers: binary(), code: 202, stored: 1},
		{name: "thrift", headers: append(binary()[:4], "Content-Type: application/x-thrift"), body: "{}", code: 202, stored: 1},
		{name: "structured", headers: []string{json}, body: structured, code: 202, stored: 1},
		{name: "structured with charset", headers: []string{json + "; charset=UTF-8"}, body: structured, code: 202, stored: 1},
		{name: "version 0.3", headers: append(binary()[1:], "Ce-Specversion: 0.3"), body: "hello", code: 202, stored: 1},
		{name: "batch", headers: []string{batch}, body: "[" + structured + "," + structured + "]", code: 202, stored: 2},
		{name: "empty batch", headers: []string{batch}, body: "[]", code: 202},
		{name: "batch with one bad event", headers: []string{batch}, body: "[" + structured + `,{"specversion":"1.0"}]`, code: 400, reason: "event 2"},
		{name: "batch of 1001", headers: []string{batch}, body: "[" + strings.Repeat(structured+",", 1000) + structured + "]", code: 400, reason: "1000"},
		{name: "unknown version 19.0", headers: append(binary()[1:], "Ce-Specversion: 19.0"), code: 400, reason: "specversion"},
		{name: "unknown version 9000.1", headers: append(binary()[1:], "Ce-Specversion: 9000.1"), code: 400, reason: "specversion"},
		{name: "no version", headers: binary()[1:], code: 400, reason: "specversion"},
		{name: "no id", headers: append(binary("Ce-Other: x")[:1], binary()[2:]...), code: 400, reason: "ce-id"},
		{name: "nothing of a CloudEvent", body: "hello", code: 400, reason: "missing"},
		{name: "attribute sent twice", headers: binary("Ce-Id: 2"), code: 400, reason: "ce-id"},
		{name: "JSON that is none", headers: []string{json}, body: `{"specversion":`, code: 400, reason: "JSON"},
		{name: "JSON nested deeply", headers: []string{json}, body: `{"specversion":"1.0","id":"1","source":"/t","type":"t","data":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", code: 400, reason: "deep"},
		{name: "XML format", headers: []string{"Content-Type: application/cloudevents+xml"}, body: "<event/>", code: 415},

		{name: "one trailing slash", path: "/default/default/", headers: binary(), code: 202, stored: 1},
		{name: "query is no part of the name", path: "/default/default?a=b;c", headers: binary(), code: 202, stored: 1},
		{name: "root", path: "/", headers: binary(), code: 404, reason: "/NAMESPACE/BROKER"},
		{name: "unknown broker", path: "/default/other", headers: binary(), code: 404},
		{name: "unknown namespace", path: "/other/default", headers: binary(), code: 404},
		{name: "one segment", path: "/default", headers: binary(), code: 400, reason: "path"},
		{name: "three segments", path: "/default/default/x", headers: binary(), code: 400, reason: "path"},
		{name: "two trailing slashes", path: "/default/default//", headers: binary(), code: 400, reason: "path"},
		{name: "upper case", path: "/Default/default", headers: binary(), code: 404},
		{name: "encoded slash", path: "/default/default%2f..%2fdefault", headers: binary(), code: 404},
		{name: "encoded dots", path: "/default/%2e%2e", headers: binary(), code: 404},
		{name: "encoded letter", path: "/default/defaul%74", headers: binary(), code: 404},
		{name: "NUL", path: "/default/default%00", headers: binary(), code: 404},

		{name: "GET", method: "GET", code: 405, reason: "POST"},
		{name: "GET root", method: "GET", path: "/", code: 405},
		{name: "HEAD", method: "HEAD", code: 405},
		{name: "PUT", method: "PUT", headers: binary(), body: "hello", code: 405},
		{name: "DELETE", method: "DELETE", code: 405},
		{name: "TRACE", method: "TRACE", code: 405},
		{name: "unheard-of method", method: "BREW", code: 405},

		{name: "gzip", headers: binary("Content-Encoding: gzip"), body: "hello", code: 415, reason: "compression"},
		{name: "identity, then gzip", headers: binary("Content-Encoding: identity", "Content-Encoding: gzip"), body: "hello", code: 415},
		{name: "identity", headers: binary("Content-Encoding: Identity"), body: "hello", code: 202, stored: 1},
		{name: "upgrade is ignored", headers: binary("Connection: Upgrade", "Upgrade: h2c"), body: "hello", code: 202, stored: 1},
		{name: "last hop used up", headers: binary("Ce-Knativebrokerttl: 1"), code: 400, reason: "loop"},
		{name: "TTL that is no number", headers: binary("Ce-Knativebrokerttl: many"), code: 400, reason: "number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s stored
			d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
			if tt.method == "" {
				tt.method = http.MethodPost
			}
			if tt.path == "" {
				tt.path = "/default/default"
			}
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body)
			}
			got := send(t, tt.method, "http://"+d.addr+tt.path, body, tt.headers...)
			if got.StatusCode != tt.code || len(s.all()) != tt.stored {
				t.Errorf("status %d, %d stored; want %d, %d; %s", got.StatusCode, len(s.all()), tt.code, tt.stored, got.text)
			}
			if allow := got.Header.Get("Allow"); allow != "POST, OPTIONS" {
				t.Errorf("Allow: %q", allow)
			}
			switch {
			case tt.code == 202 && got.text != "":
				t.Errorf("202 has a body: %q", got.text)
			case tt.code != 202 && tt.method != "HEAD" && (!strings.HasSuffix(got.text, "\n") || strings.Count(got.text, "\n") != 1 || len(got.text) < 10):
				t.Errorf("reason is not one line: %q", got.text)
			case !strings.Contains(got.text, tt.reason):
				t.Errorf("reason %q does not say %q", got.text, tt.reason)
			}
		})
	}
}

func TestChannelsAnswerBecomesTheStatus(t *testing.T) {
	refused := func(err error, wait time.Duration) error { return &channel.Refused{Err: err, RetryAfter: wait} }
	tests := []struct {
		name       string
		err        error
		code       int
		retryAfter string
	}{
		{"stored", nil, 202, ""},
		{"full", refused(channel.ErrFull, 2*time.Second), 429, "2"},
		{"full, soon", refused(channel.ErrFull, time.Millisecond), 429, "1"},
		{"full, no wait named", refused(channel.ErrFull, 0), 429, "1"},
		{"full, fraction of a second", refused(fmt.Errorf("shard 3: %w", channel.ErrFull), 2100*time.Millisecond), 429, "3"},
		{"quota", refused(channel.ErrQuota, 0), 507, "10"},
		{"not available", refused(channel.ErrUnavailable, 5*time.Second), 503, "5"},
		{"closed", refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, channel.ErrClosed), 0), 503, "1"},
		{"too large", refused(channel.ErrTooLarge, 0), 413, ""},
		{"broker removed meanwhile", refused(channel.ErrNoBroker, 0), 404, ""},
		{"refused for another reason", refused(errDisk, 0), 503, "1"},
		{"unknown", fmt.Errorf("append: %w: %w", channel.ErrUnknown, errDisk), 500, ""},
		{"unknown wins over a refusal of a part", errors.Join(refused(channel.ErrFull, 0), channel.ErrUnknown), 500, ""},
		{"not refused, so unknown", channel.ErrFull, 500, ""},
		{"anything else", errDisk, 500, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := open(t, ingress.Options{Routes: only(appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
				return nil, tt.err
			}))}, ingress.ServerOptions{})
			got := send(t, "POST", d.url, strings.NewReader("hello"), binary()...)
			if got.StatusCode != tt.code || got.Header.Get("Retry-After") != tt.retryAfter {
				t.Errorf("status %d, Retry-After %q; want %d, %q", got.StatusCode, got.Header.Get("Retry-After"), tt.code, tt.retryAfter)
			}
			if strings.Contains(got.text, "/var/lib") {
				t.Errorf("the sender is told our paths: %q", got.text)
			}
			d.wantMetric(t, fmt.Sprintf(`penstock_events_received_total{broker="default/default",code="%d"} 1`, tt.code))
			d.wantMetric(t, fmt.Sprintf(`kn_eventing_dispatch_duration_seconds_count{http_response_status_code="%d",kn_broker_name="default",kn_broker_namespace="default",messaging_destination_name="broker:default.default"} 1`, tt.code))
			if logged := strings.Contains(d.log.String(), "unknown outcome"); logged != (tt.code == 500) {
				t.Errorf("log: %q", d.log)
			}
		})
	}
}

func TestBrokerThatIsNotReadyIsRetriedLater(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: brokers{"default/default": {Appender: &s, Ready: errors.New("log is being verified")}}.find}, ingress.ServerOptions{})
	got := send(t, "POST", d.url, strings.NewReader("hello"), binary()...)
	if got.StatusCode != 503 || got.Header.Get("Retry-After") != "1" || !strings.Contains(got.text, "log is being verified") {
		t.Errorf("%d, Retry-After %q, %q", got.StatusCode, got.Header.Get("Retry-After"), got.text)
	}
	d.wantMetric(t, `penstock_events_received_total{broker="default/default",code="503"} 1`)
}

func TestEventsGoToTheBrokerThatThePathNames(t *testing.T) {
	var uids []channel.UID
	remember := appenderFunc(func(_ context.Context, broker channel.UID, _ []event.Event) ([]channel.Stored, error) {
		uids = append(uids, broker)
		return nil, nil
	})
	d := open(t, ingress.Options{Routes: brokers{
		"shop/orders": {Appender: remember}, "shop/a.dotted.name": {Appender: remember}}.find}, ingress.ServerOptions{})
	for _, path := range []string{"/shop/orders", "/shop/a.dotted.name"} {
		if got := send(t, "POST", "http://"+d.addr+path, nil, binary()...); got.StatusCode != 202 {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	if got := fmt.Sprint(uids); got != "[uid of shop/orders uid of shop/a.dotted.name]" {
		t.Error(got)
	}
}

func TestMemoryBrokerSaysThat202IsNotDurable(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: brokers{
		"default/default": {Appender: &s}, "default/memory": {Appender: &s, Durability: "memory"}}.find}, ingress.ServerOptions{})
	if got := send(t, "POST", "http://"+d.addr+"/default/memory", nil, binary()...); got.Header.Get("Durability") != "memory" {
		t.Errorf("Durability: %q", got.Header.Get("Durability"))
	}
	if got := send(t, "POST", d.url, nil, binary()...); got.Header.Values("Durability") != nil {
		t.Errorf("Durability: %q", got.Header.Get("Durability"))
	}
}

func TestPayloadIsKeptByteForByteWhateverItsSize(t *testing.T) {
	for _, size := range []int{0, 1, 4095, 4096, 4097, 36_864, 65_536, 65_537, 262_144, 262_145, 1<<20 - 1, 1 << 20} {
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(i * 7 >> 3)
		}
		for _, chunked := range []bool{false, true} {
			var s stored
			d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
			var body io.Reader = bytes.NewReader(payload)
			if chunked {
				body = io.MultiReader(body) // hides the length
			}
			if got := send(t, "POST", d.url, body, binary()...); got.StatusCode != 202 {
				t.Fatalf("%d bytes, chunked %v: %d %s", size, chunked, got.StatusCode, got.text)
			}
			if got := s.one(t).Data(); !bytes.Equal(got, payload) {
				t.Errorf("%d bytes, chunked %v: got %d others", size, chunked, len(got))
			}
			d.wantMetric(t, "penstock_ingress_body_bytes 0")
		}
	}
}

func TestBuffersAreNotSharedByEventsInFlight(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
	for i := range 50 {
		send(t, "POST", d.url, strings.NewReader(strings.Repeat(string(rune('A'+i)), 1000+i)), binary()...)
	}
	for i, e := range s.all() {
		if got := string(e.Data()); got != strings.Repeat(string(rune('A'+i)), 1000+i) {
			t.Fatalf("event %d holds %q...", i, got[:20])
		}
	}
}

func TestArrivalAndHopsAreStamped(t *testing.T) {
	tests := []struct {
		name    string
		headers []string
		ttl     string
	}{
		{"new event", nil, "255"},
		{"event that came through a broker", []string{"Ce-Knativebrokerttl: 17"}, "16"},
		{"last pass", []string{"Ce-Knativebrokerttl: 2"}, "1"},
		{"no more than a new event gets", []string{"Ce-Knativebrokerttl: 1000000"}, "255"},
		{"arrival elsewhere", []string{"Ce-Knativearrivaltime: 2001-01-01T00:00:00Z"}, "255"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s stored
			d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
			before := time.Now()
			if got := send(t, "POST", d.url, nil, binary(tt.headers...)...); got.StatusCode != 202 {
				t.Fatalf("%d %s", got.StatusCode, got.text)
			}
			e := s.one(t)
			if got := e.Text(event.ExtTTL); got != tt.ttl {
				t.Errorf("TTL %q, want %q", got, tt.ttl)
			}
			at, err := time.Parse(time.RFC3339Nano, e.Text(event.ExtArrivalTime))
			if err != nil || at.Before(before.Truncate(0)) || at.After(time.Now()) {
				t.Errorf("arrival %q: %v", e.Text(event.ExtArrivalTime), err)
			}
		})
	}
}

func TestHopsAreCountedInJSONToo(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s), TTL: 10}, ingress.ServerOptions{})
	body := strings.Replace(structured, "{", `{"knativebrokerttl":3,`, 1)
	send(t, "POST", d.url, strings.NewReader(body), "Content-Type: application/cloudevents+json")
	v, _ := s.one(t).Attribute(event.ExtTTL)
	if v.Text != "2" || v.Kind != event.Integer {
		t.Errorf("TTL %+v", v)
	}
}

func TestTraceContextTravelsUnlessItIsMalformed(t *testing.T) {
	const good = "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"both", []string{good, "Tracestate: a=1"}, "traceparent tracestate"},
		{"parent alone", []string{good}, "traceparent"},
		{"malformed parent", []string{"Traceparent: 00-xyz", "Tracestate: a=1"}, ""},
		{"two parents", []string{good, good, "Tracestate: a=1"}, ""},
		{"state alone", []string{"Tracestate: a=1"}, ""},
		{"secrets stay here", []string{"Authorization: Bearer x", "Cookie: a=b"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s stored
			d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
			send(t, "POST", d.url, nil, binary(tt.headers...)...)
			var kept []string
			for name := range s.one(t).Headers() {
				kept = append(kept, strings.ToLower(name))
			}
			// A header map has no order.
			if len(kept) == 2 && kept[0] > kept[1] {
				kept[0], kept[1] = kept[1], kept[0]
			}
			if got := strings.Join(kept, " "); got != tt.want {
				t.Errorf("travels: %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHandshakeGivesPermissionByName(t *testing.T) {
	var s stored
	routes := brokers{"default/default": {Appender: &s}, "default/starting": {Appender: &s, Ready: errors.New("starting")}}.find
	d := open(t, ingress.Options{Routes: routes}, ingress.ServerOptions{})
	strict := open(t, ingress.Options{Routes: routes, AllowOrigin: func(o string) bool { return o == "good.example" }}, ingress.ServerOptions{})
	for _, tt := range []struct {
		name         string
		url          string
		headers      []string
		origin, rate string
	}{
		{"nobody asks", d.url, nil, "", ""},
		{"asked", d.url, []string{"WebHook-Request-Origin: eventemitter.example.com"}, "eventemitter.example.com", ""},
		{"asked for a rate", d.url, []string{"WebHook-Request-Origin: eventgrid.azure.net", "WebHook-Request-Rate: 120"}, "eventgrid.azure.net", "120"},
		{"rate that is none", d.url, []string{"WebHook-Request-Origin: a.example", "WebHook-Request-Rate: *"}, "a.example", ""},
		{"rate of nothing", d.url, []string{"WebHook-Request-Origin: a.example", "WebHook-Request-Rate: 0"}, "a.example", ""},
		{"wildcard", d.url, []string{"WebHook-Request-Origin: *"}, "", ""},
		{"two origins", d.url, []string{"WebHook-Request-Origin: a.example", "WebHook-Request-Origin: b.example"}, "", ""},
		{"too long", d.url, []string{"WebHook-Request-Origin: " + strings.Repeat("a", 254)}, "", ""},
		{"broker is starting", "http://" + d.addr + "/default/starting", []string{"WebHook-Request-Origin: a.example"}, "a.example", ""},
		{"unknown broker", "http://" + d.addr + "/default/other", []string{"WebHook-Request-Origin: a.example"}, "", ""},
		{"no broker's path", "http://" + d.addr + "/", []string{"WebHook-Request-Origin: a.example"}, "", ""},
		{"on the list", strict.url, []string{"WebHook-Request-Origin: good.example"}, "good.example", ""},
		{"not on the list", strict.url, []string{"WebHook-Request-Origin: bad.example", "WebHook-Request-Rate: 5"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := send(t, "OPTIONS", tt.url, nil, tt.headers...)
			if got.StatusCode != 200 || got.Header.Get("Allow") != "POST, OPTIONS" || got.text != "" {
				t.Errorf("%d, Allow %q, body %q", got.StatusCode, got.Header.Get("Allow"), got.text)
			}
			if o, r := got.Header.Get("WebHook-Allowed-Origin"), got.Header.Get("WebHook-Allowed-Rate"); o != tt.origin || r != tt.rate {
				t.Errorf("origin %q, rate %q; want %q, %q", o, r, tt.origin, tt.rate)
			}
		})
	}
	if answer := raw(t, d.addr, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"); answer == nil || answer.StatusCode != 200 || answer.Header.Get("Allow") == "" {
		t.Errorf("OPTIONS *: %+v", answer)
	}
}
