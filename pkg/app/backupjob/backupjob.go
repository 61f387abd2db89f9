// Package backupjob backs up all dispatchers of a cluster: it finds them,
// asks each for its archive, verifies it, keeps it under a name that tells
// whose and when, and removes the oldest.
//
// It promises that a file with the name of a backup is whole and verified;
// that one dispatcher which cannot be backed up does not keep the others from
// it; and that the exit code is 0 only if all that were expected are backed
// up. No backup is removed unless a newer one of the same dispatcher has just
// been made. It does not encrypt and it does not restore: that is
// `penstock restore`.
//
// Main may be called by one goroutine at a time, and one job at a time may
// write to a folder.
package backupjob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/client"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs one job and returns the exit code. It ends when ctx ends; what is
// half done then leaves nothing behind.
func Main(ctx context.Context, args []string, out, errOut io.Writer) int {
	o, err := readOptions(args, out)
	if errors.Is(err, pflag.ErrHelp) {
		return exitDone
	}
	if err == nil {
		err = o.check()
	}
	if err != nil {
		tell(errOut, "Error: "+err.Error())
		fmt.Fprintln(errOut, "See 'backup-message-queue --help'.")
		return exitUsage
	}
	j := job{options: o, resolver: net.DefaultResolver, now: time.Now, out: out}
	if err := j.run(ctx); err != nil {
		for _, e := range flatten(err) {
			tell(errOut, "Error: "+e.Error())
		}
		return exitFailed
	}
	return exitDone
}

// job is one run.
type job struct {
	options
	resolver resolver
	now      func() time.Time
	out      io.Writer
}

func (j *job) run(ctx context.Context) error {
	targets, err := j.targets(ctx)
	if err != nil {
		return err
	}
	web := newHTTPClient(j.TokenFile)
	defer web.CloseIdleConnections()
	stamp := j.now().UTC().Format(stampLayout)
	var failed error
	// One after the other: each takes its share of disk and network, and they
	// all end up on the same disk.
	for _, t := range targets {
		if err := j.one(ctx, web, t, stamp); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", t.name, err))
		}
		if ctx.Err() != nil {
			return errors.Join(failed, errors.New("interrupted"))
		}
	}
	if len(targets) < j.Expect {
		failed = errors.Join(failed, fmt.Errorf("%d of %d dispatchers were found: what the others hold is not backed up", len(targets), j.Expect))
	}
	return failed
}

// one backs up one dispatcher and then lets go of its oldest backups.
func (j *job) one(ctx context.Context, web *httpClient, t target, stamp string) error {
	c, err := client.New(t.url, web.Client)
	if err != nil {
		return err
	}
	if err := removeUnfinished(j.To, t.name); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	archive, size, err := c.Backup(ctx, j.rate)
	if err != nil {
		return err
	}
	defer archive.Close()
	path := archivePath(j.To, t.name, stamp)
	watched := newWatched(archive, j.Patience, cancel)
	defer watched.stop()
	m, err := backup.Save(path, false, watched)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
			err = cause
		}
		return err
	}
	tell(j.out, fmt.Sprintf("%s: %s, %d bytes, %d brokers, all accepted before %s",
		t.name, path, size, len(m.Brokers), m.Created.UTC().Format(time.RFC3339)))
	for _, note := range m.Notes {
		tell(j.out, t.name+": note: "+note)
	}
	return removeOld(j.To, t.name, j.Keep)
}

// tell writes one line, of which parts may come from outside.
func tell(w io.Writer, line string) { fmt.Fprintln(w, telemetry.Clean(line)) }

// flatten is an error and those joined to it, one each.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

// writable finds out before anything is asked whether a folder takes files.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
