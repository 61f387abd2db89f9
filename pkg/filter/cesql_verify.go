package filter

import (
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"strings"
)

// Keys finds the AES keys that Knative's RequestReply marks its requests with.
// It is asked for each event that KN_VERIFY_CORRELATION_ID looks at, by any
// number of goroutines at once, and must not block.
type Keys interface {
	// Ciphers is AES-GCM with each of the keys that a Secret holds for a
	// RequestReply; empty for none. The caller does not change it.
	Ciphers(secret, namespace, name string) []cipher.AEAD
}

// NoKeys is for whoever only asks whether a filter compiles: it knows the
// function, and no event verifies.
type NoKeys struct{}

// Ciphers has none.
func (NoKeys) Ciphers(_, _, _ string) []cipher.AEAD { return nil }

const verifyName = "KN_VERIFY_CORRELATION_ID"

var errNoKeys = errors.New("no function " + verifyName + " here: it needs the keys of Knative's RequestReply, which the dispatchers of a cluster have: " +
	"apply this Trigger to a cluster, or remove the clause")

// perKey is what one key costs of the evaluation's budget, beside the text.
const perKey = 128

// verify is KN_VERIFY_CORRELATION_ID(id, name, namespace, secret, pod, replicas).
// It is true of an id in the form of Knative's RequestReply,
// <id of the request>:<nonce and sealed id, base64 for URLs>:<index>,
// whose sealed part one of the keys opens to the id before it, and whose index
// is the pod's own modulo the replicas. What is malformed is false.
func (ev *evaluation) verify(n *sqlNode) value {
	var args [6]value
	for i, to := range verifyParams {
		v := ev.eval(&n.args[i]).cast(to)
		if v.kind == kindFault {
			return v
		}
		args[i] = v
	}
	text, name, namespace, secret := args[0].text, args[1].text, args[2].text, args[3].text
	pod, replicas := args[4].num, args[5].num
	if !ev.spend(len(text)) {
		return faultValue(faultCost, "")
	}
	id, rest, _ := strings.Cut(text, ":")
	sealed, last, three := strings.Cut(rest, ":")
	index, numeric := parseInteger(last)
	switch {
	case !three || !numeric: // a fourth part is no integer either
		return booleanValue(false)
	case replicas == 0:
		return faultValue(faultDivideByZero, "")
	case index%replicas != pod:
		return booleanValue(false)
	}
	ciphers := n.keys.Ciphers(secret, namespace, name)
	if len(ciphers) == 0 {
		return booleanValue(false)
	}
	box, err := base64.URLEncoding.DecodeString(sealed)
	if err != nil {
		return booleanValue(false)
	}
	for _, c := range ciphers {
		if !ev.spend(perKey + len(box)/16) {
			return faultValue(faultCost, "")
		}
		if size := c.NonceSize(); len(box) >= size {
			opened, err := c.Open(nil, box[:size], box[size:], nil)
			if err == nil && string(opened) == id {
				return booleanValue(true)
			}
		}
	}
	return booleanValue(false)
}
