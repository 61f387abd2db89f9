package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/client"
)

const (
	rerunLimit = 20 * time.Minute
	rerunBatch = 500

	// rerunWords is about the size of an event's data.
	rerunWords = 200
)

// counter is a subscriber that sums up what it takes, in whatever order: the
// same events give the same sum.
type counter struct {
	refuse atomic.Bool
	mu     sync.Mutex
	live   tallied // what came without a mark
	again  tallied // what came with that of a redrive or a replay
}

type tallied struct {
	events uint64
	sum    uint64
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.refuse.Load() {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	sum := checksum(r.Header.Get("Ce-Id"), body)
	c.mu.Lock()
	defer c.mu.Unlock()
	to := &c.live
	if r.Header.Get("Ce-Penstockreplay") != "" || r.Header.Get("Ce-Penstockredrive") != "" {
		to = &c.again
	}
	to.events++
	to.sum += sum
}

func (c *counter) counts() (live, again tallied) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live, c.again
}

func (c *counter) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live, c.again = tallied{}, tallied{}
}

func checksum(id string, data []byte) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, id) // a hash takes everything
	_, _ = h.Write(data)
	return h.Sum64()
}

// rerunCommand shows what sending again costs: a replay of what a broker keeps
// equals what it took, by checksum, and a redrive of dead letters needs no memory for them.
func rerunCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("rerun", flag.ContinueOnError)
	events := flags.Int("events", 1_000_000, "events to replay")
	letters := flags.Int("letters", 100_000, "dead letters to send again")
	if err := parse(flags, args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rerunLimit)
	defer cancel()
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	return b.rerun(ctx, *events, *letters, out)
}

func (b *bench) rerun(ctx context.Context, events, letters int, out io.Writer) error {
	c := &counter{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer func() {
		_ = server.Close()
		<-served
	}()
	dir, err := os.MkdirTemp(b.dir, "rerun-")
	if err != nil {
		return err
	}
	t, err := startPenstock([]trigger{{name: "copy", url: "http://" + ln.Addr().String() + "/", binary: true}, {kept: "24h,8Gi"}})(ctx, b, dir)
	if err != nil {
		return err
	}
	defer t.stop()
	api, err := client.New(t.api, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s.\nOne broker on disk, one trigger.\n", thisMachine(dir))

	want, err := fill(ctx, t, 0, events)
	if err != nil {
		return err
	}
	settled := func() bool { live, _ := c.counts(); return live.events >= uint64(events) }
	if err := t.until(ctx, rerunLimit, "deliver everything once", settled); err != nil {
		return err
	}
	idle, _ := t.memory()
	began, used := time.Now(), cpuOf(t)
	job, most, err := b.job(ctx, t, api, v1.JobReplay, v1.JobRequest{Trigger: "default/copy"})
	if err != nil {
		return err
	}
	took, spent := time.Since(began), cpuOf(t)-used
	live, again := c.counts()
	verdict := "equal"
	if live != want || again != want {
		verdict = "DIFFER"
	}
	fmt.Fprintf(out, "\nreplay of %s events       %v, %.1f \u00b5s of processor time each\n", thousands(events), took.Round(time.Second), float64(spent.Microseconds())/float64(events))
	fmt.Fprintf(out, "  count and checksum        sent %d %x, delivered %d %x, replayed %d %x: %s\n", want.events, want.sum, live.events, live.sum, again.events, again.sum, verdict)
	fmt.Fprintf(out, "  resident memory           %d MiB before, at most %d MiB\n", idle>>20, most>>20)
	if verdict != "equal" {
		return &voidError{fmt.Sprintf("the replay is not what was sent: %+v", job)}
	}

	c.forget()
	c.refuse.Store(true)
	dead, err := fill(ctx, t, events, letters)
	if err != nil {
		return err
	}
	all := func() bool {
		tr, err := api.Trigger(ctx, "default", "copy")
		return err == nil && tr.Dead == uint64(letters)
	}
	if err := t.until(ctx, rerunLimit, "bury all", all); err != nil {
		return err
	}
	c.refuse.Store(false)
	idle, _ = t.memory()
	began = time.Now()
	if job, most, err = b.job(ctx, t, api, v1.JobRedrive, v1.JobRequest{Trigger: "default/copy"}); err != nil {
		return err
	}
	took = time.Since(began)
	_, again = c.counts()
	verdict = "equal"
	if again != dead || job.Discarded != uint64(letters) {
		verdict = "DIFFER"
	}
	fmt.Fprintf(out, "redrive of %s dead letters  %v; %d discarded\n", thousands(letters), took.Round(time.Second), job.Discarded)
	fmt.Fprintf(out, "  count and checksum        died %d %x, delivered %d %x: %s\n", dead.events, dead.sum, again.events, again.sum, verdict)
	fmt.Fprintf(out, "  resident memory           %d MiB before, at most %d MiB\n", idle>>20, most>>20)
	if verdict != "equal" {
		return &voidError{fmt.Sprintf("the redrive is not what died: %+v", job)}
	}
	return nil
}

func cpuOf(t *target) time.Duration {
	d, err := t.cpu()
	if err != nil {
		return 0
	}
	return d
}

// job runs one to its end and says how much memory the broker had at most.
func (b *bench) job(ctx context.Context, t *target, api *client.Client, kind string, q v1.JobRequest) (job v1.Job, most int64, err error) {
	if job, err = api.BeginJob(ctx, kind, q); err != nil {
		return job, 0, err
	}
	err = t.until(ctx, rerunLimit, "end a "+kind, func() bool {
		if now, _ := t.memory(); now > most {
			most = now
		}
		var failed error
		if job, failed = api.Job(ctx, job.ID); failed != nil {
			return false
		}
		return job.State != v1.JobRunning
	})
	if err == nil && job.State != v1.JobDone {
		err = fmt.Errorf("%s is %s: %s", kind, job.State, job.Error)
	}
	return job, most, err
}

// fill posts events in batches and sums them up.
func fill(ctx context.Context, t *target, first, n int) (sum tallied, err error) {
	type event struct {
		SpecVersion string `json:"specversion"`
		ID          string `json:"id"`
		Source      string `json:"source"`
		Type        string `json:"type"`
		Subject     string `json:"subject"`
		DataType    string `json:"datacontenttype"`
		Data        string `json:"data_base64"`
	}
	data := bytes.Repeat([]byte("payload "), rerunWords/8)
	for at := 0; at < n; at += rerunBatch {
		batch := make([]event, min(rerunBatch, n-at))
		for i := range batch {
			id := fmt.Sprintf("event-%d", first+at+i)
			own := fmt.Appendf(nil, "%s %s", id, data)
			batch[i] = event{"1.0", id, "/bench", "t", fmt.Sprintf("key-%d", (first+at+i)%1000), "application/octet-stream", base64.StdEncoding.EncodeToString(own)}
			sum.events++
			sum.sum += checksum(id, own)
		}
		text, err := json.Marshal(batch)
		if err != nil {
			return sum, err
		}
		for {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.address+ingressPath, bytes.NewReader(text))
			if err != nil {
				return sum, err
			}
			req.Header.Set("Content-Type", "application/cloudevents-batch+json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return sum, err
			}
			_, _ = io.Copy(io.Discard, resp.Body) // the status is the answer
			resp.Body.Close()
			if resp.StatusCode == http.StatusAccepted {
				break
			}
			if resp.StatusCode != http.StatusTooManyRequests {
				return sum, fmt.Errorf("a batch was answered %s", resp.Status)
			}
			if err := t.alive(); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}
