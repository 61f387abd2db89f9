package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	freshFor = time.Minute // a token younger than this is not read again
	rereadIn = time.Second // and a rejected one not more often than this
)

// TokenFile is a bearer token in a file that somebody else keeps fresh, as
// kubelet does with a projected service account token. It is read when it is
// first asked for, again when a minute has gone by, and when it was rejected.
type TokenFile struct {
	path string

	mu    sync.Mutex
	token string
	err   error     // of the last reading
	read  time.Time // when that was
	stale bool      // the token was rejected
}

// NewTokenFile names the file. It reads nothing yet.
func NewTokenFile(path string) *TokenFile { return &TokenFile{path: path} }

// Token is what the file holds. Where it cannot be read any more, the token it
// held before is the answer for as long as nobody rejects it.
func (f *TokenFile) Token() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := freshFor
	if f.stale || f.token == "" {
		wait = rereadIn
	}
	if now := time.Now(); f.read.IsZero() || now.Sub(f.read) >= wait {
		f.read = now
		var token string
		if token, f.err = load(f.path); f.err == nil {
			f.stale = f.stale && token == f.token
			f.token = token
		}
	}
	if f.err != nil && (f.token == "" || f.stale) {
		return "", f.err
	}
	return f.token, nil
}

// Rejected says that a request with this token was answered 401. If the file
// has a newer one, the next call of Token finds it; it looks once a second at
// most.
func (f *TokenFile) Rejected(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = f.stale || token == f.token
}

// String keeps the token out of what is printed.
func (f *TokenFile) String() string { return "token file " + f.path }

// GoString does so for %#v.
func (f *TokenFile) GoString() string { return f.String() }

func load(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxToken+2))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	switch {
	case len(content) > maxToken:
		err = fmt.Errorf("holds more than %d bytes", maxToken)
	case token == "":
		err = errors.New("is empty")
	case !wellFormed(token):
		err = errors.New("holds something that is no bearer token")
	default:
		return token, nil
	}
	return "", fmt.Errorf("read token: file %s %w", path, err)
}
