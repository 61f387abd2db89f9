package remote_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/auth"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

// held is a log that stores when it is let.
type held struct {
	storing
	entered chan int // events of each append that has come
	let     chan struct{}
}

func newHeld() *held { return &held{entered: make(chan int, 100), let: make(chan struct{})} }

func (h *held) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	h.entered <- len(events)
	<-h.let
	return h.storing.Append(ctx, uid, events)
}

func TestAppendsThatComeWhileAllIsBusyGoTogether(t *testing.T) {
	log := newHeld()
	address, s, _ := serve(t, remote.ServerOptions{Appender: of(log)})
	c := client(t, remote.Options{Conns: 1, Pulse: time.Hour}, address)
	var wg sync.WaitGroup
	send := func(n int) {
		wg.Go(func() {
			if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, fmt.Sprint(n), "", 10)}); err != nil {
				t.Error(err)
			}
		})
	}
	send(0)
	if n := <-log.entered; n != 1 {
		t.Fatalf("the first comes with %d others", n-1)
	}
	for n := range 20 {
		send(n + 1)
	}
	eventually(t, "20 wait", func() bool { return c.Stats()[0].Queued == 20 })
	close(log.let)
	wg.Wait()
	if n := <-log.entered; n != 20 {
		t.Errorf("%d came with the second request, want all 20", n)
	}
	// Hello, one, twenty.
	if st := s.Stats(); st.Requests != 3 || st.Appends != 21 || st.Stored != 21 {
		t.Errorf("stats of the server: %+v", st)
	}
	if st := c.Stats()[0]; st.Appends != 21 || st.Stored != 21 || st.Queued != 0 || st.QueuedBytes != 0 || !st.Up {
		t.Errorf("stats of the client: %+v", st)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	log := newHeld()
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(log)})
	c := client(t, remote.Options{Conns: 1, MaxRequestBytes: 10 << 10}, address)
	var wg sync.WaitGroup
	send := func(size int) {
		wg.Go(func() {
			if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", size)}); err != nil {
				t.Error(err)
			}
		})
	}
	send(1)
	<-log.entered
	for range 10 {
		send(3 << 10)
	}
	send(100 << 10) // alone it may be larger
	eventually(t, "11 wait", func() bool { return c.Stats()[0].Queued == 11 })
	close(log.let)
	wg.Wait()
	close(log.entered)
	for n := range log.entered {
		if n > 3 {
			t.Errorf("%d events of 3 KiB in a request of 10 KiB", n)
		}
	}
}

func TestServerWithALowerBoundGetsSmallerRequests(t *testing.T) {
	log := newHeld()
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(log), MaxRequestBytes: 5000})
	c := client(t, remote.Options{Conns: 1}, address)
	var wg sync.WaitGroup
	send := func() {
		wg.Go(func() {
			if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 1000)}); err != nil {
				t.Error(err)
			}
		})
	}
	send()
	<-log.entered
	for range 30 {
		send()
	}
	eventually(t, "30 wait", func() bool { return c.Stats()[0].Queued == 30 })
	close(log.let)
	wg.Wait()
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "large", "", 6000)})
	if refused := (*channel.Refused)(nil); !errors.As(err, &refused) || !errors.Is(err, channel.ErrTooLarge) {
		t.Errorf("an event above the bound: %v", err)
	}
}

func TestFullQueueRefuses(t *testing.T) {
	for name, o := range map[string]remote.Options{
		"appends": {Conns: 1, MaxQueue: 5},
		"bytes":   {Conns: 1, MaxQueueBytes: 600},
	} {
		t.Run(name, func(t *testing.T) {
			log := newHeld()
			address, _, _ := serve(t, remote.ServerOptions{Appender: of(log)})
			c := client(t, o, address)
			var wg sync.WaitGroup
			send := func() {
				wg.Go(func() {
					if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)}); err != nil {
						t.Error(err)
					}
				})
			}
			send()
			<-log.entered
			for range 5 {
				send()
			}
			eventually(t, "5 wait", func() bool { return c.Stats()[0].Queued == 5 })
			_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)})
			var refused *channel.Refused
			if !errors.As(err, &refused) || !errors.Is(err, channel.ErrFull) || refused.RetryAfter <= 0 {
				t.Errorf("the sixth: %v", err)
			}
			close(log.let)
			wg.Wait()
		})
	}
}

func TestWhoGivesUpInTheQueueIsRefusedAndNotSent(t *testing.T) {
	log := newHeld()
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(log)})
	c := client(t, remote.Options{Conns: 1}, address)
	ctx, cancel := context.WithCancel(t.Context())
	outcome := make(chan error, 2)
	send := func(id string) {
		_, err := c.Append(ctx, "a", []event.Event{anEvent(t, id, "", 10)})
		outcome <- err
	}
	go send("sent")
	<-log.entered
	go send("waiting")
	eventually(t, "one waits", func() bool { return c.Stats()[0].Queued == 1 })
	cancel()
	wantOutcome(t, <-outcome, false)
	select {
	case err := <-outcome:
		t.Fatalf("what is sent is answered %v before the log did", err)
	default:
	}
	close(log.let)
	if err := <-outcome; err != nil {
		t.Errorf("what was sent is stored, and answered %v", err)
	}
	if got := fmt.Sprint(log.ids()); got != "[sent]" {
		t.Errorf("stored: %s", got)
	}
}

func TestWhoGivesUpOnABatchGetsItWholeOrNot(t *testing.T) {
	logs := []*held{newHeld(), newHeld()}
	var addresses []string
	for _, log := range logs {
		address, _, _ := serve(t, remote.ServerOptions{Appender: of(log)})
		addresses = append(addresses, address)
	}
	c := client(t, remote.Options{Conns: 1}, addresses...)
	outcome := make(chan error, 3)
	send := func(ctx context.Context, keys ...int) {
		var batch []event.Event
		for _, home := range keys {
			batch = append(batch, anEvent(t, fmt.Sprint(len(keys)), keyOf(home, 2), 10))
		}
		_, err := c.Append(ctx, "a", batch)
		outcome <- err
	}
	// Both owners are busy, so a batch for both waits: nobody has it yet.
	go send(t.Context(), 0)
	go send(t.Context(), 1)
	<-logs[0].entered
	<-logs[1].entered
	ctx, cancel := context.WithCancel(t.Context())
	go send(ctx, 0, 1)
	queued := func(n int) func() bool {
		return func() bool { st := c.Stats(); return st[0].Queued+st[1].Queued == n }
	}
	eventually(t, "both parts wait", queued(2))
	cancel()
	wantOutcome(t, <-outcome, false)
	// One part has gone: the other follows.
	close(logs[0].let)
	<-outcome
	ctx, cancel = context.WithCancel(t.Context())
	go send(ctx, 0, 1, 0)
	<-logs[0].entered
	eventually(t, "one part waits", queued(1))
	cancel()
	close(logs[1].let)
	for range 2 {
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	}
	if a, b := fmt.Sprint(logs[0].ids()), fmt.Sprint(logs[1].ids()); a != "[1 3 3]" || b != "[1 3]" {
		t.Errorf("stored %s and %s", a, b)
	}
}

func TestRotatedTokenIsReadAgainAndNothingIsLost(t *testing.T) {
	var good atomic.Value
	good.Store("first")
	tokens := &rotating{}
	tokens.token.Store("first")
	var log storing
	address, s, _ := serve(t, remote.ServerOptions{Appender: of(&log), Authorize: func(r *http.Request) error {
		if token, ok := auth.Bearer(r); !ok || token != good.Load() {
			return errors.New("token is not good")
		}
		return nil
	}})
	c := client(t, remote.Options{Tokens: tokens}, address)
	send := func() error {
		_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)})
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	good.Store("second")
	tokens.next.Store("second")
	if err := send(); err != nil {
		t.Errorf("with a new token in the file: %v", err)
	}
	good.Store("third")
	err := send()
	wantOutcome(t, err, false)
	if strings.Contains(fmt.Sprint(err, c.Ready()), "second") {
		t.Errorf("the token is in %v", err)
	}
	if st := s.Stats(); st.Unauthorized == 0 || st.Stored != 2 {
		t.Errorf("stats %+v", st)
	}
	tokens.next.Store("third")
	tokens.Rejected("second")
	eventually(t, "the dispatcher is asked again", func() bool { return c.Ready() == nil })
	if err := send(); err != nil {
		t.Error(err)
	}
}

// rotating is a token that is renewed when it is rejected.
type rotating struct{ token, next atomic.Value }

func (r *rotating) Token() (string, error) { return r.token.Load().(string), nil }
func (r *rotating) Rejected(token string) {
	if next := r.next.Load(); next != nil && token == r.token.Load() {
		r.token.Store(next)
	}
}

type noToken struct{ text string }

func (n noToken) Token() (string, error) {
	if n.text == "" {
		return "", errors.New("file /var/run/token is empty")
	}
	return n.text, nil
}
func (noToken) Rejected(string) {}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	for _, tokens := range []noToken{{}, {"a\r\nX-Evil: 1"}} {
		address, s, _ := serve(t, remote.ServerOptions{Appender: of(&storing{})})
		var out bytes.Buffer
		c, stop := stoppable(t, remote.Options{Tokens: tokens, Logger: slog.New(slog.NewTextHandler(&out, nil))}, address)
		_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)})
		wantOutcome(t, err, false)
		stop()
		if s.Stats().Requests != 0 || strings.Contains(out.String(), "Evil") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%d requests; log %q", s.Stats().Requests, out.String())
		}
	}
}

func TestOwnerThatComesBackIsUsedAgain(t *testing.T) {
	var log storing
	up := atomic.Bool{}
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(&log), Authorize: func(*http.Request) error {
		if !up.Load() {
			return fmt.Errorf("%w: starting", channel.ErrUnavailable)
		}
		return nil
	}})
	c := client(t, remote.Options{Conns: 1}, address)
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)})
	wantOutcome(t, err, false)
	if err := c.Ready(); !errors.Is(err, channel.ErrUnavailable) || !strings.Contains(err.Error(), "starting") {
		t.Errorf("ready says %v", err)
	}
	up.Store(true)
	eventually(t, "it is asked again", func() bool { return c.Ready() == nil })
	if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)}); err != nil {
		t.Error(err)
	}
}

func TestEventsGoToWhoHasLessToDo(t *testing.T) {
	busy, idle := newHeld(), &storing{}
	first, _, _ := serve(t, remote.ServerOptions{Appender: of(busy)})
	second, _, _ := serve(t, remote.ServerOptions{Appender: of(idle)})
	c := client(t, remote.Options{}, first, second)
	done := make(chan error, 1)
	go func() {
		_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "keyed", keyOf(0, 2), 10)})
		done <- err
	}()
	<-busy.entered
	for range 20 {
		if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "any", "", 10)}); err != nil {
			t.Error(err)
		}
	}
	if n := len(idle.ids()); n != 20 {
		t.Errorf("%d of 20 events are with the idle one", n)
	}
	close(busy.let)
	if err := <-done; err != nil {
		t.Error(err)
	}
	both := func() bool { return len(busy.ids()) > 5 }
	for range 20 {
		_, _ = c.Append(t.Context(), "a", []event.Event{anEvent(t, "any", "", 10)})
	}
	if !both() {
		t.Errorf("when both are idle the first gets %d of 20", len(busy.ids())-1)
	}
}

func TestStoppedClientAnswersWhatItHasTaken(t *testing.T) {
	log := newHeld()
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(log)})
	ctx, cancel := context.WithCancel(context.Background())
	c := remote.New(remote.Options{Conns: 1})
	early := make(chan error, 1)
	go func() {
		_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "early", "", 10)})
		early <- err
	}()
	c.SetOwners(owners(address))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-log.entered
	outcome := make(chan error, 10)
	for i := range 10 {
		go func() {
			_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, fmt.Sprint(i), "", 10)})
			outcome <- err
		}()
	}
	eventually(t, "10 wait", func() bool { return c.Stats()[0].Queued == 10 })
	cancel()
	eventually(t, "it takes no more", func() bool { return errors.Is(c.Ready(), channel.ErrClosed) })
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "late", "", 10)})
	wantOutcome(t, err, false)
	if !errors.Is(err, channel.ErrClosed) {
		t.Errorf("%v does not say that it is closed", err)
	}
	close(log.let)
	if err := <-early; err != nil {
		t.Errorf("appended before Run: %v", err)
	}
	for range 10 {
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("it runs again")
	}
	c.SetOwners(owners(address, address)) // late, and harmless
}

func TestStoppingClientOffersNothingToWhoMayHaveEnded(t *testing.T) {
	read, answer := make(chan struct{}), make(chan struct{})
	slow := rawOwner(t, func(_ int, c net.Conn, in *bufio.Reader) {
		greet(c, in)
		request(in, 1)
		close(read)
		<-answer
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nPenstock-Append: 1\r\nContent-Length: 0\r\n\r\n")
	})
	other, _, _ := serve(t, remote.ServerOptions{Appender: of(&storing{})})
	c, stop := stoppable(t, remote.Options{Conns: 1}, slow)
	outcome := make(chan error, 1)
	go func() {
		_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)})
		outcome <- err
	}()
	<-read
	c.SetOwners(owners(slow, other))
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	eventually(t, "it stops", func() bool { return errors.Is(c.Ready(), channel.ErrClosed) })
	close(answer)
	select {
	case err := <-outcome:
		wantOutcome(t, err, false)
	case <-time.After(10 * time.Second):
		t.Fatal("nobody answers what was offered to an owner whose workers have ended")
	}
	<-stopped
}

func TestAppendWaitsForRunAndMayGiveUp(t *testing.T) {
	c := remote.New(remote.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := c.Append(ctx, "a", []event.Event{anEvent(t, "1", "", 10)})
	wantOutcome(t, err, false)
	if _, err := c.Append(ctx, "a", []event.Event{{}}); err == nil {
		t.Error("an event that is none is stored")
	}
}

func TestFloodOfAppendsOnOwnersThatDieIsAnswered(t *testing.T) {
	// Every connection lives for a few requests and dies in the middle of one.
	var log storing
	upstream, _, _ := serve(t, remote.ServerOptions{Appender: of(&log)})
	var addresses []string
	for range 3 {
		addresses = append(addresses, rawOwner(t, func(n int, c net.Conn, in *bufio.Reader) {
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				return
			}
			defer up.Close()
			answers := bufio.NewReader(up)
			for range 3 + n%5 {
				r, err := http.ReadRequest(in)
				if err != nil || r.Write(up) != nil {
					return
				}
				resp, err := http.ReadResponse(answers, r)
				if err != nil || resp.Write(c) != nil {
					return
				}
			}
			if n%2 == 0 { // the last is stored, and nobody hears of it
				if r, err := http.ReadRequest(in); err == nil && r.Write(up) == nil {
					_, _ = http.ReadResponse(answers, r)
				}
			}
		}))
	}
	c := client(t, remote.Options{}, addresses...)
	var mu sync.Mutex
	outcomes := map[string]error{}
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for i := range 100 {
				id := fmt.Sprintf("%d-%d", n, i)
				_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, id, "", 100)})
				mu.Lock()
				outcomes[id] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	count := map[string]int{}
	for _, id := range log.ids() {
		count[id]++
	}
	stored, refused, unknown := 0, 0, 0
	for id, err := range outcomes {
		var r *channel.Refused
		switch {
		case err == nil:
			if stored++; count[id] != 1 {
				t.Errorf("%s is answered as stored, and is %d times", id, count[id])
			}
		case errors.Is(err, channel.ErrUnknown):
			if unknown++; count[id] > 1 {
				t.Errorf("%s is unknown, and stored %d times", id, count[id])
			}
		case errors.As(err, &r):
			if refused++; count[id] != 0 {
				t.Errorf("%s is refused, and stored: %v", id, err)
			}
		default:
			t.Errorf("%s: %v", id, err)
		}
	}
	t.Logf("%d stored, %d refused, %d unknown", stored, refused, unknown)
	if stored == 0 || unknown == 0 {
		t.Error("this told nothing")
	}
}
