package rerun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	jobFolder = "jobs"
	auditFile = "audit.log"

	// maxAudit is how long the audit log grows before it becomes audit.log.1 and
	// the one before that goes.
	maxAudit = 1 << 20
)

// store keeps jobs as files and the audit log beside them. With dir "" it keeps
// nothing, and what is audited goes to the process's log alone.
type store struct {
	dir string
	log *slog.Logger

	mu    sync.Mutex // of the audit log
	saves sync.Mutex // one file is written at a time
}

func openStore(dir string, log *slog.Logger) (*store, error) {
	s := &store{dir: dir, log: log}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, jobFolder), 0o700); err != nil {
		return nil, err
	}
	return s, nil
}

// load reads all jobs, oldest first. A file that cannot be read is told of and
// left alone: what was asked for is lost, no event is.
func (s *store) load() ([]record, error) {
	if s.dir == "" {
		return nil, nil
	}
	folder := filepath.Join(s.dir, jobFolder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var all []record
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			if strings.HasPrefix(e.Name(), ".job-") {
				_ = os.Remove(filepath.Join(folder, e.Name())) // begun when the process was killed
			}
			continue
		}
		var r record
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err == nil && (r.ID != name || r.BrokerUID == "" || r.Kind == "") {
			err = errors.New("is not whole")
		}
		if err != nil {
			s.log.Error("job cannot be read and does not go on", "file", filepath.Join(folder, e.Name()), "err", err)
			continue
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// save makes a job durable: after a crash there is the old file or the new one.
func (s *store) save(r *record) (err error) {
	if s.dir == "" {
		return nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.saves.Lock()
	defer s.saves.Unlock()
	folder := filepath.Join(s.dir, jobFolder)
	tmp, err := os.CreateTemp(folder, ".job-*") // created 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), filepath.Join(folder, r.ID+".json")); err != nil {
		return err
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (s *store) remove(id string) {
	if s.dir == "" {
		return
	}
	if err := os.Remove(filepath.Join(s.dir, jobFolder, id+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("old job cannot be removed", "job", id, "err", err)
	}
}

// line is one line of the audit log.
type line struct {
	Time      time.Time `json:"time"`
	Action    string    `json:"action"`
	Kind      string    `json:"kind"`
	Job       string    `json:"job"`
	Trigger   string    `json:"trigger"`
	Who       string    `json:"who"`
	Where     []string  `json:"where,omitempty"`
	Sink      string    `json:"sink,omitempty"`
	Matched   uint64    `json:"matched"`
	Delivered uint64    `json:"delivered"`
	Failed    uint64    `json:"failed"`
	Discarded uint64    `json:"discarded"`
	Error     string    `json:"error,omitempty"`
}

// audit leaves a line about what was done to a job. who is "" for its starter.
func (s *store) audit(action string, r *record, who string) {
	if who == "" {
		who = r.Who
	}
	s.log.Info("audit", "action", action, "kind", r.Kind, "job", r.ID, "trigger", r.Trigger, "who", who,
		"matched", r.Matched, "delivered", r.Delivered, "failed", r.Failed, "discarded", r.Discarded)
	if s.dir == "" {
		return
	}
	text, err := json.Marshal(line{
		Time: time.Now().UTC(), Action: action, Kind: r.Kind, Job: r.ID, Trigger: r.Trigger, Who: who, Where: r.Where, Sink: r.Sink,
		Matched: r.Matched, Delivered: r.Delivered, Failed: r.Failed, Discarded: r.Discarded, Error: r.Error,
	})
	if err == nil {
		err = s.append(append(text, '\n'))
	}
	if err != nil {
		s.log.Error("audit log cannot be written", "err", err)
	}
}

func (s *store) append(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.dir, auditFile)
	if info, err := os.Stat(path); err == nil && info.Size()+int64(len(text)) > maxAudit {
		if err := os.Rename(path, path+".1"); err != nil {
			return fmt.Errorf("begin a new one: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
