package config

import (
	"strings"
	"testing"
)

func TestDestinations(t *testing.T) {
	resolve, err := ParseResolve([]string{
		"service/orders=http://localhost:3000/base/", "Service/shop/orders=http://localhost:4000", "broker/mapped=http://elsewhere/",
	})
	if err != nil {
		t.Fatal(err)
	}
	ref := func(kind, namespace, name string) *Reference {
		return &Reference{APIVersion: "v1", Kind: kind, Namespace: namespace, Name: name}
	}
	for name, c := range map[string]struct {
		d          Destination
		want       string // a URL
		reason, of string // or why not
	}{
		"uri kept as written":        {d: Destination{URI: "HTTP://Host.example:80/%7Ea?b=c"}, want: "HTTP://Host.example:80/%7Ea?b=c"},
		"uri without a slash":        {d: Destination{URI: "http://fake.svc.cluster.local"}, want: "http://fake.svc.cluster.local"},
		"odd scheme":                 {d: Destination{URI: "bad://uri"}, want: "bad://uri"},
		"ref":                        {d: Destination{Ref: ref("Service", "", "orders")}, want: "http://localhost:3000/base/"},
		"ref, kind in other case":    {d: Destination{Ref: ref("SERVICE", "", "orders")}, want: "http://localhost:3000/base/"},
		"ref of a namespace":         {d: Destination{Ref: ref("Service", "shop", "orders")}, want: "http://localhost:4000"},
		"ref and path":               {d: Destination{Ref: ref("Service", "", "orders"), URI: "/in?x=1"}, want: "http://localhost:3000/in?x=1"},
		"ref and relative path":      {d: Destination{Ref: ref("Service", "", "orders"), URI: "in"}, want: "http://localhost:3000/base/in"},
		"ref to one of our Brokers":  {d: Destination{Ref: ref("Broker", "", "default")}, want: "http://localhost:8080/default/default"},
		"ref to a Broker, mapped":    {d: Destination{Ref: ref("Broker", "", "mapped")}, want: "http://elsewhere/"},
		"ref to no Broker":           {d: Destination{Ref: ref("Broker", "", "defaut")}, reason: ReasonSubscriberNotResolved, of: "did you mean default?"},
		"ref to something unknown":   {d: Destination{Ref: ref("Service", "", "stock")}, reason: ReasonSubscriberNotResolved, of: "--resolve service/stock=http://HOST:PORT"},
		"ref without a name":         {d: Destination{Ref: ref("Service", "", "")}, reason: ReasonSubscriberInvalid, of: "needs kind and name"},
		"ref and absolute uri":       {d: Destination{Ref: ref("Service", "", "orders"), URI: "http://x/"}, reason: ReasonSubscriberInvalid, of: "must be relative"},
		"ref and uri of a host":      {d: Destination{Ref: ref("Service", "", "orders"), URI: "//x/"}, reason: ReasonSubscriberInvalid, of: "must be relative"},
		"relative uri":               {d: Destination{URI: "/path"}, reason: ReasonSubscriberInvalid, of: "is not absolute"},
		"no host":                    {d: Destination{URI: "http:path"}, reason: ReasonSubscriberInvalid, of: "is not absolute"},
		"no URL":                     {d: Destination{URI: "http://[::1"}, reason: ReasonSubscriberInvalid, of: "not a URL"},
		"line break":                 {d: Destination{URI: "http://host/\nX: y"}, reason: ReasonSubscriberInvalid, of: "not a URL"},
		"password":                   {d: Destination{URI: "http://me:secret@host/"}, reason: ReasonSubscriberInvalid, of: "user or password"},
		"nothing":                    {d: Destination{}, reason: ReasonSubscriberInvalid, of: "missing"},
		"CACerts cannot be honoured": {d: Destination{URI: "https://host/", CACerts: "x"}, reason: ReasonSubscriberInvalid, of: "not supported yet"},
	} {
		t.Run(name, func(t *testing.T) {
			o := aTrigger("a", "default", nil)
			o.Trigger.Subscriber = &c.d
			tr := only(t, Compile([]*Object{aBroker("default", nil), o}, Options{Resolve: resolve, IngressURL: "http://localhost:8080/"}))
			if tr.Ready != (c.want != "") || tr.Subscriber != c.want || tr.Reason != c.reason || !strings.Contains(tr.Message, c.of) {
				t.Errorf("got %+v", tr)
			}
			if strings.Contains(tr.Message, "secret") {
				t.Errorf("a password is repeated: %s", tr.Message)
			}
		})
	}
}

func TestResolveFlagsThatAreWrongSayWhatIsWanted(t *testing.T) {
	for flag, want := range map[string]string{
		"":                                 "want kind/name=URL",
		"service":                          "want kind/name=URL",
		"orders=http://x":                  "want kind/name=URL",
		"a/b/c/d=http://x":                 "want kind/name=URL",
		"service/=http://x":                "must not be empty",
		"service//orders=http://x":         "must not be empty",
		"service/orders=":                  "is not absolute",
		"service/orders=localhost":         "is not absolute",
		"service/orders=http://u:secret@x": "user or password",
	} {
		_, err := ParseResolve([]string{flag})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", flag, err)
		}
	}
	if _, err := ParseResolve([]string{"a/b=http://x", "A/b=http://y"}); err == nil {
		t.Error("two URLs for one object")
	}
	if _, err := ParseResolve([]string{"a/b=http://x", "A/b=http://x"}); err != nil {
		t.Error(err)
	}
}
