package ingress

import (
	"net/http"
	"strconv"
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
func (h *Handler) handshake(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Vary", "WebHook-Request-Origin")
	if r.ContentLength != 0 {
		header.Set("Connection", "close")
	}
	if target, _, refusal := h.find(r); refusal.code == 0 || refusal.code == http.StatusServiceUnavailable {
		origins := r.Header["Webhook-Request-Origin"]
		if len(origins) == 1 && isOrigin(origins[0]) && (h.allowOrigin == nil || h.allowOrigin(origins[0])) {
			header.Set("WebHook-Allowed-Origin", origins[0])
			if rate, err := strconv.ParseUint(r.Header.Get("WebHook-Request-Rate"), 10, 31); err == nil && rate > 0 {
				if target.Limit != nil {
					rate = min(rate, target.Limit.perMinute())
				}
				header.Set("WebHook-Allowed-Rate", strconv.FormatUint(rate, 10))
			}
		}
	}
	header.Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
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
