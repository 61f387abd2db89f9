package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/client"
)

// defaultData is where `penstock serve` keeps events if nothing else is said.
const defaultData = "./.penstock"

// doctor is one run of the command.
type doctor struct {
	cmd    *cobra.Command
	format string
	data   string // folder of a store
	named  bool   // by the flag or its variable
	repair bool
	yes    bool
}

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with a store or a running broker, and what to do",
		Long: `Look at everything that can be wrong and say in plain words what is, what it
means for events, and what to do.

The folder of a broker that is stopped is read whole: every checkpoint, segment
and event, identities, permissions, space. Nothing in it is changed. While a
broker uses the folder, or with --api alone, that broker is asked instead: its
disk, bounds, Triggers, backlogs and dead letters.

The exit code is 0 if there is no problem, warnings apart, and 1 if there is one.

--repair makes a stopped store usable again that does not open any more: what
can be read is taken over, the rest is declared lost. Copy the folder first.`,
		Example: `  penstock doctor
  penstock doctor --data /var/lib/penstock
  penstock doctor --api http://127.0.0.1:8088 -o json
  penstock doctor --data /var/lib/penstock --repair`,
		Args: cobra.NoArgs,
	}
	formats := []string{formatTable, formatJSON}
	addOutput(cmd, formats...)
	d := &doctor{cmd: cmd, data: os.Getenv("PENSTOCK_DATA")}
	if d.named = d.data != ""; !d.named {
		d.data = defaultData
	}
	cmd.Flags().StringVar(&d.data, "data", d.data, "data folder to look at (PENSTOCK_DATA)")
	cmd.Flags().BoolVar(&d.repair, "repair", false, "make a stopped store usable that does not open, giving up what cannot be read")
	cmd.Flags().BoolVarP(&d.yes, "yes", "y", false, "repair without asking")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if d.format, err = outputFormat(cmd, formats...); err != nil {
			return err
		}
		d.named = d.named || cmd.Flags().Changed("data")
		return d.run(cmd.Context())
	}
	return cmd
}

func (d *doctor) run(ctx context.Context) error {
	asked := d.cmd.Flags().Changed("api") || os.Getenv("PENSTOCK_API") != ""
	if asked && !d.named && !d.repair {
		return d.running(ctx, "")
	}
	found, err := d.stopped(ctx)
	if locked, ok := errors.AsType[*disk.LockedError](err); ok {
		if d.repair {
			return fmt.Errorf("%w, then repair", err)
		}
		return d.running(ctx, locked.Holder)
	}
	if errors.Is(err, fs.ErrNotExist) && !d.named && !d.repair {
		// Nothing here by default: perhaps a broker runs that keeps it elsewhere.
		if err := d.running(ctx, ""); !isUnreachable(err) {
			return err
		}
		return fmt.Errorf("no store in %s and no broker at %s: name the folder with --data, or the broker with --api", d.data, d.api())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no store in %s: name the folder that `penstock serve --data` was given", d.data)
	}
	if err != nil {
		return err
	}
	if d.repair {
		return d.mend(ctx, found)
	}
	return d.show(found)
}

// running asks the broker. holder is the process that is known to use the
// folder; "" if no folder was named.
func (d *doctor) running(ctx context.Context, holder string) error {
	c, err := apiClient(d.cmd)
	if err != nil {
		return err
	}
	found, err := c.Doctor(ctx)
	if isUnreachable(err) && holder != "" {
		return fmt.Errorf("%s is in use by process %s, and no broker answers at %s: name its API with --api, or stop it", d.data, holder, c.URL())
	}
	if err != nil {
		return err
	}
	if holder != "" && holder != fmt.Sprint(found.Process) {
		return fmt.Errorf("%s is in use by process %s, but process %d answers at %s: name the right API with --api", d.data, holder, found.Process, c.URL())
	}
	if skew := time.Since(found.Time).Abs(); skew > time.Minute {
		found.Findings = append(found.Findings, api.Findings([]channel.Finding{{
			Severity: channel.Warning, Subject: "clock", What: fmt.Sprintf("the broker's clock and this machine's differ by %s", age(skew)),
			Means: "ages and retention follow the broker's clock", Cure: "set both by NTP",
		}})...)
	}
	return d.show(found)
}

func (d *doctor) api() string {
	url, err := d.cmd.Flags().GetString("api")
	if err != nil {
		return client.DefaultURL
	}
	return url
}

func isUnreachable(err error) bool {
	_, ok := errors.AsType[*client.Unreachable](err)
	return ok
}

// stopped looks at a folder that no broker uses.
func (d *doctor) stopped(ctx context.Context) (v1.Diagnosis, error) {
	found := v1.Diagnosis{Version: thisBuild().Version, Process: os.Getpid(), Time: time.Now(), Store: d.data}
	dir := filepath.Join(d.data, "log")
	if _, err := os.Stat(dir); err != nil {
		return found, err
	}
	progress := newProgress(d.cmd.ErrOrStderr())
	report, err := disk.Check(ctx, dir, disk.CheckOptions{Progress: progress.show})
	progress.clear()
	if err != nil {
		return found, err
	}
	all := append(checkFolder(d.data), report.Findings...)
	all = append(all, checkIdentities(d.data, report.Brokers)...)
	found.Findings = api.Findings(all)
	return found, nil
}

// show prints what was found; a problem makes the command fail.
func (d *doctor) show(found v1.Diagnosis) error {
	out := d.cmd.OutOrStdout()
	if d.format == formatJSON {
		if err := printJSON(out, found); err != nil {
			return err
		}
	} else if err := printFindings(out, found.Findings); err != nil {
		return err
	}
	if n := tallySeverities(found.Findings)[channel.Problem.String()]; n > 0 {
		return errors.New(channel.Count(n, "problem") + " found")
	}
	return nil
}

// maxFine bounds how many findings are listed that nobody need act on.
const maxFine = 30

// printFindings lists findings for people, with what follows from them below.
func printFindings(w io.Writer, findings []v1.Finding) error {
	t := table{header: []string{"RESULT", "CHECK", "FOUND"}}
	fine := 0
	for _, f := range findings {
		if f.Severity == channel.OK.String() {
			if fine++; fine > maxFine {
				continue
			}
		}
		t.add(severity(f.Severity), text(f.Subject), text(f.What))
		if f.Means != "" {
			t.add(text(""), text(""), text("means: "+f.Means))
		}
		if f.Cure != "" {
			t.add(text(""), text(""), text("do:    "+f.Cure))
		}
	}
	if err := t.print(w, true); err != nil {
		return err
	}
	if fine > maxFine {
		if _, err := fmt.Fprintf(w, "(%d more are ok)\n", fine-maxFine); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", summary(findings))
	return err
}

// severity is the column RESULT.
func severity(s string) cell {
	c := text(s)
	switch s {
	case channel.Problem.String():
		c.colour = red
	case channel.Warning.String():
		c.colour = yellow
	}
	return c
}

func tallySeverities(findings []v1.Finding) map[string]int {
	n := make(map[string]int)
	for _, f := range findings {
		n[f.Severity]++
	}
	return n
}

// summary counts findings, the worst first.
func summary(findings []v1.Finding) string {
	n := tallySeverities(findings)
	var parts []string
	for _, s := range []channel.Severity{channel.Problem, channel.Warning, channel.Note} {
		if n[s.String()] > 0 {
			parts = append(parts, channel.Count(n[s.String()], s.String()))
		}
	}
	return strings.Join(append(parts, fmt.Sprintf("%d ok", n[channel.OK.String()])), ", ")
}

// progress shows on a terminal how far a long check has come.
type progress struct {
	w     io.Writer // nil: nobody looks
	last  time.Time
	shown bool
}

func newProgress(w io.Writer) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	return &progress{w: w}
}

func (p *progress) show(done, total int64) {
	if p.w == nil || total == 0 || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	fmt.Fprintf(p.w, "\rreading: %3d %% of %s", done*100/total, size(total))
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r"+strings.Repeat(" ", 40)+"\r")
	}
}
