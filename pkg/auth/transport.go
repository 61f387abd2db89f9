package auth

import "net/http"

// Transport shows the token with each request that goes through it. Give it to
// a client that follows no redirects: whoever it is sent to gets the token.
type Transport struct {
	Tokens *TokenFile
	Next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper. A token that cannot be read is an
// error before anything is sent.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := t.Tokens.Token()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := t.Next.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusUnauthorized {
		t.Tokens.Rejected(token)
	}
	return answer, err
}

// CloseIdleConnections makes that of http.Client reach the next transport.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.Next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// NoRedirects is http.Client.CheckRedirect for clients that show a token.
func NoRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
