// Package auth is who we are and who they are: the bearer tokens with which
// the parts of Penstock speak to each other inside a cluster. TokenFile is the
// caller's side, Bearer reads the header on the other side. Whether a token is
// good is for somebody else to say (Kubernetes, by TokenReview).
//
// A token never appears in an error or in a log. Everything here may be used
// by any number of goroutines.
package auth

import (
	"net/http"
	"strings"
)

// maxToken bounds a token. One for a service account has about a kilobyte.
const maxToken = 16 << 10

// Bearer is the token that a request brings. ok is false where there is none,
// more than one, or something that cannot be one (RFC 6750, 2.1).
func Bearer(r *http.Request) (token string, ok bool) {
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	token = strings.TrimLeft(token, " ")
	if !wellFormed(token) {
		return "", false
	}
	return token, true
}

// wellFormed reports whether s can stand in the header: the characters of
// RFC 6750's b64token and nothing that could end a line.
func wellFormed(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~+/=", c) >= 0:
		default:
			return false
		}
	}
	return true
}
