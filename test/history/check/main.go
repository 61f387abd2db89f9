// Command check judges histories that tests have left behind: each file by
// itself, or with -restored all of them as one, where every file but the first
// begins with a restored backup. It exits with 1 if an invariant is violated,
// and with 2 if a file is no history.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/penstock-events/penstock/test/history"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(errOut)
	format := flags.String("o", "text", "`format` of the verdict: text or json")
	restored := flags.Bool("restored", false, "the files are one history: each continues from a backup of the one before")
	flags.Usage = func() {
		fmt.Fprintln(errOut, "usage: go run ./test/history/check [-o text|json] [-restored] FILE...")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() == 0 || *format != "text" && *format != "json" {
		flags.Usage()
		return 2
	}
	groups := [][]string{flags.Args()}
	if !*restored {
		groups = nil
		for _, name := range flags.Args() {
			groups = append(groups, []string{name})
		}
	}
	worst := 0
	for _, names := range groups {
		v, err := checkFiles(names)
		switch {
		case err != nil:
			fmt.Fprintf(errOut, "check %v: %v\n", names, err)
			worst = 2
			continue
		case *format == "json":
			encoder := json.NewEncoder(out)
			encoder.SetIndent("", "  ")
			err = encoder.Encode(v)
		default:
			_, err = fmt.Fprintf(out, "%v\n%v\n", names, v)
		}
		if err != nil {
			fmt.Fprintln(errOut, err)
			return 2
		}
		if v.Err() != nil {
			worst = max(worst, 1)
		}
	}
	return worst
}

func checkFiles(names []string) (*history.Verdict, error) {
	var parts []io.Reader
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		parts = append(parts, f)
	}
	return history.Check(parts...)
}
