package filter

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

// keyring is Keys from a map: "secret/namespace/name".
type keyring map[string][]cipher.AEAD

func (k keyring) Ciphers(secret, namespace, name string) []cipher.AEAD {
	return k[secret+"/"+namespace+"/"+name]
}

func sealer(t testing.TB, key string) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	c, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mark is what RequestReply puts into an event.
func mark(c cipher.AEAD, id string, index int) string {
	nonce := []byte("twelve bytes")
	return fmt.Sprintf("%s:%s:%d", id, base64.URLEncoding.EncodeToString(c.Seal(nonce, nonce, []byte(id), nil)), index)
}

func replying(t testing.TB, id string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "reply")
	if id != "" {
		b.Set("replyid", id)
	}
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ring has two keys, and one for another RequestReply.
func ring(t testing.TB) (keys keyring, old, latest, other cipher.AEAD) {
	old, latest, other = sealer(t, strings.Repeat("o", 32)), sealer(t, strings.Repeat("l", 32)), sealer(t, strings.Repeat("x", 16))
	return keyring{"keys/shop/rr": {old, latest}, "keys/shop/other": {other}}, old, latest, other
}

func TestAReplyMatchesTheTriggerOfItsRequest(t *testing.T) {
	keys, old, latest, other := ring(t)
	good := mark(latest, "order-1", 4)
	for name, c := range map[string]struct {
		id, expression string
		want           bool
	}{
		"latest key":            {good, "", true},
		"old key":               {mark(old, "order-1", 0), "", true},
		"empty id":              {mark(old, "", 0), "", true}, // none is accepted, but Knative would
		"key of another":        {mark(other, "order-1", 0), "", false},
		"another's id":          {strings.Replace(good, "order-1", "order-2", 1), "", false},
		"no id":                 {"", "", false},
		"id with a colon":       {mark(latest, "a:b", 0), "", false},
		"two parts":             {good[:strings.LastIndex(good, ":")], "", false},
		"no index":              {strings.TrimSuffix(good, "4"), "", false},
		"huge index":            {strings.TrimSuffix(good, "4") + "2147483648", "", false},
		"no base64":             {"order-1:!:0", "", false},
		"too short":             {"order-1:YWJj:0", "", false},
		"nothing sealed":        {"order-1::0", "", false},
		"index of another pod":  {good, `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 3)`, false},
		"index of this pod":     {good, `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 1, 3)`, true},
		"no replicas":           {good, `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 0)`, false},
		"no replicas, not":      {good, `NOT KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 0)`, false},
		"no id, not":            {"", `NOT KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 1)`, false},
		"least by minus one":    {"a:b:-2147483648", `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, -1)`, false},
		"another secret":        {good, `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "locks", 0, 1)`, false},
		"another name":          {good, `KN_VERIFY_CORRELATION_ID(replyid, "other", "shop", "keys", 0, 1)`, false},
		"another namespace":     {good, `KN_VERIFY_CORRELATION_ID(replyid, "rr", "mall", "keys", 0, 1)`, false},
		"numbers as strings":    {good, `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", "0", "1")`, true},
		"a number that is none": {good, `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", "x", 1)`, false},
		"in lower case":         {good, `kn_verify_correlation_id(replyid, "rr", "shop", "keys", 0, 1)`, true},
		"with others":           {good, `type = "reply" AND KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 1)`, true},
		"a flood":               {"a:" + strings.Repeat("A", 30_000) + ":0", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			if c.expression == "" {
				c.expression = `KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 1)`
			}
			f, err := CompileWith(sql(c.expression), Options{Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			e := replying(t, c.id)
			x, found := f.Explain(e), NewIndex([]*Filter{f}).Match(e, new(Scratch))
			if f.Match(e) != c.want || x.Matched != c.want || (len(found) == 1) != c.want {
				t.Errorf("match is %v, the index says %v, explained as %v", f.Match(e), found, x)
			}
		})
	}
}

func TestWithoutKeysTheFunctionIsUnknownOrVerifiesNothing(t *testing.T) {
	_, _, latest, _ := ring(t)
	spec := sql(`KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 1)`)
	if _, err := Compile(spec); err == nil || !strings.Contains(err.Error(), "apply this Trigger to a cluster") {
		t.Errorf("got %v, want an error that names the cure", err)
	}
	f, err := CompileWith(spec, Options{Keys: NoKeys{}})
	if err != nil || f.Match(replying(t, mark(latest, "a", 0))) {
		t.Errorf("%v, or it matches without a key", err)
	}
	_, err = CompileWith(sql(`KN_VERIFY_CORRELATION_ID(replyid)`), Options{Keys: NoKeys{}})
	if err == nil || !strings.Contains(err.Error(), "with 1 arguments") {
		t.Errorf("got %v", err)
	}
}

// Keys come and go under a filter that stays.
func TestAKeyThatIsAddedIsInForceAtOnce(t *testing.T) {
	keys, _, _, _ := ring(t)
	f, err := CompileWith(sql(`KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 1)`), Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	newer := sealer(t, strings.Repeat("n", 24))
	e := replying(t, mark(newer, "a", 0))
	before := f.Match(e)
	keys["keys/shop/rr"] = append(keys["keys/shop/rr"], newer)
	if before || !f.Match(e) {
		t.Errorf("before %v, after %v", before, f.Match(e))
	}
}

// FuzzVerify feeds any id and any arguments: no panic, and what verifies was sealed.
func FuzzVerify(f *testing.F) {
	keys, _, latest, _ := ring(f)
	good := mark(latest, "order-1", 3)
	f.Add(good, "rr", "shop", "keys", int32(0), int32(1))
	f.Add(good+":", "rr", "shop", "keys", int32(0), int32(1))
	f.Add("a::0", "rr", "shop", "keys", int32(0), int32(0))
	f.Add("a:b:-2147483648", "", "", "", int32(-2147483648), int32(-1))
	f.Fuzz(func(t *testing.T, id, name, namespace, secret string, pod, replicas int32) {
		if strings.ContainsAny(name+namespace+secret, "\"\\\x00") {
			return
		}
		compiled, err := CompileWith(sql(fmt.Sprintf("KN_VERIFY_CORRELATION_ID(replyid, \"%s\", \"%s\", \"%s\", %d, %d)", name, namespace, secret, pod, replicas)), Options{Keys: keys})
		if err != nil {
			return
		}
		var b event.Builder
		e, err := b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "reply").Set("replyid", id).Build()
		if err != nil {
			return
		}
		got := compiled.Match(e)
		want := false
		parts := strings.Split(id, ":")
		if index, ok := parseInteger(parts[len(parts)-1]); ok && len(parts) == 3 && replicas != 0 && index%replicas == pod {
			box, err := base64.URLEncoding.DecodeString(parts[1])
			for _, c := range keys.Ciphers(secret, namespace, name) {
				if err == nil && len(box) >= 12 {
					opened, err := c.Open(nil, box[:12], box[12:], nil)
					want = want || err == nil && string(opened) == parts[0]
				}
			}
		}
		if got != want {
			t.Errorf("match is %v, want %v", got, want)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	keys, _, latest, _ := ring(b)
	f, err := CompileWith(sql(`KN_VERIFY_CORRELATION_ID(replyid, "rr", "shop", "keys", 0, 1)`), Options{Keys: keys})
	if err != nil {
		b.Fatal(err)
	}
	e := replying(b, mark(latest, "8b6ad3f2-8f3c-4b1c-9c53-1f1f0a3f7c11", 0))
	b.ReportAllocs()
	for b.Loop() {
		if !f.Match(e) {
			b.Fatal("no match")
		}
	}
}
