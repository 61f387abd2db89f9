package cli

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// tellBackup says what is in a new archive.
func tellBackup(w io.Writer, m *backup.Manifest, target, format string) error {
	bytes, err := m.Bytes()
	if err != nil {
		return err
	}
	if format == formatJSON {
		return printJSON(w, archiveReport{Archive: target, Bytes: bytes, Created: m.Created, Penstock: m.Penstock, Brokers: m.Brokers, Notes: m.Notes})
	}
	name := target
	if name == standardStream {
		name = "standard output"
	}
	fmt.Fprintf(w, "Backed up to %s (%s): all accepted before %s.\n\n", clean(name), size(bytes), moment(m.Created))
	return tellBrokers(w, m.Brokers, m.Notes)
}

// archiveReport is what backup and restore say in JSON.
type archiveReport struct {
	Archive  string          `json:"archive"`
	Bytes    int64           `json:"bytes"`
	Created  time.Time       `json:"created"`
	Penstock string          `json:"penstock"` // version that wrote the archive
	Data     string          `json:"data,omitempty"`
	Config   string          `json:"config,omitempty"`
	Command  string          `json:"command,omitempty"` // that serves what was restored
	Brokers  []backup.Broker `json:"brokers"`
	Notes    []string        `json:"notes,omitempty"`
}

func tellBrokers(w io.Writer, brokers []backup.Broker, notes []string) error {
	if len(brokers) > 0 {
		t := table{header: []string{"BROKER", "PENDING", "DEAD LETTERS"}}
		byName := func(a, b backup.Broker) int { return strings.Compare(a.Name, b.Name) }
		for _, b := range slices.SortedFunc(slices.Values(brokers), byName) {
			t.add(text(b.Name), number(b.Pending), number(b.Dead))
		}
		if err := t.print(w, true); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(w, "There is no broker in it.")
	}
	for _, note := range notes {
		fmt.Fprintln(w, "\nNote: "+clean(note))
	}
	return nil
}

func moment(t time.Time) string { return t.Local().Format(time.DateTime) }

// meter shows on a terminal how much of an archive has gone by.
type meter struct {
	w     io.Writer // nil shows nothing
	total int64
	seen  int64
	shown time.Time
}

func newMeter(w io.Writer, total int64) *meter {
	if !isTerminal(w) {
		w = nil
	}
	return &meter{w: w, total: total, shown: time.Now()}
}

func (p *meter) add(n int64) {
	p.seen += n
	if now := time.Now(); p.w != nil && now.Sub(p.shown) > 500*time.Millisecond {
		p.shown = now
		of := ""
		if p.total > 0 {
			of = " of " + size(p.total)
		}
		fmt.Fprintf(p.w, "\r%s%s\x1b[K", size(p.seen), of)
	}
}

// done clears the line.
func (p *meter) done() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// quietLogger tells what a person should know of a log that a command opens.
func quietLogger(w io.Writer) (*slog.Logger, error) {
	h, err := telemetry.NewLogHandler(w, "text", slog.LevelWarn)
	if err != nil {
		return nil, err
	}
	return slog.New(h), nil
}
