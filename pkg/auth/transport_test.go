package auth

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheTokenIsShownWithEachRequestAndToNobodyElse(t *testing.T) {
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with %q", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		http.Redirect(rw, r, elsewhere.URL, http.StatusFound)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	client := &http.Client{Transport: &Transport{Tokens: NewTokenFile(file), Next: http.DefaultTransport}, CheckRedirect: NoRedirects}

	if _, err := client.Get(server.URL); err == nil || !strings.Contains(err.Error(), file) || len(seen) > 0 {
		t.Errorf("without a token: %v, %v", err, seen)
	}
	if err := os.WriteFile(file, []byte("abc.def\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client.Transport.(*Transport).Tokens = NewTokenFile(file) // one that has not just looked
	answer, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if len(seen) != 1 || seen[0] != "Bearer abc.def" || answer.StatusCode != http.StatusFound {
		t.Errorf("%v, %d", seen, answer.StatusCode)
	}
}
