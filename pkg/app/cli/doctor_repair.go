package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
)

// mend repairs a stopped store after saying what that means, and looks again.
func (d *doctor) mend(ctx context.Context, found v1.Diagnosis) error {
	out, told := d.cmd.OutOrStdout(), d.cmd.ErrOrStderr()
	if tallySeverities(found.Findings)[channel.Problem.String()] == 0 {
		fmt.Fprintln(told, "Nothing to repair.")
		return d.show(found)
	}
	if err := printFindings(told, found.Findings); err != nil {
		return err
	}
	fmt.Fprintf(told, `
--repair opens %s as it is: what can be read is taken over, what cannot be read
is declared lost and listed, damaged bytes are kept in .damaged files. Some
events may be delivered a second time. It cannot be undone: copy the folder first.

`, clean(d.data))
	if err := d.consent(told); err != nil {
		return err
	}
	done, err := repairStore(ctx, filepath.Join(d.data, "log"), newProgress(told))
	if err != nil {
		return fmt.Errorf("repair %s: %w", d.data, err)
	}
	if d.format != formatJSON {
		for _, line := range done {
			fmt.Fprintln(out, clean(line))
		}
		fmt.Fprintln(out)
	}
	if found, err = d.stopped(ctx); err != nil {
		return err
	}
	return d.show(found)
}

// consent asks for a y, which must come from a person or from --yes.
func (d *doctor) consent(w io.Writer) error {
	if d.yes {
		return nil
	}
	in := d.cmd.InOrStdin()
	if f, ok := in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return usage("--repair changes the store: add --yes if that is meant")
	}
	fmt.Fprint(w, "Repair it? [y/N] ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}
