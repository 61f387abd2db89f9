package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/memhttp"
)

// world is a network with a client in it.
type world struct {
	*memhttp.Net
	*Client
}

// inWorld runs a test in a bubble, with a network and a client.
func inWorld(t *testing.T, o Options, test func(t *testing.T, w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memhttp.New()
		o.Dial = n.DialContext
		c := New(o)
		t.Cleanup(c.Close)
		test(t, world{n, c})
	})
}

// send makes one attempt for a trigger's subscriber.
func (w world) send(t *testing.T, url string) (Answer, error) {
	t.Helper()
	return w.Send(t.Context(), &Request{
		Target: w.Target(url, TargetOptions{Namespace: "shop", Reply: true}),
		Event:  order(t),
	})
}

// order is an event as ingress would have stored it.
func order(t testing.TB) event.Event {
	t.Helper()
	var b event.Builder
	b.Set("id", "42").Set("source", "/web").Set("specversion", "1.0").Set("type", "order.placed")
	b.Set("datacontenttype", "application/json").SetData([]byte(`{"total":12}`))
	b.SetValue("knativebrokerttl", event.Value{Text: "255", Kind: event.Integer})
	b.SetHeader("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	return built(t, &b)
}

func built(t testing.TB, b *event.Builder) event.Event {
	t.Helper()
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func answer(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// seen is a request as the subscriber got it, in a form to compare.
func seen(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\nHost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(r.Header[name], " | "))
	}
	fmt.Fprintf(&b, "\n%s", body)
	if err != nil {
		fmt.Fprint(&b, err)
	}
	return b.String()
}

func TestRequestsCarryTheEventAndNothingElse(t *testing.T) {
	hideTTL := &event.Overlay{Hide: []string{"knativebrokerttl"}}
	for _, c := range []struct {
		name    string
		url     string
		options TargetOptions
		request Request
		want    string
	}{
		{
			name: "to a subscriber", url: "http://orders.shop/in?q=1#part",
			options: TargetOptions{Namespace: "shop", Reply: true}, request: Request{Overlay: hideTTL},
			want: `POST /in?q=1 HTTP/1.1
Host: orders.shop
Ce-Id: 42
Ce-Source: /web
Ce-Specversion: 1.0
Ce-Type: order.placed
Content-Length: 12
Content-Type: application/json
Kn-Namespace: shop
Prefer: reply
Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
User-Agent: Penstock

{"total":12}`,
		},
		{
			name: "to a dead letter sink, which is not asked for a reply", url: "http://orders.shop:80",
			options: TargetOptions{Namespace: "shop"},
			request: Request{Overlay: Failure{Destination: "http://broken.shop", Status: 422, Body: []byte("no")}.Overlay()},
			want: `POST / HTTP/1.1
Host: orders.shop:80
Ce-Id: 42
Ce-Knativebrokerttl: 255
Ce-Knativeerrorcode: 422
Ce-Knativeerrordata: bm8=
Ce-Knativeerrordest: http://broken.shop
Ce-Source: /web
Ce-Specversion: 1.0
Ce-Type: order.placed
Content-Length: 12
Content-Type: application/json
Kn-Namespace: shop
Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
User-Agent: Penstock

{"total":12}`,
		},
		{
			name: "format json", url: "http://orders.shop",
			request: Request{Overlay: hideTTL, Format: JSON},
			want: `POST / HTTP/1.1
Host: orders.shop
Content-Length: 121
Content-Type: application/cloudevents+json
Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
User-Agent: Penstock

{"id":"42","source":"/web","specversion":"1.0","type":"order.placed","datacontenttype":"application/json","data":{"total":12}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, Options{}, func(t *testing.T, w world) {
				var got string
				w.Serve(t, "orders.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					got = seen(r)
					w.WriteHeader(http.StatusAccepted)
				}))
				c.request.Target, c.request.Event = w.Target(c.url, c.options), order(t)
				if _, err := w.Send(t.Context(), &c.request); err != nil {
					t.Fatal(err)
				}
				// The length of JSON is the event package's matter.
				if c.request.Format == JSON {
					got = dropLine(got, "Content-Length: ")
					c.want = dropLine(c.want, "Content-Length: ")
				}
				if got != c.want {
					t.Errorf("got\n%s\nwant\n%s", got, c.want)
				}
			})
		})
	}
}

func dropLine(s, prefix string) string {
	at := strings.Index(s, "\n"+prefix)
	if at < 0 {
		return s
	}
	end := strings.IndexByte(s[at+1:], '\n')
	return s[:at] + s[at+1+end:]
}

func TestTheModeIsTheInputsUnlessTheFormatSaysOtherwise(t *testing.T) {
	structured, err := decode(http.Header{"Content-Type": {"application/cloudevents+json"}},
		[]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	inWorld(t, Options{}, func(t *testing.T, w world) {
		var mode string
		w.Serve(t, "orders.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mode = "structured"
			if r.Header.Get("Ce-Id") != "" {
				mode = "binary"
			}
		}))
		target := w.Target("http://orders.shop", TargetOptions{})
		for _, c := range []struct {
			event  event.Event
			format Format
			want   string
		}{
			{order(t), AsReceived, "binary"}, {order(t), Binary, "binary"}, {order(t), JSON, "structured"},
			{structured[0], AsReceived, "structured"}, {structured[0], Binary, "binary"}, {structured[0], JSON, "structured"},
		} {
			if _, err := w.Send(t.Context(), &Request{Target: target, Event: c.event, Format: c.format}); err != nil {
				t.Fatal(err)
			}
			if mode != c.want {
				t.Errorf("structured %v, format %d: sent %s, want %s", c.event.Structured(), c.format, mode, c.want)
			}
		}
	})
}

func TestPayloadsOfEverySizeArriveUnchanged(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		var got []byte
		w.Serve(t, "orders.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusNoContent)
		}))
		target := w.Target("http://orders.shop", TargetOptions{})
		for _, size := range []int{0, 1, copyBody - 1, copyBody, copyBody + 1, writeAlone - 200, writeAlone, writeAlone + 1, 100 << 10, 1 << 20} {
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i * 7 >> 3)
			}
			var b event.Builder
			b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "t").SetData(data)
			if _, err := w.Send(t.Context(), &Request{Target: target, Event: built(t, &b)}); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if string(got) != string(data) {
				t.Errorf("%d bytes arrived as %d other ones", size, len(got))
			}
		}
		if n := w.Dials("orders.shop"); n != 1 {
			t.Errorf("%d connections for one event after the other", n)
		}
	})
}

const reply = `{"specversion":"1.0","id":"r","source":"/stock","type":"order.packed"}`

func TestWhichAnswersAreReplies(t *testing.T) {
	ce := []string{"Ce-Id", "r", "Ce-Source", "/stock", "Ce-Type", "order.packed", "Ce-Specversion", "1.0"}
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		replies int
		want    string // reason of the failure
	}{
		{"binary", answer(200, "body", ce...), 1, ""},
		{"binary without a body", answer(200, "", ce...), 1, ""},
		{"structured", answer(200, reply, "Content-Type", "application/cloudevents+json; charset=utf-8"), 1, ""},
		{"a batch", answer(200, "["+reply+","+reply+"]", "Content-Type", "application/cloudevents-batch+json"), 2, ""},
		{"nothing", answer(200, ""), 0, ""},
		{"plain text is none of our business", answer(200, "OK", "Content-Type", "text/plain"), 0, ""},
		{"JSON that does not claim to be an event", answer(200, reply, "Content-Type", "application/json"), 0, ""},
		{"a 202 has no reply", answer(202, "body", ce...), 0, ""},
		{"a 201 has no reply", answer(201, "body", ce...), 0, ""},
		{"a malformed 202 does not matter", answer(202, "{", "Content-Type", "application/cloudevents+json"), 0, ""},
		{"a malformed reply", answer(200, "{", "Content-Type", "application/cloudevents+json"), 0, "reply: "},
		{"an incomplete reply", answer(200, "", "Ce-Id", "r", "Ce-Specversion", "1.0"), 0, "reply: "},
		{"a compressed reply", answer(200, reply, "Content-Type", "application/cloudevents+json", "Content-Encoding", "gzip"), 0, `reply in content encoding "gzip", which was not asked for`},
		{"a reply that is too large", answer(200, strings.Repeat("x", 3000), ce...), 0, "reply of more than 2048 bytes"},
		{"a reply that is just small enough", answer(200, strings.Repeat("x", 2048), ce...), 1, ""},
		{"one too large in pieces", func(w http.ResponseWriter, r *http.Request) {
			answer(200, "", ce...)(w, r)
			for range 300 {
				io.WriteString(w, "0123456789")
				w.(http.Flusher).Flush()
			}
		}, 0, "reply of more than 2048 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, Options{MaxAnswer: 2048}, func(t *testing.T, w world) {
				w.Serve(t, "orders.shop", c.answer)
				a, err := w.send(t, "http://orders.shop")
				if c.want == "" {
					if err != nil || len(a.Replies) != c.replies {
						t.Fatalf("%d replies, error %v; want %d", len(a.Replies), err, c.replies)
					}
					for _, e := range a.Replies {
						if e.ID() != "r" || e.Source() != "/stock" || e.Type() != "order.packed" {
							t.Errorf("reply %v", e)
						}
					}
					return
				}
				var e *Error
				if !errors.As(err, &e) || e.Class != ClassReply || e.Status != 200 || !strings.HasPrefix(e.Reason(), c.want) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				if !Retriable(err) || len(a.Replies) != 0 {
					t.Errorf("retriable %v, %d replies", Retriable(err), len(a.Replies))
				}
			})
		})
	}
}

func TestADeadLetterSinksReplyIsThrownAway(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "dead.shop", answer(200, "{", "Content-Type", "application/cloudevents+json"))
		a, err := w.Send(t.Context(), &Request{Target: w.Target("http://dead.shop", TargetOptions{}), Event: order(t)})
		if err != nil || len(a.Replies) != 0 {
			t.Error(a, err)
		}
	})
}

func TestRepliesAreStamped(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", answer(200, reply, "Content-Type", "application/cloudevents+json"))
		target := w.Target("http://orders.shop", TargetOptions{Reply: true})
		request := &Request{Target: target, Event: order(t), Stamp: func(b *event.Builder) error {
			b.SetValue("knativebrokerttl", event.Value{Text: "254", Kind: event.Integer})
			return nil
		}}
		a, err := w.Send(t.Context(), request)
		if err != nil || a.Replies[0].Text("knativebrokerttl") != "254" {
			t.Errorf("%v, %v", a, err)
		}
		loop := errors.New("too many hops")
		request.Stamp = func(*event.Builder) error { return loop }
		if _, err = w.Send(t.Context(), request); !errors.Is(err, loop) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAFailureSaysWhatTheAnswerSaid(t *testing.T) {
	inWorld(t, Options{MaxKept: 10}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", answer(503, "come back another day", "Retry-After", "120"))
		a, err := w.send(t, "http://orders.shop/in?token=secret")
		var e *Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		if got, want := err.Error(), "deliver to http://orders.shop/in: status 503"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if e.Class != ClassStatus || e.Status != 503 || e.RetryAfter != 2*time.Minute || string(e.Body) != "come back " || a.Status != 503 {
			t.Errorf("%+v, %+v", e, a)
		}
	})
}

func TestEmptyAnswersLeaveNoBody(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", answer(422, ""))
		_, err := w.send(t, "http://orders.shop")
		var e *Error
		if !errors.As(err, &e) || e.Body != nil || e.Status != 422 || Retriable(err) {
			t.Errorf("%+v", err)
		}
	})
}

func TestDestinationsThatCannotBeUsedFailEachAttempt(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "uri", answer(200, ""))
		for url, want := range map[string]string{
			"bad://uri":                    `deliver to bad://uri: scheme "bad" is neither http nor https`,
			"ftp://uri/x":                  `deliver to ftp://uri/x: scheme "ftp" is neither http nor https`,
			"mailto:a@b":                   `deliver to mailto:a@b: scheme "mailto" is neither http nor https`,
			"":                             `deliver to "": not an absolute URL: want http://host/path or https://host/path`,
			"uri/path":                     `deliver to uri/path: not an absolute URL: want http://host/path or https://host/path`,
			"//uri":                        `deliver to //uri: not an absolute URL: want http://host/path or https://host/path`,
			"http://":                      `deliver to http:: the URL has no host`,
			"http:///path":                 `deliver to http:///path: the URL has no host`,
			"http://:80/":                  `deliver to http://:80/: the URL has no host`,
			"http://uri:0/":                `deliver to http://uri:0/: port 0 cannot be connected to`,
			"http://me:secret@uri/":        `deliver to http://uri/: a URL with a user or password is refused: it would be sent in the clear and kept in dead letters`,
			"http://me@uri/?token=secret":  `deliver to http://uri/: a URL with a user or password is refused: it would be sent in the clear and kept in dead letters`,
			"http://me:secret@u ri/":       `deliver to "u ri/": not a URL: invalid character " " in host name`,
			"http://uri:port/":             `deliver to "http://uri:port/": not a URL: invalid port ":port" after host`,
			"http://uri/\r\nX: y":          `deliver to "http://uri/  X: y": not a URL: net/url: invalid control character in URL`,
			"http://münchen.example/":      `deliver to http://m%C3%BCnchen.example/: host "münchen.example": want letters, digits, dots and hyphens, others in punycode`,
			"http://a\"b/":                 `deliver to http://a"b/: host "a\"b": want letters, digits, dots and hyphens, others in punycode`,
			"http://uri/%zz":               `deliver to "http://uri/%zz": not a URL: invalid URL escape "%zz"`,
			"http://nobody.shop/?k=secret": `deliver to http://nobody.shop/: dial mem nobody.shop:80: lookup nobody.shop: no such host`,
		} {
			for range 2 {
				target := w.Target(url, TargetOptions{})
				_, err := w.Send(t.Context(), &Request{Target: target, Event: order(t)})
				if err == nil || err.Error() != want {
					t.Errorf("%s:\n got %v\nwant %s", url, err, want)
				}
				if !Retriable(err) {
					t.Errorf("%s: the destination may be corrected before the next attempt", url)
				}
				if target.Destination() != url {
					t.Errorf("the destination became %q", target.Destination())
				}
			}
		}
		if n := w.Dials("uri"); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestACancelledSendIsNoVerdict(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		a, err := w.Send(ctx, &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t)})
		if !Cancelled(err) || !errors.Is(err, context.Canceled) || a.Duration != 3*time.Second {
			t.Errorf("%v after %v", err, a.Duration)
		}
		if _, err := w.Send(ctx, &Request{Target: w.Target("http://orders.shop", TargetOptions{}), Event: order(t)}); !Cancelled(err) {
			t.Errorf("sent after the end: %v", err)
		}
		if n := w.Dials("orders.shop"); n != 1 {
			t.Errorf("%d dials", n)
		}
		if Cancelled(nil) || Cancelled(status(500)) {
			t.Error("a failure counts as cancelled")
		}
	})
}
