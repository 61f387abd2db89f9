package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Backup is an archive about to be written.
type Backup interface {
	// Bytes is how long it will be, unless it fails.
	Bytes() int64
	// Write writes it. After an error what was written is no archive, and says
	// so to who reads it.
	Write(ctx context.Context, w io.Writer) error
	// Close ends the hold that the backup has on files.
	Close()
}

// ErrBackupRuns is what Options.Backup answers while another backup is under way.
var ErrBackupRuns = errors.New("another backup is under way: wait until it has ended")

// backup streams an archive. Its length is told before: a client sees by it
// that the stream was cut, and one that only stores it does too.
func (s *Server) backup(w http.ResponseWriter, r *http.Request, q url.Values) error {
	rate := int64(defaultBackupRate)
	if text := q.Get("rate"); text != "" {
		var err error
		if rate, err = strconv.ParseInt(text, 10, 64); err != nil || rate != 0 && rate < minBackupRate {
			return refuse(http.StatusBadRequest, "parameter rate: %.32q: want bytes a second, at least %d, or 0 for no limit", text, minBackupRate)
		}
	}
	if s.opts.Backup == nil {
		return refuse(http.StatusNotImplemented, "this broker keeps nothing on disk: there is nothing to back up")
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-s.closing:
			cancel(channel.ErrClosed)
		case <-stopped:
		}
	}()
	b, err := s.opts.Backup(ctx, rate)
	switch {
	case errors.Is(err, ErrBackupRuns):
		return &problem{code: http.StatusConflict, text: err.Error(), retryAfter: 10}
	case errors.Is(err, channel.ErrUnavailable), errors.Is(err, channel.ErrClosed):
		return &problem{code: http.StatusServiceUnavailable, text: err.Error(), retryAfter: 1}
	case err != nil:
		return err
	}
	defer b.Close()
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // passing it would end the request
	w.Header().Set("Content-Length", strconv.FormatInt(b.Bytes(), 10))
	w.Header().Set("Content-Disposition", `attachment; filename="penstock-backup.tar"`)
	start := s.opts.Now()
	if err := b.Write(ctx, patient{w, conn, s.opts.Timeout}); err != nil {
		// The answer has begun. That it is not whole shows in its length.
		s.log.Warn("backup was not finished", "error", err)
		return nil
	}
	s.log.Info("backup was taken", "bytes", b.Bytes(), "duration", s.opts.Now().Sub(start))
	return nil
}

const (
	// minBackupRate keeps a backup from holding files for ever.
	minBackupRate = 64 << 10
	// defaultBackupRate is little enough for two cores that accept events
	// meanwhile: appends do not feel it.
	defaultBackupRate = 50 << 20
)

// patient gives a slow client so much time for each write, and not for all.
type patient struct {
	w       io.Writer
	conn    *http.ResponseController
	timeout time.Duration
}

func (p patient) Write(b []byte) (int, error) {
	// Not every ResponseWriter has deadlines; those of connections do.
	_ = p.conn.SetWriteDeadline(time.Now().Add(p.timeout))
	return p.w.Write(b)
}
