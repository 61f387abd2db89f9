package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
)

const defaultIngress = "http://localhost:8080"

// maxSamples is how many reasons of failure a summary shows.
const maxSamples = 10

type sendOptions struct {
	event       eventFlags
	url, broker string
	count       int
	rate        string
	concurrency int
	batch       int
	mode        string
	retry       int
	timeout     time.Duration
}

func sendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "send",
		Short: "Send one event, many, or a file of them",
		Long: `Send events to a Broker, as any producer does: by HTTP to its ingress.

One event is described by flags; -n sends it many times, each with an id of its
own. With -f events come from a file or standard input: one JSON event a line
(as 'penstock tail -o json' prints), a JSON array, or pretty-printed JSON. Flags
such as --source then replace that attribute in each event.

A line that is no event is reported with its number and left out; the others are
sent. The exit code is 1 if any event was left out or not accepted.

An event that was refused for now (429, 503, 507, or no connection) is sent
again up to --retry times, after the Retry-After that came with the refusal.
Nothing else is sent again: it might arrive twice.

Events of a file keep their order unless --concurrency is above 1.`,
		Example: `  penstock send --type order.created --data '{"id": 42}'
  penstock send --broker shop/orders --type order.paid --subject 42 -e region=eu --data-file paid.json
  penstock send --type load.test -n 10000 --rate 500/s --concurrency 8
  penstock tail -o json | penstock send -f - --url http://other:8080 --retry 5`,
		Args: cobra.NoArgs,
	}
	var o sendOptions
	o.event.bind(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&o.broker, "broker", "b", "default/default", "the Broker, as NAMESPACE/NAME or NAME")
	flags.StringVar(&o.url, "url", envOr("PENSTOCK_URL", defaultIngress), "ingress URL; with a path it is used as it is (environment: PENSTOCK_URL)")
	flags.IntVarP(&o.count, "count", "n", 1, "send the event given by flags so many times")
	flags.StringVar(&o.rate, "rate", "", "at most so many events a time, as in 100/s, 5/m")
	flags.IntVarP(&o.concurrency, "concurrency", "c", 1, "requests at a time")
	flags.StringVar(&o.mode, "mode", "binary", "HTTP mode: binary, structured, batch")
	flags.IntVar(&o.batch, "batch", 100, "events a request with --mode batch")
	flags.IntVar(&o.retry, "retry", 0, "send an event that was refused for now again, so many times")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "time for one request")
	addOutput(cmd, formatTable, formatJSON)
	completeFlag(cmd, "broker", completeBrokers)
	completeFlag(cmd, "mode", cobra.FixedCompletions([]string{"binary", "structured", "batch"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.MarkFlagsMutuallyExclusive("count", "file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return o.run(cmd) }
	return cmd
}

func (o *sendOptions) run(cmd *cobra.Command) error {
	format, err := outputFormat(cmd, formatTable, formatJSON)
	if err != nil {
		return err
	}
	if err := o.event.check(cmd); err != nil {
		return err
	}
	p, err := o.poster(cmd)
	if err != nil {
		return err
	}
	limit, err := parseRate(o.rate)
	if err != nil {
		return err
	}
	size := 1
	if p.mode == event.Batch {
		size = o.batch
	}
	events, done, err := o.events(cmd)
	if err != nil {
		return err
	}
	defer done()

	s := &sending{poster: p, limiter: rate.NewLimiter(limit, size), started: time.Now(), warn: cmd.ErrOrStderr()}
	s.tally.Broker, s.tally.URL = p.broker, p.url
	stopProgress := s.progress(cmd.ErrOrStderr())
	err = s.run(cmd.Context(), chunks(events, size), o.concurrency)
	stopProgress()
	s.tally.Seconds = time.Since(s.started).Round(time.Millisecond).Seconds()
	if printed := s.tally.print(cmd.OutOrStdout(), format); printed != nil {
		return printed
	}
	if err != nil {
		return err
	}
	return s.tally.err()
}

// poster checks the flags that say where and how to send.
func (o *sendOptions) poster(cmd *cobra.Command) (*poster, error) {
	mode, ok := map[string]event.Mode{"binary": event.Binary, "structured": event.Structured, "batch": event.Batch}[o.mode]
	switch {
	case !ok:
		return nil, usage("--mode %s: want binary, structured or batch", o.mode)
	case o.count < 1:
		return nil, usage("--count %d: want at least 1", o.count)
	case o.concurrency < 1 || o.concurrency > 1024:
		return nil, usage("--concurrency %d: want 1 to 1024", o.concurrency)
	case o.batch < 1 || o.batch > event.DefaultMaxBatch:
		return nil, usage("--batch %d: want 1 to %d", o.batch, event.DefaultMaxBatch)
	case o.retry < 0:
		return nil, usage("--retry %d: want 0 or more", o.retry)
	case o.timeout <= 0:
		return nil, usage("--timeout %s: want more than 0", o.timeout)
	}
	broker, err := qualify("--broker", o.broker, "")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(o.url)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, usage("--url %q: want a URL such as %s", o.url, defaultIngress)
	}
	if strings.Trim(u.Path, "/") == "" {
		namespace, name, _ := strings.Cut(broker, "/")
		u = u.JoinPath(url.PathEscape(namespace), url.PathEscape(name))
	} else if broker = ""; cmd.Flags().Changed("broker") {
		return nil, usage("--url %q names a Broker already: leave --broker out, or the path", o.url)
	}
	return newPoster(u.String(), broker, mode, o.retry, o.timeout, o.concurrency), nil
}

// events are those of the file, or the one of the flags as often as asked for.
func (o *sendOptions) events(cmd *cobra.Command) (iter.Seq2[event.Event, error], func() error, error) {
	if o.event.file != "" {
		in, err := openInput(cmd, o.event.file)
		if err != nil {
			return nil, nil, err
		}
		return func(yield func(event.Event, error) bool) {
			for e, err := range readEvents(in) {
				if err == nil {
					id := e.ID()
					if e, err = o.event.override(cmd, e); err != nil {
						err = &badEvent{"event " + strconv.Quote(id), err}
					}
				}
				if !yield(e, err) {
					return
				}
			}
		}, in.Close, nil
	}
	b, err := o.event.build(cmd)
	if err != nil {
		return nil, nil, err
	}
	return func(yield func(event.Event, error) bool) {
		for i := range o.count {
			switch {
			case o.count == 1:
			case o.event.id != "":
				b.Set(event.AttrID, o.event.id+"-"+strconv.Itoa(i+1))
			case i > 0:
				b.Set(event.AttrID, uuid.NewString())
			}
			if e, err := b.Build(); !yield(e, err) || err != nil {
				return
			}
		}
	}, func() error { return nil }, nil
}

// chunk is what goes in one request, or why something is left out.
type chunk struct {
	events []event.Event
	err    error
}

// chunks puts events together, so many to a request. What came before an
// error that ends the input goes out.
func chunks(events iter.Seq2[event.Event, error], size int) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		var next []event.Event
		for e, err := range events {
			if err != nil {
				if _, goesOn := errors.AsType[*badEvent](err); !goesOn && len(next) > 0 {
					if !yield(chunk{events: next}) {
						return
					}
					next = nil
				}
				if !yield(chunk{err: err}) {
					return
				}
				continue
			}
			if next = append(next, e); len(next) == size {
				if !yield(chunk{events: next}) {
					return
				}
				next = nil
			}
		}
		if len(next) > 0 {
			yield(chunk{events: next})
		}
	}
}

// sending is one run of send.
type sending struct {
	poster  *poster
	limiter *rate.Limiter
	started time.Time
	warn    io.Writer

	mu    sync.Mutex
	tally tally
}

// run sends all chunks by so many workers and returns the error that ended it
// early, if one did: ctx, input that cannot be read on, nobody to send to.
func (s *sending) run(parent context.Context, all iter.Seq[chunk], workers int) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	work := make(chan []event.Event)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for events := range work {
				if err := s.post(ctx, events); err != nil {
					stop(err)
				}
			}
		})
	}
	var unreadable error
	for c := range all {
		if bad, ok := errors.AsType[*badEvent](c.err); ok {
			s.leaveOut(bad)
			continue
		}
		if c.err != nil {
			unreadable = c.err
			break
		}
		if s.limiter.WaitN(ctx, len(c.events)) != nil {
			break
		}
		select {
		case work <- c.events:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(work)
	group.Wait()
	if ended := context.Cause(ctx); ended != nil {
		return ended
	}
	return unreadable
}

// post sends one request and counts its outcome. Its error ends the run.
func (s *sending) post(ctx context.Context, events []event.Event) error {
	if ctx.Err() != nil {
		return nil
	}
	out := s.poster.post(ctx, events)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.count(len(events), out)
	if _, nobody := errors.AsType[*noIngress](out.err); nobody {
		return out.err
	}
	return nil
}

// leaveOut reports at once what is no event: with a long input the person
// may want to stop and mend it.
func (s *sending) leaveOut(bad *badEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.Invalid++
	if s.tally.Invalid <= maxSamples {
		fmt.Fprintln(s.warn, clean(bad.Error()))
	} else if s.tally.Invalid == maxSamples+1 {
		fmt.Fprintln(s.warn, "more that are no events are counted only")
	}
}

// progress shows on a terminal how far long work has come, until the func it
// returns is called.
func (s *sending) progress(w io.Writer) func() {
	if !isTerminal(w) {
		return func() {}
	}
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for shown := false; ; shown = true {
			select {
			case <-tick.C:
				s.mu.Lock()
				line := s.tally.line()
				s.mu.Unlock()
				fmt.Fprintf(w, "\r\x1b[K%s", line)
			case <-ended:
				if shown {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			}
		}
	})
	return func() { close(ended); group.Wait() }
}

// parseRate reads --rate; "" is no limit.
func parseRate(text string) (rate.Limit, error) {
	if text == "" {
		return rate.Inf, nil
	}
	perSecond, err := config.ParseRate(text)
	if err != nil {
		return 0, usage("--rate %q: %v", text, err)
	}
	return rate.Limit(perSecond), nil
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
