package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what this binary knows of itself.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, "+dirty" if it was changed
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this binary",
		Example: "  penstock version -o json",
		Args:    cobra.NoArgs,
	}
	formats := []string{formatLine, formatJSON}
	addOutput(cmd, formats...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		format, err := outputFormat(cmd, formats...)
		if err != nil {
			return err
		}
		b := thisBuild()
		if format == formatJSON {
			return printJSON(cmd.OutOrStdout(), b)
		}
		revision := ""
		if b.Revision != "" {
			revision = " (" + b.Revision + ")"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "penstock %s%s %s %s\n", b.Version, revision, b.Go, b.Platform)
		return err
	}
	return cmd
}

func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	dirty := ""
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value[:min(12, len(setting.Value))]
		case "vcs.modified":
			if setting.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if b.Revision != "" {
		b.Revision += dirty
	}
	return b
}
