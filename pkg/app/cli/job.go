package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/client"
)

const (
	jobPoll   = 500 * time.Millisecond
	jobReport = 10 * time.Second // between two lines about progress, where there is no terminal
	barWidth  = 24

	// beginLimit is how long a command waits to hear that its job has begun.
	beginLimit = 30 * time.Second

	// cancelLimit is how long an interrupted command tries to cancel its job.
	cancelLimit = 15 * time.Second
)

func jobCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "job",
		Aliases: []string{"jobs"},
		Short:   "Look at, cancel and resume redrives, discards and replays",
		Long: `Look at jobs: redrives, discards, replays, and the starts of Triggers that asked
for the past (penstock.dev/start). The broker carries them out, also after a
restart, until they are done or cancelled. Without a subcommand it lists them.`,
		Example: `  penstock jobs
  penstock job show 1jq3k0a2v
  penstock job cancel 1jq3k0a2v`,
		Args: cobra.NoArgs,
	}
	list := jobListCommand()
	cmd.RunE = list.RunE
	addOutput(cmd, getFormats()...)
	addJobFilter(cmd)
	cmd.AddCommand(list, jobShowCommand(), jobEndCommand(), jobResumeCommand())
	return cmd
}

func addJobFilter(cmd *cobra.Command) {
	cmd.Flags().StringP("trigger", "t", "", "only this Trigger's, as NAMESPACE/NAME or NAME")
	completeFlag(cmd, "trigger", completeTriggers)
}

func jobListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List jobs, the newest on top",
		Example: `  penstock job list
  penstock job list --trigger orders -o json`,
		Args: cobra.NoArgs,
	}
	addOutput(cmd, getFormats()...)
	addJobFilter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		format, err := outputFormat(cmd, getFormats()...)
		if err != nil {
			return err
		}
		var q client.JobQuery
		if trigger, err := cmd.Flags().GetString("trigger"); err != nil {
			return err
		} else if trigger != "" {
			if q.Trigger, err = qualify("--trigger", trigger, ""); err != nil {
				return err
			}
		}
		c, err := apiClient(cmd)
		if err != nil {
			return err
		}
		jobs, err := c.Jobs(cmd.Context(), q)
		if err != nil {
			return err
		}
		return printJobs(cmd, jobs, format)
	}
	return cmd
}

func printJobs(cmd *cobra.Command, jobs []v1.Job, format string) error {
	out := cmd.OutOrStdout()
	switch format {
	case formatJSON:
		if jobs == nil {
			jobs = []v1.Job{}
		}
		return printJSON(out, v1.JobList{Items: jobs})
	case formatName:
		for _, j := range jobs {
			fmt.Fprintln(out, clean(j.ID))
		}
		return nil
	}
	if len(jobs) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "No jobs found.")
		return nil
	}
	wide := format == formatWide
	t := table{header: []string{"ID", "KIND", "TRIGGER", "STATE", "DONE", "DELIVERED", "FAILED", "DISCARDED", "CREATED"}}
	if wide {
		t.header = append(t.header, "WHO", "WHERE", "SINK", "WHY")
	}
	for _, j := range jobs {
		state := text(j.State)
		if j.State == v1.JobFailed {
			state.colour = red
		}
		row := []cell{text(j.ID), text(j.Kind), text(j.Trigger), state, text(percent(j)), number(j.Delivered), alarm(j.Failed), number(j.Discarded),
			text(j.Created.Local().Format(time.DateTime))}
		if wide {
			why := j.Error
			if why == "" {
				why = j.Waiting
			}
			row = append(row, text(j.Who), text(strings.Join(j.Where, ", ")), text(j.Sink), text(why))
		}
		t.add(row...)
	}
	return t.print(out, true)
}

// percent is how far a job has come.
func percent(j v1.Job) string {
	if j.State == v1.JobDone {
		return "100%"
	}
	if j.Total == 0 {
		return "-"
	}
	return strconv.FormatUint(min(99, j.Seen*100/j.Total), 10) + "%"
}

func jobShowCommand() *cobra.Command {
	return oneJob("show ID", "Show one job: what it is about, its counts and its failures", (*client.Client).Job)
}

func jobEndCommand() *cobra.Command {
	return oneJob("cancel ID", "End a job; it can be resumed", (*client.Client).CancelJob)
}

func jobResumeCommand() *cobra.Command {
	return oneJob("resume ID", "Have a job go on that was cancelled or failed", (*client.Client).ResumeJob)
}

// oneJob is a command that asks for something about one job and shows it.
func oneJob(use, short string, ask func(*client.Client, context.Context, string) (v1.Job, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), Example: "  penstock job " + strings.Replace(use, "ID", "1jq3k0a2v", 1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeJobs(cmd, args, typed)
		},
	}
	formats := []string{formatTable, formatJSON}
	addOutput(cmd, formats...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
		}
		c, err := apiClient(cmd)
		if err != nil {
			return err
		}
		j, err := ask(c, cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if format == formatJSON {
			return printJSON(cmd.OutOrStdout(), j)
		}
		return showJob(cmd.OutOrStdout(), j)
	}
	return cmd
}

func completeJobs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completeNames(cmd, args, typed, func(ctx context.Context, c *client.Client) (names []string, err error) {
		jobs, err := c.Jobs(ctx, client.JobQuery{})
		for _, j := range jobs {
			names = append(names, j.ID)
		}
		return names, err
	})
}

func showJob(w io.Writer, j v1.Job) error {
	when := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Local().Format(time.RFC3339)
	}
	var perSecond string
	if j.Rate > 0 {
		perSecond = strconv.FormatFloat(j.Rate, 'g', -1, 64) + " events a second"
	}
	for _, field := range []struct{ name, value string }{
		{"ID", j.ID}, {"Kind", j.Kind}, {"Trigger", j.Trigger}, {"Broker", j.Broker}, {"State", j.State}, {"Done", percent(j)},
		{"Why", j.Error}, {"Waiting", j.Waiting}, {"Where", strings.Join(j.Where, ", ")}, {"Events", strings.Join(j.IDs, ", ")},
		{"Sink", j.Sink}, {"Rate", perSecond}, {"From", when(j.From)}, {"To", when(j.To)}, {"Who", j.Who},
		{"Created", when(&j.Created)}, {"Started", when(&j.Started)}, {"Ended", when(j.Ended)}, {"Counts", counts(j)},
	} {
		if field.value != "" {
			fmt.Fprintf(w, "%-9s%s\n", field.name+":", clean(field.value))
		}
	}
	for _, g := range j.Gaps {
		fmt.Fprintln(w, "Cannot be read: "+clean(g))
	}
	for i, f := range j.Failures {
		if i == 0 {
			fmt.Fprintln(w, "Failures:")
		}
		fmt.Fprintf(w, "  %s  %s  %s\n", clean(f.ID), clean(f.EventID), clean(f.Reason))
	}
	if uint64(len(j.Failures)) < j.Failed {
		fmt.Fprintf(w, "  and %d more\n", j.Failed-uint64(len(j.Failures)))
	}
	return nil
}

// counts is what became of a job's events in one line.
func counts(j v1.Job) string {
	var parts []string
	if j.Kind != v1.JobDiscard {
		parts = append(parts, fmt.Sprintf("%d delivered", j.Delivered), fmt.Sprintf("%d failed", j.Failed))
	}
	if j.Kind == v1.JobDiscard || j.Kind == v1.JobRedrive {
		parts = append(parts, fmt.Sprintf("%d discarded", j.Discarded))
	}
	if j.Skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d not meant", j.Skipped))
	}
	if j.Unreadable > 0 {
		parts = append(parts, fmt.Sprintf("%d not readable", j.Unreadable))
	}
	return strings.Join(parts, ", ")
}

// jobFlags are what the commands that begin jobs share.
type jobFlags struct {
	where  []string
	rate   float64
	dryRun bool
	wait   bool
}

func (f *jobFlags) add(cmd *cobra.Command, rate bool) {
	addOutput(cmd, formatTable, formatJSON)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.where, "where", nil, "only events that meet this: ATTRIBUTE=VALUE, or a CESQL expression; more of them must all hold")
	if rate {
		flags.Float64Var(&f.rate, "rate", 0, "at most so many events a second; 0 for no limit")
	}
	flags.BoolVar(&f.dryRun, "dry-run", false, "only count and name some")
	flags.BoolVar(&f.wait, "wait", true, "follow the job to its end")
}

// runJob begins a job, or shows what it would be about, and follows it.
func (f *jobFlags) runJob(cmd *cobra.Command, kind string, q v1.JobRequest) error {
	format, err := outputFormat(cmd, formatTable, formatJSON)
	if err != nil {
		return err
	}
	c, err := apiClient(cmd)
	if err != nil {
		return err
	}
	q.Where, q.Rate = f.where, f.rate
	if f.dryRun {
		p, err := c.PreviewJob(cmd.Context(), kind, q)
		if err != nil {
			return wrongUse(err)
		}
		if format == formatJSON {
			return printJSON(cmd.OutOrStdout(), p)
		}
		return showPreview(cmd.OutOrStdout(), p)
	}
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	// Who is interrupted now has perhaps begun a job, and must hear of it: the
	// answer is waited for, and then the job cancelled.
	begin, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), beginLimit)
	defer cancel()
	j, err := c.BeginJob(begin, kind, q)
	if err != nil {
		return wrongUse(err)
	}
	if f.wait {
		if j, err = followJob(cmd, c, j); err != nil {
			return err
		}
	}
	out := cmd.OutOrStdout()
	switch {
	case format == formatJSON:
		err = printJSON(out, j)
	case !f.wait:
		fmt.Fprintf(out, "%s job %s has begun; `penstock job show %s` tells how it does\n", j.Kind, clean(j.ID), clean(j.ID))
	default:
		fmt.Fprintf(out, "%s job %s is %s: %s\n", j.Kind, clean(j.ID), j.State, counts(j))
		for _, fail := range j.Failures {
			fmt.Fprintf(cmd.ErrOrStderr(), "failed: %s (%s): %s\n", clean(fail.ID), clean(fail.EventID), clean(fail.Reason))
		}
	}
	if err != nil || !f.wait {
		return err
	}
	switch {
	case j.State == v1.JobFailed:
		return fmt.Errorf("job %s: %s; `penstock job resume %s` has it go on", j.ID, j.Error, j.ID)
	case j.State != v1.JobDone:
		return fmt.Errorf("job %s is %s; `penstock job resume %s` has it go on", j.ID, j.State, j.ID)
	case j.Failed > 0:
		return fmt.Errorf("%d of %d events failed", j.Failed, j.Matched)
	}
	return nil
}

// wrongUse is exit code 2 for what the server says was asked wrongly.
func wrongUse(err error) error {
	if e, ok := errors.AsType[*client.Error](err); ok && e.Code == 400 {
		return usage("%s", e.Message)
	}
	return err
}

func showPreview(w io.Writer, p v1.JobPreview) error {
	what := map[string]string{v1.JobRedrive: "dead letters would be sent again", v1.JobDiscard: "dead letters would be discarded", v1.JobReplay: "events would be replayed"}[p.Kind]
	more := ""
	if !p.Whole {
		more = "at least "
	}
	fmt.Fprintf(w, "%s%d %s (of %d looked at)\n", more, p.Matched, what, p.Seen)
	for _, id := range p.Sample {
		fmt.Fprintln(w, "  "+clean(id))
	}
	if n := uint64(len(p.Sample)); n > 0 && n < p.Matched {
		fmt.Fprintf(w, "  and %d more\n", p.Matched-n)
	}
	for _, g := range p.Gaps {
		fmt.Fprintln(w, "cannot be read: "+clean(g))
	}
	return nil
}

// followJob shows how a job does until it has ended. Whoever interrupts it wants
// the job to stop, and is told how it goes on.
func followJob(cmd *cobra.Command, c *client.Client, j v1.Job) (v1.Job, error) {
	ctx, notes := cmd.Context(), cmd.ErrOrStderr()
	bar := isTerminal(notes)
	tick := time.NewTicker(jobPoll)
	defer tick.Stop()
	reported := time.Now()
	waiting := ""
	for active(j) {
		select {
		case <-ctx.Done():
			if bar {
				fmt.Fprintln(notes)
			}
			return stop(ctx, notes, c, j)
		case <-tick.C:
		}
		now, err := c.Job(ctx, j.ID)
		if _, away := errors.AsType[*client.Unreachable](err); away && ctx.Err() == nil {
			now, err = j, nil
			now.Waiting = "the broker does not answer; the job goes on when it is back"
		}
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			return j, err
		}
		j = now
		switch {
		case bar:
			fmt.Fprint(notes, "\r\x1b[K"+barOf(j))
		case j.Waiting != waiting && j.Waiting != "":
			fmt.Fprintln(notes, "waiting: "+clean(j.Waiting))
		case time.Since(reported) >= jobReport:
			reported = time.Now()
			fmt.Fprintf(notes, "%s: %s\n", percent(j), counts(j))
		}
		waiting = j.Waiting
	}
	if bar {
		fmt.Fprint(notes, "\r\x1b[K")
	}
	return j, nil
}

func active(j v1.Job) bool { return j.State == v1.JobRunning || j.State == v1.JobInterrupted }

// stop cancels the job of a command that was interrupted.
func stop(ctx context.Context, notes io.Writer, c *client.Client, j v1.Job) (v1.Job, error) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelLimit)
	defer cancel()
	ended, err := c.CancelJob(limited, j.ID)
	if err != nil {
		return j, fmt.Errorf("job %s goes on, it could not be cancelled: %s", j.ID, cure(err))
	}
	fmt.Fprintf(notes, "Cancelled after %s. `penstock job resume %s` has it go on.\n", counts(ended), clean(j.ID))
	return ended, nil
}

// barOf is a job's progress in one line.
func barOf(j v1.Job) string {
	line := fmt.Sprintf(" %s, %s", percent(j), counts(j))
	if j.Waiting != "" {
		line += "; waiting: " + clean(j.Waiting)
	}
	if j.Total == 0 {
		return line
	}
	full := int(min(j.Seen, j.Total) * barWidth / j.Total)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]" + line
}

// confirmed asks a person. Without one there is no answer.
func confirmed(cmd *cobra.Command, question string) (bool, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return false, usage("this discards for good and there is no terminal to ask on: give --yes, or --dry-run to see what it is about")
	}
	fmt.Fprint(cmd.ErrOrStderr(), question+" [y/N] ")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}
