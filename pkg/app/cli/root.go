// Package cli is the command line for people: every command of penstock
// except serve. Commands talk to a running broker through its API, and send
// events as any producer does.
//
// It promises exit code 0 when all was done, 1 when something failed and 2
// when the command was used wrongly; answers on standard output, everything
// else on standard error; colours and progress only on a terminal; and that
// text from outside (attributes, data, answers) reaches a terminal without
// control characters.
//
// Main may be called by one goroutine at a time.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/auth"
	"github.com/penstock-events/penstock/pkg/client"
)

// Exit codes of penstock.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// Streams are the standard streams of one run.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// OS are the streams of this process.
func OS() Streams { return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// Main runs one command line, without the program's name, and returns the
// exit code. Commands that follow something end well when ctx ends. extra are
// commands that other packages bring.
func Main(ctx context.Context, args []string, s Streams, extra ...*cobra.Command) int {
	root := Root(extra...)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	if interrupted := ctx.Err() != nil && errors.Is(err, context.Canceled); interrupted {
		err = &failure{errors.New("interrupted")}
	}
	fmt.Fprintln(s.Err, "Error: "+clean(cure(err)))
	code := exitCode(err)
	if code == ExitUsage {
		fmt.Fprintf(s.Err, "See '%s --help'.\n", ran.CommandPath())
	}
	return code
}

// Root is the tree of commands.
func Root(extra ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "penstock",
		Short: "A durable broker for CloudEvents, and what to ask it",
		Long: `Penstock takes CloudEvents in by HTTP, keeps them, and delivers them to every
Trigger that wants them.

Commands that ask a running broker find it at --api (or PENSTOCK_API). They
print tables for people and JSON with -o json, and exit with 0 when all was
done, 1 when something failed, 2 when they were used wrongly.`,
		Example: `  penstock serve -f triggers.yaml
  penstock send --type order.created --data '{"id": 42}'
  penstock get triggers`,
		Args:          cobra.NoArgs,
		RunE:          showHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().String("api", apiDefault(), "URL of the broker's API (environment: PENSTOCK_API)")
	root.PersistentFlags().String("token-file", os.Getenv("PENSTOCK_TOKEN_FILE"), "file with a bearer token for the API of a cluster (environment: PENSTOCK_TOKEN_FILE)")
	root.AddCommand(
		sendCommand(),
		tailCommand(),
		explainCommand(),
		eventCommand(),
		getCommand(),
		deadLetterCommand(),
		pauseCommand(),
		resumeCommand(),
		skipCommand(),
		replayCommand(),
		jobCommand(),
		doctorCommand(),
		backupCommand(),
		restoreCommand(),
		versionCommand(),
	)
	root.AddCommand(extra...)
	markFailures(root)
	return root
}

// showHelp is what a command does that only has others below it.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// apiDefault is where the API is sought unless --api says.
func apiDefault() string {
	if url := os.Getenv("PENSTOCK_API"); url != "" {
		return url
	}
	return client.DefaultURL
}

// apiClient makes the client that a command asks with.
func apiClient(cmd *cobra.Command) (*client.Client, error) {
	base, err := cmd.Flags().GetString("api")
	if err != nil {
		return nil, err
	}
	file, err := cmd.Flags().GetString("token-file")
	if err != nil {
		return nil, err
	}
	var with *http.Client
	if file != "" {
		with = &http.Client{
			Transport:     &auth.Transport{Tokens: auth.NewTokenFile(file), Next: http.DefaultTransport},
			CheckRedirect: auth.NoRedirects,
		}
	}
	c, err := client.New(base, with)
	if err != nil {
		return nil, usage("--api: %v", err)
	}
	told := ""
	c.Incomplete = func(dispatchers string) {
		if dispatchers != told { // of a list each page would say so
			fmt.Fprintf(cmd.ErrOrStderr(), "Warning: incomplete, no answer from %s\n", clean(dispatchers))
			told = dispatchers
		}
	}
	return c, nil
}
