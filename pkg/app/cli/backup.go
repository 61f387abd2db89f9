package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/config"
)

// standardStream as a file name is standard input or output.
const standardStream = "-"

// backupOptions are the flags of backup.
type backupOptions struct {
	data  string
	files []string
	rate  string
	force bool
}

func backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy events, dead letters, progress and configuration into one file",
		Long: `Copy what the broker has on disk into one file: events, dead letters, how far
each delivery has come, identities and the YAML files in force. The broker runs
on. All that was accepted before the command began is in the file, and every
byte is verified on its way.

FILE has its name only once it is whole. "-" writes to standard output. With
--data the folder of a broker that is stopped is backed up.

The file holds events as they are: keep it where you would keep them.`,
		Example: `  penstock backup /backup/penstock-$(date +%F).tar
  penstock backup --rate 10Mi /backup/penstock.tar --force
  penstock backup - | zstd > penstock.tar.zst
  penstock backup --data /var/lib/penstock penstock.tar`,
		Args: cobra.ExactArgs(1),
	}
	formats := []string{formatTable, formatJSON}
	addOutput(cmd, formats...)
	var o backupOptions
	flags := cmd.Flags()
	flags.StringVar(&o.data, "data", "", "back up this data folder, which no broker uses, instead of a running broker")
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "with --data: YAML file or folder to back up with it; may be repeated")
	flags.StringVar(&o.rate, "rate", "50Mi", "copy at most so many bytes a second; 0 is no limit, and the default of --data")
	flags.BoolVar(&o.force, "force", false, "replace FILE if it is there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
		}
		return runBackup(cmd, o, args[0], format)
	}
	return cmd
}

func runBackup(cmd *cobra.Command, o backupOptions, target, format string) error {
	rate, err := byteRate(o.rate)
	if err != nil {
		return err
	}
	if o.data != "" && !cmd.Flags().Changed("rate") {
		rate = 0 // nobody waits for the disk
	}
	if len(o.files) > 0 && o.data == "" {
		return usage("-f is for --data: a broker that runs knows its files")
	}
	report := cmd.OutOrStdout()
	if target == standardStream {
		if isTerminal(report) {
			return usage("an archive is not for a terminal: name a file, or send it on with | or >")
		}
		report = cmd.ErrOrStderr()
	} else if err := mayWrite(target, o.force); err != nil {
		return err
	}
	source, err := openBackup(cmd, o, rate)
	if err != nil {
		return err
	}
	defer source.Close()
	var m *backup.Manifest
	if target == standardStream {
		m, err = backup.Copy(cmd.OutOrStdout(), source)
	} else {
		m, err = backup.Save(target, o.force, source)
		if errors.Is(err, fs.ErrExist) {
			err = mayWrite(target, false) // it came meanwhile; this says what to do
		}
	}
	source.done()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return tellBackup(report, m, target, format)
}

// byteRate reads --rate; 0 is no limit.
func byteRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := config.ParseBytes(strings.TrimSuffix(text, "/s"))
	if err != nil {
		return 0, usage("--rate %q: %v", text, err)
	}
	if n != 0 && n < 64<<10 {
		return 0, usage("--rate %q: want at least 64Ki, or 0 for no limit", text)
	}
	return n, nil
}

// mayWrite refuses a file that is there, unless it may be replaced.
func mayWrite(target string, force bool) error {
	info, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder: name a file in it", target)
	case !force:
		return fmt.Errorf("%s is there already: choose another name, or replace it with --force", target)
	}
	return nil
}

// archiveSource is an archive as it comes in.
type archiveSource struct {
	io.ReadCloser
	*meter
}

func (a *archiveSource) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.add(int64(n))
	return n, err
}

// openBackup asks a running broker, or opens a data folder.
func openBackup(cmd *cobra.Command, o backupOptions, rate int64) (*archiveSource, error) {
	if o.data == "" {
		c, err := apiClient(cmd)
		if err != nil {
			return nil, err
		}
		stream, size, err := c.Backup(cmd.Context(), rate)
		if err != nil {
			return nil, err
		}
		return &archiveSource{stream, newMeter(cmd.ErrOrStderr(), size)}, nil
	}
	logger, err := quietLogger(cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	r, w := io.Pipe()
	sizes, ended := make(chan int64, 1), make(chan struct{})
	go func() {
		defer close(ended)
		err := backup.Stopped(ctx, backup.Options{Dir: o.data, Files: o.files, Rate: rate}, logger, func(a *backup.Archive) error {
			sizes <- a.Bytes()
			return a.Write(ctx, w)
		})
		w.CloseWithError(err)
	}()
	source := &archiveSource{ReadCloser: &stoppedArchive{r, cancel, ended}}
	select {
	case size := <-sizes:
		source.meter = newMeter(cmd.ErrOrStderr(), size)
		return source, nil
	case <-ended:
		cancel()
		_, err := r.Read(nil)
		return nil, err
	}
}

// stoppedArchive is the archive of a stopped broker. Closing it waits until
// the data folder has been let go.
type stoppedArchive struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  chan struct{}
}

func (s *stoppedArchive) Close() error {
	s.cancel()
	err := s.PipeReader.Close()
	<-s.ended
	return err
}
