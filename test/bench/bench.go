package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
)

// ingressPath is where every system takes events.
const ingressPath = "/default/default"

const (
	// defaultStandStill is how long nothing may arrive before what is missing
	// counts as lost: longer than the first retries of a delivery take together.
	defaultStandStill = 8 * time.Second

	// settle is waited after the last delivery, so that what a system does
	// behind it, such as noting progress, is in its processor time.
	settle = 250 * time.Millisecond
)

// bench is the rig: the programs, a folder for this run, and the sink.
type bench struct {
	root     string // of the repository
	dir      string // of this run; removed by close
	self     string
	penstock string
	sink     *remoteSink
}

// remoteSink is the sink's process.
type remoteSink struct {
	*process
	address, control string
	standStill       time.Duration // without a delivery: the rest is lost
}

func (s *remoteSink) url(path string) string { return "http://" + s.address + path }

// newBench builds penstock and starts the sink. The folder lies in the
// repository, so that disk rows measure its file system.
func newBench(ctx context.Context) (b *bench, err error) {
	b = &bench{}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	module, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	b.root = filepath.Dir(strings.TrimSpace(string(module)))
	bin := filepath.Join(b.root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp(bin, "bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	b.penstock = filepath.Join(b.dir, "penstock")
	// As the images are built (ko.yaml).
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.penstock, "./cmd/penstock")
	build.Dir = b.root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build ./cmd/penstock: %w\n%s", err, out)
	}
	if b.sink, err = startSink(ctx, b.self, b.dir); err != nil {
		return nil, err
	}
	return b, nil
}

func startSink(ctx context.Context, self, dir string) (*remoteSink, error) {
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	return startSinkAt(ctx, self, dir, address)
}

func startSinkAt(ctx context.Context, self, dir, address string) (s *remoteSink, err error) {
	s = &remoteSink{standStill: defaultStandStill, address: address}
	if s.control, err = freePort(); err != nil {
		return nil, err
	}
	if s.process, err = start("sink", dir, self, "sink", "-listen", s.address, "-control", s.control); err != nil {
		return nil, err
	}
	if err := errors.Join(s.listening(ctx, s.address), s.listening(ctx, s.control)); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// close ends the sink and removes the folder.
func (b *bench) close() {
	if b.sink != nil {
		b.sink.stop()
	}
	_ = os.RemoveAll(b.dir)
}

// load runs the sender in a process of its own.
func (b *bench) load(ctx context.Context, o load.Options) (r load.Result, accepted *tally.Bitset, err error) {
	ids := filepath.Join(b.dir, "accepted")
	cmd := exec.CommandContext(ctx, b.self, "load",
		"-address", o.Address, "-path", o.Path, "-ids", ids,
		"-c", strconv.Itoa(o.Connections), "-n", strconv.Itoa(o.Events), "-duration", o.Duration.String(),
		"-rate", strconv.FormatFloat(o.Rate, 'f', -1, 64), "-size", strconv.Itoa(o.Size),
		"-first-id", strconv.FormatUint(o.FirstID, 10), "-first-type", strconv.Itoa(o.FirstType), "-types", strconv.Itoa(o.Types))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return r, nil, fmt.Errorf("load: %w: %s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, nil, fmt.Errorf("load: %w", err)
	}
	f, err := os.Open(ids)
	if err != nil {
		return r, nil, err
	}
	defer f.Close()
	accepted = new(tally.Bitset)
	if _, err := accepted.ReadFrom(f); err != nil {
		return r, nil, err
	}
	if uint64(accepted.Len()) != r.Accepted {
		return r, nil, fmt.Errorf("load: %d accepted, %d of them different ids", r.Accepted, accepted.Len())
	}
	return r, accepted, nil
}

// get reads from the sink's control port.
func (s *remoteSink) get(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.control+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	}
	return b, err
}

func (s *remoteSink) reset(ctx context.Context) error {
	_, err := s.get(ctx, http.MethodPost, "/reset")
	return err
}

func (s *remoteSink) stats(ctx context.Context) (stats sink.Stats, err error) {
	b, err := s.get(ctx, http.MethodGet, "/stats")
	if err != nil {
		return stats, err
	}
	return stats, json.Unmarshal(b, &stats)
}

func (s *remoteSink) ids(ctx context.Context, path string) (*tally.Bitset, error) {
	b, err := s.get(ctx, http.MethodGet, "/ids?path="+path)
	if err != nil {
		return nil, err
	}
	set := new(tally.Bitset)
	_, err = set.ReadFrom(bytes.NewReader(b))
	return set, err
}

// counts are how many different events each path has.
func (s *remoteSink) counts(ctx context.Context) (counts map[string]uint64, err error) {
	b, err := s.get(ctx, http.MethodGet, "/counts")
	if err != nil {
		return nil, err
	}
	return counts, json.Unmarshal(b, &counts)
}

// slow makes a path answer late, until the next reset.
func (s *remoteSink) slow(ctx context.Context, path string, delay time.Duration) error {
	_, err := s.get(ctx, http.MethodPost, "/delay?path="+path+"&delay="+delay.String())
	return err
}

// drain waits until want different events are at each path, or nothing more comes.
func (s *remoteSink) drain(ctx context.Context, paths []string, want uint64) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	var last uint64
	moved := time.Now()
	for {
		counts, err := s.counts(ctx)
		if err != nil {
			return err
		}
		all, sum := true, uint64(0)
		for _, path := range paths {
			all = all && counts[path] >= want
			sum += counts[path]
		}
		if all {
			return nil
		}
		if sum != last {
			last, moved = sum, time.Now()
		}
		if time.Since(moved) > s.standStill {
			return nil // the ids will show what is missing
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
}
