package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/backup"
)

func restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data folder of a backup, or verify one",
		Long: `Make a data folder of what 'penstock backup' wrote. The folder must be empty, or
not be there: restoring never mixes two brokers. All of the archive is verified
before anything in the folder can be used; an archive that is cut short, altered
or of a newer Penstock is refused.

What is restored is the state of the backup: events delivered since are
delivered again, events accepted since are not in it. Do not run the old broker
and the restored one side by side: both deliver the same events.

FILE "-" is standard input.`,
		Example: `  penstock restore /backup/penstock.tar --data /var/lib/penstock
  zstd -dc penstock.tar.zst | penstock restore - --data ./restored
  penstock restore /backup/penstock.tar --verify`,
		Args: cobra.ExactArgs(1),
	}
	formats := []string{formatTable, formatJSON}
	addOutput(cmd, formats...)
	flags := cmd.Flags()
	data := flags.String("data", "", "folder to make, as for serve; it must be empty or not be there")
	verify := flags.Bool("verify", false, "read and verify the archive, and restore nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
		}
		if (*data == "") != *verify {
			return usage("say where to with --data DIR, or only look with --verify")
		}
		return runRestore(cmd, args[0], *data, format)
	}
	return cmd
}

func runRestore(cmd *cobra.Command, archive, data, format string) error {
	var in io.ReadCloser = io.NopCloser(cmd.InOrStdin())
	length := int64(0)
	if archive != standardStream {
		f, err := os.Open(archive)
		if err != nil {
			return err
		}
		if info, err := f.Stat(); err == nil {
			length = info.Size()
		}
		in = f
	}
	defer in.Close()
	source := &archiveSource{in, newMeter(cmd.ErrOrStderr(), length)}
	if data == "" {
		m, err := backup.Verify(source)
		source.done()
		if err != nil {
			return fmt.Errorf("verify %s: %w", archive, err)
		}
		return tellRestored(cmd.OutOrStdout(), archive, "", &backup.Restored{Manifest: m, Brokers: m.Brokers}, format)
	}
	logger, err := quietLogger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	done, err := backup.Restore(cmd.Context(), source, data, logger)
	source.done()
	if err != nil {
		return fmt.Errorf("restore %s: %w", archive, err)
	}
	return tellRestored(cmd.OutOrStdout(), archive, data, done, format)
}

// tellRestored says what is there now, and what to do next. data is "" where
// an archive was only verified.
func tellRestored(w io.Writer, archive, data string, r *backup.Restored, format string) error {
	m, command := r.Manifest, ""
	if data != "" {
		command = serveCommand(data, r)
	}
	bytes, err := m.Bytes()
	if err != nil {
		return err
	}
	if format == formatJSON {
		return printJSON(w, archiveReport{
			Archive: archive, Bytes: bytes, Created: m.Created, Penstock: m.Penstock,
			Data: data, Config: r.Config, Command: command, Brokers: r.Brokers, Notes: m.Notes,
		})
	}
	if data == "" {
		fmt.Fprintf(w, "%s is whole (%s): all accepted before %s.\n\n", clean(archive), size(bytes), moment(m.Created))
		return tellBrokers(w, r.Brokers, m.Notes)
	}
	fmt.Fprintf(w, "Restored into %s: all accepted before %s.\n\n", clean(data), moment(m.Created))
	if err := tellBrokers(w, r.Brokers, m.Notes); err != nil {
		return err
	}
	if r.Config != "" {
		fmt.Fprintf(w, "\nThe configuration as it was then is in %s.\n", clean(r.Config))
	} else {
		fmt.Fprint(w, "\nThere was no configuration in files.\n")
	}
	fmt.Fprintf(w, "Events that were delivered after that moment will be delivered again. To serve it:\n\n  %s\n", clean(command))
	return nil
}

// serveCommand starts a broker on what was restored.
func serveCommand(data string, r *backup.Restored) string {
	words := []string{"penstock", "serve", "--data", data}
	if r.Config != "" {
		words = append(words, "-f", r.Config)
	}
	for _, to := range r.Manifest.Resolve {
		words = append(words, "--resolve", to)
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// quote makes one word of a shell's.
func quote(word string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (strings.ContainsRune("-_./=:,@%+", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
