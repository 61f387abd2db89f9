package loaded

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/test/memhttp"
)

func anybody(*http.Request) error { return nil }

// plane is a data plane of Boards in memory and a controller's Watcher, inside
// a bubble of virtual time.
type plane struct {
	t       *testing.T
	net     *memhttp.Net
	watcher *Watcher
	cancel  context.CancelFunc
	done    chan error

	mu      sync.Mutex
	changes []channel.UID
	pods    int // calls of OnPods
	types   []Type
}

func newPlane(t *testing.T, o WatcherOptions) *plane {
	p := &plane{t: t, net: memhttp.New(), done: make(chan error, 1)}
	o.Transport = &http.Transport{DialContext: p.net.DialContext, DisableKeepAlives: true}
	o.OnChange = func(uids []channel.UID) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changes = append(p.changes, uids...)
	}
	o.OnPods = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pods++
	}
	o.OnTypes = func(types []Type) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.types = append(p.types, types...)
	}
	p.watcher = NewWatcher(o)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.done <- p.watcher.Run(ctx) }()
	return p
}

func (p *plane) stop() {
	p.t.Helper()
	p.cancel()
	if err := <-p.done; err != nil {
		p.t.Errorf("Run returned %v", err)
	}
}

// board starts a pod's Board.
func (p *plane) board(name string, o BoardOptions) *Board {
	p.t.Helper()
	if o.Authorize == nil {
		o.Authorize = anybody
	}
	b := NewBoard(o)
	p.net.Serve(p.t, name, b)
	return b
}

func (p *plane) take() (changes []channel.UID, pods int, types []Type) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	changes, pods, types = p.changes, p.pods, p.types
	p.changes, p.pods, p.types = nil, 0, nil
	slices.Sort(changes)
	return changes, pods, types
}

func (p *plane) missing(uid channel.UID, version string, want ...string) {
	p.t.Helper()
	synctest.Wait()
	if got := p.watcher.InForce(uid, version); !slices.Equal(got, want) {
		p.t.Errorf("missing %q, want %q", got, want)
	}
}

func serving(names ...string) []Pod {
	var pods []Pod
	for _, n := range names {
		pods = append(pods, Pod{Name: n, Address: n, Serving: true})
	}
	return pods
}

func TestATriggerIsInForceWhenEveryServingPodHasLoadedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, WatcherOptions{})
		defer p.stop()
		p.missing("t", "1-a", "no dispatcher is serving")

		zero, one := p.board("pod-0", BoardOptions{}), p.board("pod-1", BoardOptions{})
		p.watcher.SetPods(append(serving("pod-0", "pod-1"), Pod{Name: "pod-2", Address: "nowhere"}))
		p.missing("t", "1-a", "pod-0: has not loaded everything yet", "pod-1: has not loaded everything yet")
		zero.Publish(map[channel.UID]string{"b": "1-x"})
		one.Publish(map[channel.UID]string{"b": "1-x", "t": "1-a"})
		p.missing("t", "1-a", "pod-0: has not loaded it yet")
		p.missing("b", "1-x")
		p.take()

		zero.Publish(map[channel.UID]string{"b": "1-x", "t": "1-a"})
		p.missing("t", "1-a")
		if changes, _, _ := p.take(); !slices.Equal(changes, []channel.UID{"t"}) {
			t.Errorf("told of %v, want t alone", changes)
		}
		p.missing("t", "2-b", "pod-0: has loaded version 1-a, not yet 2-b", "pod-1: has loaded version 1-a, not yet 2-b")

		one.Publish(map[channel.UID]string{"b": "1-x"})
		p.missing("t", "1-a", "pod-1: has not loaded it yet")
		p.watcher.SetPods(serving("pod-0"))
		p.missing("t", "1-a")
		if _, pods, _ := p.take(); pods == 0 {
			t.Error("nobody was told that the pods are others")
		}
	})
}

func TestAPodThatIsAwayIsMissingAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, WatcherOptions{})
		defer p.stop()
		b := NewBoard(BoardOptions{Authorize: anybody})
		b.Publish(map[channel.UID]string{"t": "1"})
		p.watcher.SetPods(serving("pod-0"))
		time.Sleep(time.Second)
		if m := p.watcher.InForce("t", "1"); len(m) != 1 {
			t.Fatalf("missing %q", m)
		}
		server := p.net.Serve(t, "pod-0", b)
		time.Sleep(lastPause)
		p.missing("t", "1")
		p.take()

		server.Close()
		synctest.Wait()
		time.Sleep(time.Millisecond)
		if m := p.watcher.InForce("t", "1"); len(m) != 1 {
			t.Errorf("missing %q after the pod went", m)
		}
		time.Sleep(time.Minute)
		if _, pods, _ := p.take(); pods != 1 {
			t.Errorf("told %d times that it went, want once", pods)
		}
		// Another process at the same address, which has not loaded anything.
		fresh := p.board("pod-0", BoardOptions{})
		time.Sleep(lastPause)
		p.missing("t", "1", "pod-0: has not loaded everything yet")
		fresh.Publish(nil)
		p.missing("t", "1", "pod-0: has not loaded it yet")
	})
}

// A connection on which nothing arrives any more and that nobody ends, as when
// a node loses its power.
func TestASilentStreamIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, WatcherOptions{})
		defer p.stop()
		p.net.Serve(t, "pod-0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, `{"reset":true}`)
			fmt.Fprintln(w, `{"set":{"t":"1"},"whole":true}`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		p.watcher.SetPods(serving("pod-0"))
		p.missing("t", "1")
		time.Sleep(DefaultSilence - time.Millisecond)
		p.missing("t", "1")
		time.Sleep(time.Millisecond)
		p.missing("t", "1", "pod-0: cannot be asked: its stream has fallen silent")
	})
}

func TestHeartbeatsKeepAStreamThatHasNothingToSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, WatcherOptions{})
		defer p.stop()
		b := p.board("pod-0", BoardOptions{})
		b.Publish(map[channel.UID]string{"t": "1"})
		p.watcher.SetPods(serving("pod-0"))
		time.Sleep(time.Hour)
		p.missing("t", "1")
		if n := p.net.Dials("pod-0"); n != 1 {
			t.Errorf("%d connections in an hour, want 1", n)
		}
	})
}

func TestAWholeOfManyObjectsIsToldInShortLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, WatcherOptions{})
		defer p.stop()
		b := p.board("pod-0", BoardOptions{})
		many := make(map[channel.UID]string)
		for i := range 12_345 {
			many[channel.UID(fmt.Sprintf("0b5ab6a5-5f6c-4c0f-9d52-%012d.0123456789ab", i))] = "1-0123456789ab"
		}
		b.Publish(many)
		p.watcher.SetPods(serving("pod-0"))
		synctest.Wait()
		for uid := range many {
			if m := p.watcher.InForce(uid, "1-0123456789ab"); m != nil {
				t.Fatalf("%s: missing %q", uid, m)
			}
		}
		b.Publish(nil)
		if changes, _, _ := p.take(); len(changes) != len(many) {
			t.Errorf("told of %d objects that went, want %d", len(changes), len(many))
		}
	})
}

func TestOnlyWhoMayReadsABoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memhttp.New()
		client := &http.Client{Transport: &http.Transport{DialContext: net.DialContext, DisableKeepAlives: true}}
		var answer error
		b := NewBoard(BoardOptions{Authorize: func(*http.Request) error { return answer }, Streams: 1})
		net.Serve(t, "pod-0", b)
		net.Serve(t, "open", NewBoard(BoardOptions{}))
		get := func(host, query string) int {
			t.Helper()
			resp, err := client.Get("http://" + host + Path + query)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode
		}
		for _, c := range []struct {
			err  error
			want int
		}{
			{errors.New("no token"), 401},
			{fmt.Errorf("x: %w", ErrForbidden), 403},
			{fmt.Errorf("x: %w", channel.ErrUnavailable), 503},
		} {
			if answer = c.err; get("pod-0", "") != c.want {
				t.Errorf("%v is not %d", c.err, c.want)
			}
		}
		answer = nil
		if code := get("open", ""); code != 401 {
			t.Errorf("a Board without Authorize answers %d, want 401", code)
		}
		if code := get("pod-0", "?types=perhaps"); code != 400 {
			t.Errorf("an unknown query: %d, want 400", code)
		}
		first, err := client.Get("http://pod-0" + Path)
		if err != nil || first.StatusCode != 200 {
			t.Fatal(first, err)
		}
		if code := get("pod-0", ""); code != 503 {
			t.Errorf("a stream beyond the bound: %d, want 503", code)
		}
		first.Body.Close()
		synctest.Wait()
		b.Close()
		if code := get("pod-0", ""); code != 503 {
			t.Errorf("a stream of a Board that is closed: %d, want 503", code)
		}
	})
}

func TestARefusedTokenIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rejected []string
		good := "old"
		p := newPlane(t, WatcherOptions{
			Token:    func() (string, error) { return good, nil },
			Rejected: func(token string) { rejected = append(rejected, token); good = "new" },
		})
		defer p.stop()
		b := p.board("pod-0", BoardOptions{Authorize: func(r *http.Request) error {
			if r.Header.Get("Authorization") != "Bearer new" {
				return errors.New("no")
			}
			return nil
		}})
		b.Publish(map[channel.UID]string{"t": "1"})
		p.watcher.SetPods(serving("pod-0"))
		time.Sleep(time.Second)
		p.missing("t", "1")
		if !slices.Equal(rejected, []string{"old"}) {
			t.Errorf("rejected %q", rejected)
		}
	})
}

// A reader that does not read is cut off and holds nothing.
func TestASlowReaderIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memhttp.New()
		b := NewBoard(BoardOptions{Authorize: anybody, Streams: 1})
		net.Serve(t, "pod-0", b)
		client := &http.Client{Transport: &http.Transport{DialContext: net.DialContext, DisableKeepAlives: true}}
		resp, err := client.Get("http://pod-0" + Path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for i := range 20 { // more than the buffers on the way hold
			many := make(map[channel.UID]string)
			for j := range 5000 {
				many[channel.UID(fmt.Sprintf("object-%d", j))] = fmt.Sprintf("version-%d-%060d", i, j)
			}
			b.Publish(many)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(DefaultTimeout + time.Second)
		synctest.Wait()
		if n := len(b.streams); n != 0 {
			t.Errorf("%d streams are open, want the slow one cut", n)
		}
	})
}

func TestABoardThatLiesIsGivenUp(t *testing.T) {
	for name, body := range map[string]string{
		"no beginning":    `{"set":{"t":"1"},"whole":true}`,
		"two beginnings":  `{"reset":true}` + "\n" + `{"reset":true,"set":{"t":"1"},"whole":true}`,
		"no JSON":         `{"reset":true}` + "\n" + `hello`,
		"another JSON":    `{"reset":true}` + "\n" + `{"set":[]}`,
		"an endless line": `{"reset":true}` + "\n" + `{"set":{"` + string(slices.Repeat([]byte("x"), 2*MaxLine)),
		"a long version":  `{"reset":true}` + "\n" + `{"set":{"t":"` + string(slices.Repeat([]byte("x"), MaxVersion+1)) + `"},"whole":true}`,
		"a cut line":      `{"reset":true}` + "\n" + `{"set":{"t":"1"},"whole":true}` + "\n" + `{"set":{"t":"2"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlane(t, WatcherOptions{})
				defer p.stop()
				p.net.Serve(t, "pod-0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprint(w, body)
					if name != "a cut line" && name != "an endless line" {
						fmt.Fprintln(w)
						_ = http.NewResponseController(w).Flush()
						<-r.Context().Done()
					}
				}))
				p.watcher.SetPods(serving("pod-0"))
				time.Sleep(time.Second)
				if m := p.watcher.InForce("t", "1"); len(m) != 1 {
					t.Errorf("missing %q, want the pod", m)
				}
				if m := p.watcher.InForce("t", "2"); len(m) != 1 {
					t.Errorf("missing %q, want the pod", m)
				}
			})
		})
	}
}
