package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/test/memhttp"
)

// dump is a Backup of so many pieces of 64 KiB with a wait before each.
type dump struct {
	pieces int
	wait   time.Duration
	err    error // after the pieces
	closed atomic.Bool
	ended  error // what Write returned
}

func (d *dump) Bytes() int64 { return int64(d.pieces)<<16 + 1 }
func (d *dump) Close()       { d.closed.Store(true) }

func (d *dump) Write(ctx context.Context, w io.Writer) (err error) {
	defer func() { d.ended = err }()
	piece := make([]byte, 1<<16)
	for range d.pieces {
		select {
		case <-time.After(d.wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if d.err != nil {
		return d.err
	}
	_, err = w.Write(piece[:1])
	return err
}

// dumping is an API over a network in memory whose backup is d.
func dumping(t *testing.T, d *dump) (s *Server, get func(ctx context.Context) (*http.Response, error)) {
	o := options(start(t))
	o.Backup = func(_ context.Context, rate int64) (Backup, error) {
		if rate != 1<<20 {
			t.Errorf("rate is %d", rate)
		}
		return d, nil
	}
	s = New(o)
	network := memhttp.New()
	network.Serve(t, "localhost", s)
	client := &http.Client{Transport: &http.Transport{DialContext: network.DialContext, DisableKeepAlives: true}}
	return s, func(ctx context.Context) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/api/v1/backup?rate=1048576", nil)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(req)
	}
}

func TestABackupMayTakeLongerThanAnyTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dump{pieces: 100, wait: 20 * time.Second}
		_, get := dumping(t, d)
		resp, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || n != d.Bytes() || resp.ContentLength != n {
			t.Errorf("%d bytes of %d, announced %d: %v", n, d.Bytes(), resp.ContentLength, err)
		}
		if resp.Header.Get("Content-Type") != "application/x-tar" {
			t.Errorf("content type %q", resp.Header.Get("Content-Type"))
		}
		synctest.Wait()
		if !d.closed.Load() {
			t.Error("the backup still holds its files")
		}
	})
}

func TestAClientThatStopsReadingABackupLosesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dump{pieces: 1000}
		_, get := dumping(t, d)
		begun := time.Now()
		resp, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for !d.closed.Load() {
			time.Sleep(time.Second) // virtual
		}
		if took := time.Since(begun); took > 32*time.Second || d.ended == nil {
			t.Errorf("after %v the backup ended with %v", took, d.ended)
		}
	})
}

// A cut stream must not look like a whole one to a client that knows nothing
// of archives.
func TestABackupThatFailsEndsBeforeItsLength(t *testing.T) {
	for name, end := range map[string]func(*Server, *dump, context.CancelFunc){
		"the log is damaged":     func(_ *Server, d *dump, _ context.CancelFunc) {},
		"the broker is stopping": func(s *Server, d *dump, _ context.CancelFunc) { s.Close() },
		"the client goes away":   func(_ *Server, _ *dump, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &dump{pieces: 10, wait: time.Second, err: errors.New("damage")}
				s, get := dumping(t, d)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				resp, err := get(ctx)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(3*time.Second, func() { end(s, d, cancel) })
				n, err := io.Copy(io.Discard, resp.Body)
				if err == nil || n >= d.Bytes() {
					t.Errorf("%d bytes of %d: %v", n, d.Bytes(), err)
				}
				synctest.Wait()
				if !d.closed.Load() || d.ended == nil {
					t.Errorf("closed %v, ended with %v", d.closed.Load(), d.ended)
				}
			})
		})
	}
}

func TestBackupsThatCannotBeAreRefusedWithTheReason(t *testing.T) {
	o := options(start(t))
	server := serve(t, o)
	if got := get[v1.Error](t, server, "/api/v1/backup", http.StatusNotImplemented); !strings.Contains(got.Error, "nothing to back up") {
		t.Errorf("memory only: %+v", got)
	}
	var err error
	o.Backup = func(context.Context, int64) (Backup, error) { return nil, err }
	server = serve(t, o)
	for code, cause := range map[int]error{
		http.StatusConflict:            ErrBackupRuns,
		http.StatusServiceUnavailable:  fmt.Errorf("begin a backup: %w", &channel.Refused{Err: channel.ErrUnavailable}),
		http.StatusInternalServerError: errors.New("something else"),
	} {
		err = cause
		if got := get[v1.Error](t, server, "/api/v1/backup", code); !strings.Contains(got.Error, cause.Error()) {
			t.Errorf("%v: %+v", cause, got)
		}
	}
	for _, rate := range []string{"-1", "1000", "fast", "50Mi"} {
		get[v1.Error](t, server, "/api/v1/backup?rate="+rate, http.StatusBadRequest)
	}
}

func TestHeadOfABackupTakesNone(t *testing.T) {
	o := options(start(t))
	o.Backup = func(context.Context, int64) (Backup, error) {
		t.Error("a backup was begun")
		return nil, ErrBackupRuns
	}
	resp, err := serve(t, o).Client().Head(serve(t, o).URL + "/api/v1/backup")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
}
