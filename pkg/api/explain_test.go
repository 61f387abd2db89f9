package api

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/filter"
)

func TestExplainNamesTheFirstClauseThatDoesNotMatch(t *testing.T) {
	bad := triggerObject("bad", "shop", filter.Spec{Filters: []filter.Dialect{{CESQL: "type ="}}})
	r := start(t, brokerObject("shop"), bad,
		triggerObject("all", "shop", filter.Spec{}),
		triggerObject("created", "shop", exact("type", "order.created")),
		triggerObject("eu", "shop", exact("region", "eu")),
		triggerObject("paid", "shop", exact("type", "order.paid")))
	server := serve(t, options(r))
	const structured = `{"specversion":"1.0","id":"1","source":"/s","type":"order.created"}`
	for mode, request := range map[string]struct{ contentType, body string }{
		"binary":     {"text/plain", "hello"},
		"structured": {"application/cloudevents+json", structured},
		"batch":      {"application/cloudevents-batch+json", "[" + structured + "," + structured + "]"},
	} {
		req, err := http.NewRequest(http.MethodPost, server.URL+"/api/v1/brokers/default/shop/explain", strings.NewReader(request.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", request.contentType)
		if mode == "binary" {
			for k, v := range map[string]string{"Specversion": "1.0", "Id": "1", "Source": "/s", "Type": "order.created"} {
				req.Header.Set("Ce-"+k, v)
			}
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		x := decode[v1.Explanation](t, resp, 200)
		want := 1
		if mode == "batch" {
			want = 2
		}
		if x.Broker != "default/shop" || len(x.Events) != want {
			t.Fatalf("%s: %+v, want %d events", mode, x, want)
		}
		for _, e := range x.Events {
			if len(e.Triggers) != 5 || e.EventID != "1" {
				t.Fatalf("%s: %+v", mode, e)
			}
			all, bad, created, eu, paid := e.Triggers[0], e.Triggers[1], e.Triggers[2], e.Triggers[3], e.Triggers[4]
			if !all.Matched || !created.Matched || !created.Ready || created.Subscriber == "" {
				t.Errorf("%s: all %+v created %+v", mode, all, created)
			}
			if eu.Matched || !eu.Missing || eu.Want != "eu" || eu.Path != "filters[0].exact" {
				t.Errorf("%s: eu %+v", mode, eu)
			}
			if paid.Matched || paid.Missing || paid.Want != "order.paid" || paid.Got != "order.created" || !strings.Contains(paid.Text, `"order.paid"`) {
				t.Errorf("%s: paid %+v", mode, paid)
			}
			if bad.Matched || bad.Ready || !strings.Contains(bad.Text, "FilterInvalid") {
				t.Errorf("%s: a filter that does not compile must not match and say so: %+v", mode, bad)
			}
		}
	}
}

func TestExplainRefusesWhatIngressWouldRefuse(t *testing.T) {
	o := options(start(t, brokerObject("shop")))
	o.MaxBody = 1000
	server := serve(t, o)
	event := `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
	for _, c := range []struct {
		what, contentType, encoding, body string
		code                              int
		says                              string
	}{
		{"no event at all", "text/plain", "", "hello", 400, "missing"},
		{"broken JSON", "application/cloudevents+json", "", `{"id":`, 400, ""},
		{"too long", "application/cloudevents+json", "", strings.Repeat(" ", 2000), 413, "1000 bytes"},
		{"compressed", "application/cloudevents+json", "gzip", "\x1f\x8b", 415, "gzip"},
		{"too many", "application/cloudevents-batch+json", "", "[" + strings.Repeat(event+",", 16) + event + "]", 400, "16"},
	} {
		req, err := http.NewRequest(http.MethodPost, server.URL+"/api/v1/brokers/default/shop/explain", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c.contentType)
		if c.encoding != "" {
			req.Header.Set("Content-Encoding", c.encoding)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if e := decode[v1.Error](t, resp, c.code); !strings.Contains(e.Error, c.says) {
			t.Errorf("%s: %q, want it to say %q", c.what, e.Error, c.says)
		}
	}
}

func TestBodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	o := options(start(t, brokerObject("shop")))
	o.Timeout = 50 * time.Millisecond
	server := serve(t, o)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /api/v1/brokers/default/shop/explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	decode[v1.Error](t, resp, 408)
}
