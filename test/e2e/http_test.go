package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// client keeps a connection for each sender of a load.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: broker.Patience}

// post sends one event and returns the status of the answer, 0 for none.
func post(url, id, typ, data string) (status int, answer http.Header) {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(data))
	if err != nil {
		return 0, nil
	}
	for name, value := range map[string]string{"Ce-Specversion": "1.0", "Ce-Source": "/e2e", "Ce-Id": id, "Ce-Type": typ, "Content-Type": "text/plain"} {
		r.Header.Set(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header
}

// get returns the status of a GET.
func get(t *testing.T, url string) int {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
