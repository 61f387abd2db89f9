package backupjob

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kelseyhightower/envconfig"
	"github.com/spf13/pflag"

	"github.com/penstock-events/penstock/pkg/config"
)

// options are the flags. Each has an environment variable; a flag that is
// given wins.
type options struct {
	Service   string        `envconfig:"DISPATCHERS" default:"penstock-dispatcher"`
	Namespace string        `envconfig:"SYSTEM_NAMESPACE" default:"penstock-system"`
	API       []string      `split_words:"true"`
	To        string        `envconfig:"BACKUP_TO" default:"/backup"`
	Keep      int           `envconfig:"BACKUP_KEEP" default:"7"`
	Expect    int           `envconfig:"BACKUP_EXPECT" default:"1"`
	Rate      string        `envconfig:"BACKUP_RATE" default:"50Mi"`
	Patience  time.Duration `envconfig:"BACKUP_PATIENCE" default:"2m"`
	TokenFile string        `split_words:"true"`

	rate int64 // Rate, read
}

const help = `Back up every dispatcher into one folder, and remove the oldest backups.

Each dispatcher's archive is verified while it is written and gets its name,
DISPATCHER-TIME.tar, when it is whole. Where one cannot be backed up the others
still are, and the exit code is 1. The broker runs on meanwhile.

Usage:
  backup-message-queue [flags]

Flags:
`

// readOptions reads environment and flags. With --help it prints help to out
// and the error is pflag.ErrHelp.
func readOptions(args []string, out io.Writer) (options, error) {
	var o options
	if err := envconfig.Process("PENSTOCK", &o); err != nil {
		return o, fmt.Errorf("environment: %w", err)
	}
	f := pflag.NewFlagSet("backup-message-queue", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&o.Service, "service", o.Service, "headless Service of the dispatchers (PENSTOCK_DISPATCHERS)")
	f.StringVarP(&o.Namespace, "namespace", "n", o.Namespace, "namespace it is in (SYSTEM_NAMESPACE)")
	f.StringArrayVar(&o.API, "api", o.API, "URL of an API to back up, instead of those of the Service; may be repeated (PENSTOCK_API, separated by commas)")
	f.StringVar(&o.To, "to", o.To, "folder for the backups (PENSTOCK_BACKUP_TO)")
	f.IntVar(&o.Keep, "keep", o.Keep, "how many backups of each dispatcher to keep; 0 keeps all (PENSTOCK_BACKUP_KEEP)")
	f.IntVar(&o.Expect, "expect", o.Expect, "fail where fewer dispatchers are found (PENSTOCK_BACKUP_EXPECT)")
	f.StringVar(&o.Rate, "rate", o.Rate, "copy at most so many bytes a second; 0 is no limit (PENSTOCK_BACKUP_RATE)")
	f.DurationVar(&o.Patience, "patience", o.Patience, "give up a dispatcher that sends nothing for so long (PENSTOCK_BACKUP_PATIENCE)")
	f.StringVar(&o.TokenFile, "token-file", o.TokenFile, "file with the token to show, read again when a minute has gone by (PENSTOCK_TOKEN_FILE)")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(out, help+f.FlagUsages())
		}
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag: backup-message-queue takes no arguments", f.Arg(0))
	}
	return o, nil
}

func (o *options) check() error {
	var err error
	switch {
	case o.Keep < 0:
		return fmt.Errorf("--keep %d: want 0 or more", o.Keep)
	case o.Expect < 1:
		return fmt.Errorf("--expect %d: want 1 or more", o.Expect)
	case o.Patience <= 0:
		return fmt.Errorf("--patience %v: want more than 0", o.Patience)
	}
	if o.rate, err = config.ParseBytes(o.Rate); err != nil {
		return fmt.Errorf("--rate %q: %w", o.Rate, err)
	}
	if o.rate != 0 && o.rate < 64<<10 {
		return fmt.Errorf("--rate %q: want at least 64Ki, or 0 for no limit", o.Rate)
	}
	if len(o.API) == 0 {
		if !isLabel(o.Service) {
			return fmt.Errorf("--service %q is no name of a Service", o.Service)
		}
		if !isLabel(o.Namespace) {
			return fmt.Errorf("--namespace %q is no name of a namespace", o.Namespace)
		}
	}
	if err := writable(o.To); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	return nil
}
