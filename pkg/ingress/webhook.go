package ingress

import (
	"net/http"
	"strconv"

	"github.com/penstock-events/penstock/pkg/event"
)

// maxOrigin bounds an origin that is echoed: the longest DNS name.
const maxOrigin = 253

// handshake answers OPTIONS: the validation request of CloudEvents' HTTP 1.1
// Web Hooks, section 4, which Azure Event Grid among others insists on. The
// answer is 200 with Allow for any path, since senders must be able to go on
// without the handshake. Permission is given by name, never as "*": the origin
// that asks is named back, for a broker that exists, and the rate that was
// asked for is granted, up to the broker's limit; a rate we cannot bear is
// answered with 429 when it comes. WebHook-Request-Callback is ignored: to call a URL that a stranger
// sent would make us their client.
func (h *Handler) handshake(q *request, a *reply) {
	a.code, a.close = http.StatusOK, q.length != 0
	a.set("Vary", "WebHook-Request-Origin")
	target, _, refusal := h.find(q.path)
	origin, ok := only(q.fields, "webhook-request-origin")
	if refusal.code != 0 && refusal.code != http.StatusServiceUnavailable ||
		!ok || !isOrigin(origin) || h.allowOrigin != nil && !h.allowOrigin(origin) {
		return
	}
	a.set("WebHook-Allowed-Origin", origin)
	if rate, err := strconv.ParseUint(q.get("webhook-request-rate"), 10, 31); err == nil && rate > 0 {
		if target.Limit != nil {
			rate = min(rate, target.Limit.perMinute())
		}
		a.setInt("WebHook-Allowed-Rate", rate)
	}
}

// only is the value of a header that came once.
func only(fields []event.Field, name string) (value string, ok bool) {
	for i := range fields {
		if fields[i].Name == name {
			if ok {
				return "", false
			}
			value, ok = fields[i].Value, true
		}
	}
	return value, ok
}

// isOrigin reports whether s may be an origin: a DNS name, as the web hook
// specification has it (4.1.1), or scheme, name and port as browsers write it.
func isOrigin(s string) bool {
	if s == "" || len(s) > maxOrigin {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == '_', c == ':', c == '/':
		default:
			return false
		}
	}
	return true
}
