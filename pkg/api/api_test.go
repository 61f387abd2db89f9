package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

func TestBrokerShowsWhatItHoldsAndTookIn(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	ids := r.append("shop", newEvent(t, "id=1"), newEvent(t, "id=2"))
	r.bury("shop", letter(newEvent(t, "id=1"), ids[0], "orders"))
	o := options(r)
	o.Traffic = func(broker string) (uint64, uint64) {
		if broker != "default/shop" {
			t.Errorf("asked for the traffic of %q", broker)
		}
		return 5, 2
	}
	server := serve(t, o)
	before := time.Now().Add(time.Second)

	list := get[v1.BrokerList](t, server, "/api/v1/brokers", 200)
	if len(list.Items) != 1 || list.Items[0].Earliest == nil || list.Items[0].Earliest.After(before) {
		t.Fatalf("list %+v, want one broker, with the time of its oldest event", list)
	}
	b := get[v1.Broker](t, server, "/api/v1/brokers/default/shop", 200)
	if b.FullName() != "default/shop" || !b.Ready || b.Channel != "memory" || b.Shards != 4 || b.Triggers != 1 ||
		b.Received != 5 || b.Accepted != 2 || b.Dead != 1 || b.Bytes <= 0 || b.DeadBytes <= 0 {
		t.Errorf("broker %+v", b)
	}
	if b.Address != "http://localhost:8080/default/shop" {
		t.Errorf("address %q", b.Address)
	}
	if b.Earliest == nil || b.Earliest.After(before) {
		t.Errorf("earliest %v, want about now", b.Earliest)
	}
}

func TestTriggerShowsItsLane(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := start(t, brokerObject("shop"),
		triggerObject("orders", "shop", exact("type", "order.created")), triggerObject("idle", "shop", filter.Spec{}))
	r.lanes = []Lane{{Trigger: "uid-orders", Backlog: 7, Oldest: now.Add(-90 * time.Second), InFlight: 2, Waiting: 3, Delivered: 40, Failed: 5, Cancelled: 1}}
	e := newEvent(t)
	ids := r.append("shop", e)
	r.bury("shop", letter(e, ids[0], "orders"))
	o := options(r)
	o.Now = func() time.Time { return now }
	server := serve(t, o)

	got := get[v1.Trigger](t, server, "/api/v1/triggers/default/orders", 200)
	if got.Backlog != 7 || got.OldestPendingSeconds != 90 || got.InFlight != 2 || got.Waiting != 3 || got.Delivered != 40 ||
		got.Failed != 5 || got.Cancelled != 1 || got.Dead != 1 || got.Subscriber != "http://localhost:3000/orders" ||
		got.Broker != "default/shop" || !got.Ready {
		t.Errorf("trigger %+v", got)
	}
	if want := `{"filters":[{"exact":{"type":"order.created"}}]}`; string(got.Filter) != want {
		t.Errorf("filter %s, want %s", got.Filter, want)
	}
	idle := get[v1.Trigger](t, server, "/api/v1/triggers/default/idle", 200)
	if idle.Backlog != 0 || idle.OldestPendingSeconds != 0 || idle.Dead != 0 {
		t.Errorf("idle trigger %+v", idle)
	}
}

func TestTriggersAreListedByBrokerAndNamespaceAlsoWhereTheBrokerIsMissing(t *testing.T) {
	elsewhere := triggerObject("far", "shop", filter.Spec{})
	elsewhere.Namespace = "other"
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}), triggerObject("lost", "nowhere", filter.Spec{}), elsewhere)
	server := serve(t, options(r))
	names := func(query string) string {
		var names []string
		for _, tr := range get[v1.TriggerList](t, server, "/api/v1/triggers"+query, 200).Items {
			names = append(names, tr.FullName())
		}
		return strings.Join(names, " ")
	}
	for query, want := range map[string]string{
		"":                                     "default/lost default/orders other/far",
		"?namespace=other":                     "other/far",
		"?namespace=none":                      "",
		"?broker=default/shop":                 "default/orders",
		"?broker=default/nowhere":              "default/lost",
		"?broker=default%2Fshop":               "default/orders",
		"?broker=other/shop&namespace=default": "",
	} {
		if got := names(query); got != want {
			t.Errorf("triggers%s: %q, want %q", query, got, want)
		}
	}
	lost := get[v1.Trigger](t, server, "/api/v1/triggers/default/lost", 200)
	if lost.Ready || lost.Reason != config.ReasonBrokerDoesNotExist || lost.Message == "" || !strings.HasPrefix(lost.Origin, "triggers.yaml") {
		t.Errorf("trigger without broker %+v", lost)
	}
	if got := refused(t, server, "/api/v1/triggers?broker=default/typo", 404); !strings.Contains(got, `"default/typo"`) {
		t.Errorf("error %q does not name the broker", got)
	}
}

func TestProblemsNamePlaceAndCure(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("lost", "nowhere", filter.Spec{}))
	list := get[v1.ProblemList](t, serve(t, options(r)), "/api/v1/problems", 200)
	if len(list.Items) != 1 || !strings.HasPrefix(list.Items[0].Origin, "triggers.yaml") || list.Items[0].Message == "" {
		t.Errorf("problems %+v", list)
	}
}

func TestReadyAnswersWithItsReasonsOneALine(t *testing.T) {
	o := options(start(t))
	var reasons []string
	o.Ready = func() []string { return reasons }
	server := serve(t, o)
	ask := func(path string) (int, string) {
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := ask("/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("readyz %d %q", code, body)
	}
	reasons = []string{"disk: latched", "ingress: not listening"}
	if code, body := ask("/readyz"); code != 503 || body != "disk: latched\ningress: not listening\n" {
		t.Errorf("readyz %d %q", code, body)
	}
	if code, body := ask("/healthz?any=thing"); code != 200 || body != "ok\n" {
		t.Errorf("healthz %d %q", code, body)
	}
}

func TestWrongRequestsAreRefusedWithTheCure(t *testing.T) {
	server := serve(t, options(start(t, brokerObject("shop"))))
	for _, c := range []struct {
		path string
		code int
		says string
	}{
		{"/api/v1/brokers?watch=1", 400, "this path takes none"},
		{"/api/v1/triggers?brokers=default/shop", 400, "known here: broker, namespace"},
		{"/api/v1/triggers?broker=default/shop&broker=default/b", 400, "2 times"},
		{"/api/v1/triggers?broker=shop", 400, "NAMESPACE/NAME"},
		{"/api/v1/triggers?broker=a/b/c", 400, "NAMESPACE/NAME"},
		{"/api/v1/triggers?broker=", 400, "empty"},
		{"/api/v1/triggers?%zz", 400, "query"},
		{"/api/v1/deadletters?limit=1001", 400, "1 to 1000"},
		{"/api/v1/deadletters?limit=0", 400, "1 to 1000"},
		{"/api/v1/deadletters?limit=ten", 400, "1 to 1000"},
		{"/api/v1/deadletters?cursor=x!", 400, "unchanged"},
		{"/api/v1/deadletters?cursor=aGVsbG8", 400, "unchanged"},
		{"/api/v1/deadletters?cursor=Z29uZQo", 410, "list again"},
		{"/api/v1/deadletters?broker=default/none", 404, "default/none"},
		{"/api/v1/deadletters?trigger=default/none", 404, "default/none"},
		{"/api/v1/deadletters/default/orders/42", 400, "SHARD-POSITION"},
		{"/api/v1/deadletters/default/orders/0-42", 404, "0-42"},
		{"/api/v1/brokers/default/none", 404, "default/none"},
		{"/api/v1/triggers/default/none", 404, "default/none"},
		{"/api/v1/tail?broker=default/none", 404, "default/none"},
		{"/api/v1/tail?broker=default/shop&filter=type+%3D", 400, "filter"},
		{"/api/v1/tail?broker=default/shop&filter=1+%2B+1", 400, "filter"},
		{"/api/v2/brokers", 404, "no such path"},
		{"/", 404, "no such path"},
		{"/api/v1/brokers/default/shop/explain", 405, "use POST"},
	} {
		if got := refused(t, server, c.path, c.code); !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want it to say %q", c.path, got, c.says)
		}
	}
}

func TestWrongMethodNamesTheRightOne(t *testing.T) {
	server := serve(t, options(start(t)))
	resp, err := server.Client().Post(server.URL+"/api/v1/brokers", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	decode[v1.Error](t, resp, 405)
	if got := resp.Header.Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow %q", got)
	}
	resp, err = server.Client().Head(server.URL + "/api/v1/brokers")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("HEAD %d, want 200", resp.StatusCode)
	}
}

func TestWebPagesAreKeptOut(t *testing.T) {
	o := options(start(t, brokerObject("shop")))
	o.Hosts = []string{"Broker.Internal:8088", ""}
	s := New(o)
	ask := func(path, host string, header ...string) int {
		req := httptest.NewRequest(http.MethodGet, path, nil)
		if strings.HasSuffix(path, "/explain") {
			req = httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}"))
			req.Header.Set("Ce-Specversion", "1.0")
			req.Header.Set("Ce-Id", "1")
			req.Header.Set("Ce-Type", "t")
			req.Header.Set("Ce-Source", "s")
		}
		req.Host = host
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		return w.Code
	}
	const list, post = "/api/v1/brokers", "/api/v1/brokers/default/shop/explain"
	for _, c := range []struct {
		what string
		got  int
		want int
	}{
		{"loopback", ask(list, "127.0.0.1:8088"), 200},
		{"IPv6 loopback", ask(list, "[::1]:8088"), 200},
		{"another address", ask(list, "192.168.1.7"), 200},
		{"localhost", ask(list, "LocalHost:8088"), 200},
		{"a name below localhost", ask(list, "api.localhost"), 200},
		{"localhost with a final dot", ask(list, "localhost.:8088"), 200},
		{"the configured name", ask(list, "broker.internal:9999"), 200},
		{"a name that DNS may have rebound", ask(list, "evil.example:8088"), 403},
		{"a name that begins with ours", ask(list, "localhost.evil.example"), 403},
		{"a name that begins like an address", ask(list, "127.0.0.1.evil.example"), 403},
		{"no host", ask(list, ""), 403},
		{"probes under any name", ask("/readyz", "pod.cluster.local"), 200},
		{"unknown paths under a foreign name", ask("/x", "evil.example"), 403},
		{"a POST of our own page", ask(post, "localhost:8088", "Origin", "http://localhost:8088"), 200},
		{"a POST without a browser", ask(post, "localhost:8088"), 200},
		{"a POST from a page elsewhere", ask(post, "localhost:8088", "Origin", "https://evil.example"), 403},
		{"a POST from a sandboxed page", ask(post, "localhost:8088", "Origin", "null"), 403},
		{"a POST marked cross-site", ask(post, "localhost:8088", "Sec-Fetch-Site", "cross-site"), 403},
		{"an image in a page elsewhere", ask(list, "localhost", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"), 403},
		{"a link in a page elsewhere", ask(list, "localhost", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"), 200},
		{"our own page", ask(list, "localhost", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"), 200},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
}

// explode is a log whose dead letters cannot be read.
type explode struct{ *running }

func (e explode) Log(uid channel.UID) (channel.BrokerLog, bool) {
	log, ok := e.running.Log(uid)
	return brokenDead{log}, ok
}

type brokenDead struct{ channel.BrokerLog }

func (brokenDead) Dead(context.Context, channel.UID, string, int) ([]channel.DeadLetter, string, error) {
	return nil, "", fmt.Errorf("segment 3: bad checksum")
}

func TestChannelErrorIsAnAnswerOf500ThatSaysWhy(t *testing.T) {
	o := options(start(t, brokerObject("shop")))
	o.Source = explode{o.Source.(*running)}
	if got := refused(t, serve(t, o), "/api/v1/deadletters", 500); !strings.Contains(got, "bad checksum") {
		t.Errorf("error %q", got)
	}
}
