package auth_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/auth"
)

func TestBearerIsTheOneTokenOfARequest(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []string
		token  string // "" for none
	}{
		{"a token", []string{"Bearer abc.DEF-1_2~3+4/5="}, "abc.DEF-1_2~3+4/5="},
		{"any case", []string{"bEARER abc"}, "abc"},
		{"several spaces", []string{"Bearer   abc"}, "abc"},
		{"no header", nil, ""},
		{"empty", []string{""}, ""},
		{"scheme alone", []string{"Bearer"}, ""},
		{"scheme and a space", []string{"Bearer "}, ""},
		{"another scheme", []string{"Basic abc"}, ""},
		{"a longer scheme", []string{"Bearerx abc"}, ""},
		{"two tokens", []string{"Bearer abc def"}, ""},
		{"two headers", []string{"Bearer abc", "Bearer abc"}, ""},
		{"a comma", []string{"Bearer abc,def"}, ""},
		{"a line", []string{"Bearer abc\r\nX: y"}, ""},
		{"not ASCII", []string{"Bearer ä"}, ""},
		{"too long", []string{"Bearer " + strings.Repeat("a", 16<<10+1)}, ""},
		{"as long as may be", []string{"Bearer " + strings.Repeat("a", 16<<10)}, strings.Repeat("a", 16<<10)},
	} {
		r := &http.Request{Header: http.Header{}}
		if tt.values != nil {
			r.Header["Authorization"] = tt.values
		}
		if token, ok := auth.Bearer(r); token != tt.token || ok != (tt.token != "") {
			t.Errorf("%s: %.20q, %v", tt.name, token, ok)
		}
	}
}

// tokenFile is a file that can be written again.
func tokenFile(t *testing.T, content string) (*auth.TokenFile, func(string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if content != "" {
		write(content)
	}
	return auth.NewTokenFile(path), func(content string) {
		if content == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return
		}
		write(content)
	}
}

func want(t *testing.T, f *auth.TokenFile, token string) {
	t.Helper()
	got, err := f.Token()
	if got != token || (err == nil) != (token != "") {
		t.Errorf("token %q, error %v; want %q", got, err, token)
	}
}

func TestRotatedTokenIsFoundWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, write := tokenFile(t, "first\n")
		want(t, f, "first")
		write("second")
		time.Sleep(time.Minute - time.Nanosecond)
		want(t, f, "first")
		time.Sleep(time.Nanosecond)
		want(t, f, "second")
	})
}

func TestRejectedTokenIsReadAgainSoonerButNotAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, write := tokenFile(t, "first")
		want(t, f, "first")
		time.Sleep(time.Second)
		write("second")
		f.Rejected("first")
		want(t, f, "second")
		f.Rejected("first") // an answer that came late says nothing of the second
		write("third")
		time.Sleep(2 * time.Second)
		want(t, f, "second")
		f.Rejected("second")
		want(t, f, "third")
		f.Rejected("third") // nothing newer is there: it stays the answer
		want(t, f, "third")
		write("fourth")
		want(t, f, "third") // looked a moment ago
		time.Sleep(time.Second)
		want(t, f, "fourth")
	})
}

func TestFileThatCannotBeReadLeavesTheTokenThatNobodyRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, write := tokenFile(t, "")
		want(t, f, "") // not mounted yet
		write("first")
		want(t, f, "")
		time.Sleep(time.Second)
		want(t, f, "first")
		write("")
		time.Sleep(time.Hour)
		want(t, f, "first")
		f.Rejected("first")
		want(t, f, "")
		write("second")
		time.Sleep(time.Second)
		want(t, f, "second")
	})
}

func TestErrorsNameTheFileAndNeverTheToken(t *testing.T) {
	const secret = "s3cr3t"
	for name, content := range map[string]string{
		"two lines": secret + "\n" + secret, "spaces inside": secret + " x", "control character": secret + "\x00",
		"empty": " \n", "too long": strings.Repeat(secret, 3000), "too much white": secret + strings.Repeat(" ", 20<<10),
	} {
		f, _ := tokenFile(t, content)
		token, err := f.Token()
		if err == nil || token != "" {
			t.Errorf("%s: token %q", name, token)
			continue
		}
		if text := err.Error(); !strings.Contains(text, string(filepath.Separator)+"token") || strings.Contains(text, secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := auth.NewTokenFile("/does/not/exist").Token(); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("no file: %v", err)
	}
}

func TestPrintedTokenFileKeepsItsSecret(t *testing.T) {
	f, _ := tokenFile(t, "s3cr3t")
	want(t, f, "s3cr3t")
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("token", "file", f)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("token", "file", f)
	for _, text := range []string{fmt.Sprint(f), fmt.Sprintf("%+v %#v %s %q", f, f, f, f), logged.String()} {
		if strings.Contains(text, "s3cr3t") {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestTokenFileMayBeUsedByMany(t *testing.T) {
	f, write := tokenFile(t, "first")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				token, err := f.Token()
				if err != nil {
					t.Error(err)
				}
				f.Rejected(token)
			}
		})
	}
	write("second")
	wg.Wait()
}
