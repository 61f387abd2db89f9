package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
)

func aBroker(name string, d *DeliverySpec) *Object {
	return &Object{Kind: KindBroker, Namespace: "default", Name: name, UID: channel.UID("b-" + name), Broker: &BrokerSpec{Delivery: d}, File: "f.yaml"}
}

func aTrigger(name, broker string, d *DeliverySpec) *Object {
	return &Object{
		Kind: KindTrigger, Namespace: "default", Name: name, UID: channel.UID("t-" + name), File: "f.yaml",
		Trigger: &TriggerSpec{Broker: broker, Subscriber: &Destination{URI: "http://localhost:3000/in"}, Delivery: d},
	}
}

func ptr[T any](v T) *T { return &v }

func only(t *testing.T, s *Snapshot) *Trigger {
	t.Helper()
	if len(s.Triggers()) != 1 {
		t.Fatalf("%d Triggers, want one; problems %v", len(s.Triggers()), s.Problems())
	}
	return s.Triggers()[0]
}

// Knative specification, control plane, DeliverySpec: a Trigger's delivery
// replaces its Broker's as a block. The dead letter sink alone falls back.
func TestDeliveryComesFromTheTriggerElseTheBrokerElseTheDefault(t *testing.T) {
	sink := func(to string) *Destination { return &Destination{URI: to} }
	broker := &DeliverySpec{
		Retry: ptr(3), BackoffPolicy: ptr("linear"), BackoffDelay: ptr("PT2S"), Timeout: ptr("PT30S"), Format: ptr("json"), DeadLetterSink: sink("http://broker-sink/"),
	}
	fromBroker := deliver.Policy{Retry: 3, Backoff: deliver.Linear, Delay: 2 * time.Second, Timeout: 30 * time.Second}
	for name, c := range map[string]struct {
		broker, trigger *DeliverySpec
		policy          deliver.Policy
		format, sink    string
	}{
		"neither":               {nil, nil, deliver.Policy{Retry: 10, Delay: 200 * time.Millisecond}, "", ""},
		"the Broker":            {broker, nil, fromBroker, "json", "http://broker-sink/"},
		"the Trigger":           {nil, &DeliverySpec{Retry: ptr(1), DeadLetterSink: sink("http://own/")}, deliver.Policy{Retry: 1}, "", "http://own/"},
		"both":                  {broker, &DeliverySpec{Retry: ptr(1), BackoffDelay: ptr("PT1S"), Format: ptr("binary")}, deliver.Policy{Retry: 1, Delay: time.Second}, "binary", "http://broker-sink/"},
		"both, own sink":        {broker, &DeliverySpec{DeadLetterSink: sink("http://own/")}, deliver.Policy{}, "", "http://own/"},
		"an empty Trigger's":    {broker, &DeliverySpec{}, deliver.Policy{}, "", "http://broker-sink/"},
		"a Broker without any":  {&DeliverySpec{}, nil, deliver.Policy{}, "", ""},
		"Retry-After forbidden": {nil, &DeliverySpec{RetryAfterMax: ptr("PT0S")}, deliver.Policy{RetryAfterMax: deliver.IgnoreRetryAfter}, "", ""},
		"Retry-After bounded":   {nil, &DeliverySpec{RetryAfterMax: ptr("PT1M")}, deliver.Policy{RetryAfterMax: time.Minute}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr := only(t, Compile([]*Object{aBroker("default", c.broker), aTrigger("a", "default", c.trigger)}, Options{}))
			if !tr.Ready || tr.Policy != c.policy || tr.Format != c.format || tr.DeadLetterSink != c.sink {
				t.Errorf("got %+v, want %+v, format %q, sink %q", tr, c.policy, c.format, c.sink)
			}
		})
	}
}

func TestAnnotationsOfTheTriggerWinOverThoseOfItsBroker(t *testing.T) {
	b, a, plain := aBroker("default", nil), aTrigger("a", "default", &DeliverySpec{}), aTrigger("b", "default", nil)
	b.Annotations = map[string]string{AnnotationPrefix + "backoff-max": "5m", AnnotationPrefix + "concurrency": "8"}
	a.Annotations = map[string]string{AnnotationPrefix + "backoff-max": "PT1M", AnnotationPrefix + "concurrency": "2"}
	s := Compile([]*Object{b, a, plain}, Options{})
	for i, want := range []struct {
		max         time.Duration
		concurrency int
	}{{time.Minute, 2}, {5 * time.Minute, 8}} {
		if tr := s.Triggers()[i]; !tr.Ready || tr.Policy.BackoffMax != want.max || tr.Concurrency != want.concurrency {
			t.Errorf("got %+v, want %+v", tr, want)
		}
	}
}

func TestARateOfTheBrokerIsNoneOfItsTriggers(t *testing.T) {
	b, limited, a := aBroker("default", nil), aBroker("limited", nil), aTrigger("a", "default", nil)
	b.Settings = map[string]string{"rate": "30/m"}
	limited.Settings = map[string]string{"rate": "30/m"}
	limited.Annotations = map[string]string{AnnotationPrefix + "rate": "1000/s"}
	a.Annotations = map[string]string{AnnotationPrefix + "rate": "20"}
	s := Compile([]*Object{b, limited, aBroker("open", nil), a, aTrigger("plain", "limited", nil)}, Options{})
	for i, want := range []float64{0.5, 1000, 0} {
		if got := s.Brokers()[i]; !got.Ready || got.Rate != want {
			t.Errorf("broker %s: ready %v, rate %v, want %v", got.Name, got.Ready, got.Rate, want)
		}
	}
	for i, want := range []float64{20, 0} {
		if got := s.Triggers()[i]; !got.Ready || got.Rate != want {
			t.Errorf("trigger %s: ready %v, rate %v, want %v", got.Name, got.Ready, got.Rate, want)
		}
	}
}

func TestALaneIsControlledByTheTriggerAndElseByItsBroker(t *testing.T) {
	minutes := deliver.NewSchedule(time.Minute, 5*time.Minute)
	annotated := func(o *Object, pairs ...string) *Object {
		o.Annotations = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			o.Annotations[AnnotationPrefix+pairs[i]] = pairs[i+1]
		}
		return o
	}
	three := 3
	s := Compile([]*Object{
		annotated(aBroker("default", nil), "paused", "true", "order", "key", "adaptive", "false", "retry-schedule", "PT1M, 5m"),
		annotated(aTrigger("a-other", "default", nil), "paused", "false", "order", "none", "adaptive", "true", "retry-schedule", "1s"),
		aTrigger("b-same", "default", nil),
		aTrigger("c-retries", "default", &DeliverySpec{Retry: &three}),
		aTrigger("d-timeout", "default", &DeliverySpec{Timeout: ptr("PT1S")}),
	}, Options{})
	for i, want := range []struct {
		on       bool
		schedule deliver.Schedule
	}{{false, deliver.NewSchedule(time.Second)}, {true, minutes}, {true, deliver.Schedule{}}, {true, minutes}} {
		tr := s.Triggers()[i]
		if !tr.Ready || tr.Paused != want.on || tr.Ordered != want.on || tr.Steady != want.on || tr.Policy.Schedule != want.schedule {
			t.Errorf("trigger is %+v, want %+v", tr, want)
		}
	}
}

func TestAScheduleIsReadWholeOrNotAtAll(t *testing.T) {
	long := strings.TrimSuffix(strings.Repeat("1s,", deliver.MaxSchedule+1), ",")
	for value, says := range map[string]string{
		"":           `"": want a duration`,
		"1s,":        `"": want a duration`,
		"1s,0s":      `"0s": must be more than nothing`,
		"-1s":        "must not be negative",
		"1s;2s":      `"1s;2s": want a duration`,
		"PT5S,weeks": `"weeks": want a duration`,
		long:         "want at most 100 waits",
	} {
		if s, err := parseSchedule(value); err == nil || !strings.Contains(err.Error(), says) || s.Len() != 0 {
			t.Errorf("%q: %v waits, %v; want %q", value, s.Len(), err, says)
		}
	}
	s, err := parseSchedule("1s, PT5S,10m")
	if err != nil || s != deliver.NewSchedule(time.Second, 5*time.Second, 10*time.Minute) {
		t.Errorf("got %v waits, %v", s.Len(), err)
	}
}

func TestStartIsNowEarliestATimeOrHowLongAgo(t *testing.T) {
	for value, want := range map[string]Start{
		"now": {}, "earliest": {Earliest: true}, "2026-03-01T13:00:00+01:00": {At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		"2h": {Back: 2 * time.Hour}, "7d": {Back: 7 * 24 * time.Hour}, " PT30M ": {Back: 30 * time.Minute},
	} {
		a := aTrigger("a", "default", nil)
		a.Annotations = map[string]string{AnnotationPrefix + "start": value}
		if tr := only(t, Compile([]*Object{a, aBroker("default", nil)}, Options{})); !tr.Ready || tr.Start != want {
			t.Errorf("%q: %+v, want %+v: %s", value, tr.Start, want, tr.Message)
		}
	}
	for _, value := range []string{"", "yesterday", "-2h", "2026-03-01", "Earliest"} {
		a := aTrigger("a", "default", nil)
		a.Annotations = map[string]string{AnnotationPrefix + "start": value}
		if tr := only(t, Compile([]*Object{a, aBroker("default", nil)}, Options{})); tr.Ready || tr.Reason != ReasonAnnotationInvalid || !strings.Contains(tr.Message, "want now, earliest") {
			t.Errorf("%q: %+v", value, tr)
		}
	}
}

func TestTriggerBecomesReadyWhenItsBrokerAppears(t *testing.T) {
	a := aTrigger("a", "later", nil)
	before := Compile([]*Object{a}, Options{})
	if tr := only(t, before); tr.Ready || tr.Reason != ReasonBrokerDoesNotExist || !strings.Contains(tr.Message, "there is no Broker default/later: declare it") {
		t.Errorf("trigger is %+v", tr)
	}
	if len(before.TriggersOf("default", "later")) != 1 {
		t.Error("it is known as the Trigger of a Broker to come")
	}
	after := Compile([]*Object{a, aBroker("later", nil)}, Options{Previous: before})
	if tr := only(t, after); !tr.Ready || tr.Message != "" {
		t.Errorf("trigger is %+v", tr)
	}
}

func TestBadTriggerHarmsNobodyElseAndNeverMatches(t *testing.T) {
	bad := aTrigger("bad", "default", nil)
	bad.Trigger.Filter = filter.Spec{Filters: []filter.Dialect{{CESQL: "1 + 1"}}}
	odd := aTrigger("odd", "default", nil)
	odd.Trigger.Subscriber = &Destination{URI: "bad://uri"}
	s := Compile([]*Object{aBroker("default", nil), bad, odd, aTrigger("good", "default", nil)}, Options{})
	tr, _ := s.Trigger("default", "bad")
	if tr.Ready || tr.Filter != nil || tr.Reason != ReasonFilterInvalid {
		t.Errorf("bad is %+v", tr)
	}
	// Knative's conformance tests: this one is ready, and its events end as dead letters.
	if tr, _ := s.Trigger("default", "odd"); !tr.Ready || tr.Subscriber != "bad://uri" {
		t.Errorf("odd is %+v", tr)
	}
	if tr, _ := s.Trigger("default", "good"); !tr.Ready {
		t.Errorf("good is %+v", tr)
	}
}

func TestUnchangedFilterIsNotCompiledAgain(t *testing.T) {
	objects := func(typ string) []*Object {
		a, b := aTrigger("a", "default", nil), aTrigger("b", "default", nil)
		a.Trigger.Filter.Attributes = map[string]string{"type": "x"}
		b.Trigger.Filter.Attributes = map[string]string{"type": typ}
		return []*Object{aBroker("default", nil), a, b}
	}
	one := Compile(objects("y"), Options{Generation: 1})
	two := Compile(objects("z"), Options{Generation: 2, Previous: one})
	if one.Triggers()[0].Filter != two.Triggers()[0].Filter {
		t.Error("a did not change")
	}
	if one.Triggers()[1].Filter == two.Triggers()[1].Filter {
		t.Error("b changed")
	}
	if two.Generation() != 2 {
		t.Errorf("generation is %d", two.Generation())
	}
}

func TestHeldObjectsStayOutOfTheWayOfLiveOnes(t *testing.T) {
	gone := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	held, liveAgain := aTrigger("a", "old", nil), aTrigger("a", "default", nil)
	held.HeldUntil, held.UID = gone, "t-held"
	broker := aBroker("old", nil)
	broker.HeldUntil = gone
	s := Compile([]*Object{held, broker, aBroker("default", nil), liveAgain}, Options{})
	if tr, _ := s.Trigger("default", "a"); tr.Held || tr.UID != "t-a" {
		t.Errorf("found %+v", tr)
	}
	if tr := s.TriggersOf("default", "old")[0]; !tr.Held || tr.Ready || tr.Reason != ReasonRemoved || !strings.Contains(tr.Message, "2026-01-01T00:00:00Z") {
		t.Errorf("held is %+v", tr)
	}
	if _, ok := s.Broker("default", "old"); ok || len(s.HeldBrokers()) != 1 || len(s.Brokers()) != 1 {
		t.Error("a held Broker is not found by name")
	}
	if len(s.Problems()) != 0 {
		t.Errorf("problems are %v", s.Problems())
	}
}

func TestObjectsBeyondTheLimitAreToldAndLeftOut(t *testing.T) {
	objects := []*Object{aBroker("default", nil)}
	for i := range 5 {
		objects = append(objects, aTrigger(fmt.Sprintf("t%d", i), "default", nil))
	}
	s := Compile(objects, Options{Limit: 4})
	if len(s.Triggers()) != 3 || len(s.Problems()) != 1 || !strings.Contains(s.Problems()[0].Message, "2 objects are ignored") {
		t.Errorf("%d Triggers, problems %v", len(s.Triggers()), s.Problems())
	}
}

func TestNamesAreThoseOfKubernetes(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, ok := range []string{"a", "a-b", "0", "a.b", long} {
		if err := CheckName("default", ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "A", "a_b", "-a", "a-", ".", "..", "a..b", ".a", "a/b", "a b", "ä", long + "a", "a\n"} {
		if CheckName("default", bad) == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
	for _, bad := range []string{"", "a.b", "..", "A"} {
		if CheckName(bad, "a") == nil {
			t.Errorf("%q is taken for a namespace", bad)
		}
	}
}

// A map's order must not show in what people read.
func TestSameObjectsGiveTheSameSnapshot(t *testing.T) {
	b := aBroker("b", nil)
	b.Annotations = map[string]string{}
	for i := range 20 {
		b.Annotations[fmt.Sprintf("%sx%d", AnnotationPrefix, i)] = "1"
	}
	objects := []*Object{b, aTrigger("t", "c", nil), aBroker("a", nil), aBroker("d", nil)}
	want := fmt.Sprint(Compile(objects, Options{}).Problems())
	for range 20 {
		if got := fmt.Sprint(Compile(objects, Options{}).Problems()); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// A Trigger of the Snapshot before stands for one that is declared the same.
// Whatever there may be to a Trigger, no change of it may be missed.
func TestTriggersThatDidNotChangeAreThoseOfTheSnapshotBefore(t *testing.T) {
	declared := func() []*Object {
		return []*Object{
			{Kind: KindBroker, Namespace: "default", Name: "default", UID: "b", Broker: &BrokerSpec{}},
			{Kind: KindTrigger, Namespace: "default", Name: "a", UID: "t", Trigger: &TriggerSpec{Broker: "default", Subscriber: &Destination{URI: "http://a"}}},
		}
	}
	first := Compile(declared(), Options{})
	again := Compile(declared(), Options{Previous: first})
	was, _ := first.Trigger("default", "a")
	if now, _ := again.Trigger("default", "a"); now != was || !was.Ready {
		t.Errorf("%+v is not taken from the snapshot before: %+v", now, was)
	}
	moved := declared()
	moved[1].Trigger.Subscriber.URI = "http://b"
	if now, _ := Compile(moved, Options{Previous: first}).Trigger("default", "a"); now.Subscriber != "http://b" || was.Subscriber != "http://a" {
		t.Errorf("changed to %+v, was %+v", now, was)
	}

	fields := reflect.TypeFor[Trigger]()
	for i := range fields.NumField() {
		if fields.Field(i).Name == "FilterSpec" {
			continue // stands in Filter
		}
		changed := *was
		f := reflect.ValueOf(&changed).Elem().Field(i)
		other := reflect.New(f.Type()).Elem()
		switch f.Kind() {
		case reflect.String:
			other.SetString(f.String() + "x")
		case reflect.Bool:
			other.SetBool(!f.Bool())
		case reflect.Int:
			other.SetInt(f.Int() + 1)
		case reflect.Float64:
			other.SetFloat(f.Float() + 1)
		default:
			switch f.Interface().(type) {
			case *filter.Filter:
				other.Set(reflect.ValueOf(new(filter.Filter)))
			case deliver.Policy:
				p := was.Policy
				p.Retry++
				other.Set(reflect.ValueOf(p))
			case Start:
				other.Set(reflect.ValueOf(Start{Earliest: true}))
			case time.Time:
				other.Set(reflect.ValueOf(was.HeldUntil.Add(time.Second)))
			default:
				t.Fatalf("there is nothing here to change %s with", fields.Field(i).Name)
			}
		}
		f.Set(other)
		if was.same(&changed) {
			t.Errorf("another %s is not noticed", fields.Field(i).Name)
		}
	}
}
