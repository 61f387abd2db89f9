package event

import (
	"net/url"
	"strconv"
	"testing"
)

func uriBySTD(s string) bool {
	_, err := url.Parse(s)
	return err == nil
}

func TestURIReferences(t *testing.T) {
	for s, want := range map[string]bool{
		"/orders/17": true, "https://shop.example/orders": true, "urn:uuid:6e8bc430": true, "mailto:a@b.example": true, "a b": true, "ümlaut": true,
		"https://user@shop.example:8080/a?b=c#d": true, "//host/path": true, "http:": true,
		":": false, "1a:b": false, "http://[::1": false, "%zz": false, "http://a:b/": false, "a\x7fb": false,
	} {
		if got := uriReference(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestIntegersAreInt32InCanonicalForm(t *testing.T) {
	for s, want := range map[string]bool{
		"0": true, "7": true, "-7": true, "2147483647": true, "-2147483648": true,
		"": false, "-": false, "-0": false, "+1": false, "01": false, "1.0": false, "1e2": false, "2147483648": false, "-2147483649": false, " 1": false, "0x1": false, "1_0": false,
	} {
		if got := integer(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestBuilderIsHeldToTheRulesOfTheDoor(t *testing.T) {
	valid := func() *Builder {
		return new(Builder).Set("specversion", "1.0").Set("id", "1").Set("source", "/s").Set("type", "t")
	}
	if err := valid().SetHeader("X-Anything", "\x00").SetValue("n", Value{"1", Integer}).Validate(); err != nil {
		t.Errorf("valid event: %v", err)
	}
	for want, b := range map[string]*Builder{
		"id: missing; every CloudEvent needs one":                   new(Builder),
		"n: \"x\" is not an integer from -2147483648 to 2147483647": valid().SetValue("n", Value{"x", Integer}),
		"b: \"1\" is not true or false":                             valid().SetValue("b", Value{"1", Boolean}),
		"subject: must be a string":                                 valid().SetValue("subject", Value{"1", Integer}),
	} {
		if err := b.Validate(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestBuilderForgetsWhatIsDeletedAndReset(t *testing.T) {
	b := new(Builder).Set("a", "1").Set("b", "2").SetHeader("a", "3").Set("a", "4").Delete("b").Delete("none").SetData([]byte("x"))
	if b.Text("a") != "4" || b.Has("b") || len(b.entries) != 2 {
		t.Errorf("%v", b.entries)
	}
	b.Reset()
	if e, err := b.Build(); err != nil || e.entries() != 0 || e.HasData() {
		t.Errorf("%v %v", e, err)
	}
	if _, err := new(Builder).Set(string(make([]byte, 256)), "").Build(); err == nil {
		t.Error("a name of 256 bytes was stored")
	}
	for i := range MaxEntries + 1 { // not by Set, which looks for the name each time
		b.entries = append(b.entries, entry{name: strconv.Itoa(i)})
	}
	if _, err := b.Build(); err == nil {
		t.Error("65536 attributes were stored")
	}
}
