package docs_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock-events/penstock/pkg/app/backupjob"
	"github.com/penstock-events/penstock/pkg/app/cli"
	controllerapp "github.com/penstock-events/penstock/pkg/app/controller"
	dispatcherapp "github.com/penstock-events/penstock/pkg/app/dispatcher"
	ingressapp "github.com/penstock-events/penstock/pkg/app/ingress"
	"github.com/penstock-events/penstock/pkg/app/standalone"
)

func TestEveryCommandHasASectionWithItsFlagsAndVariables(t *testing.T) {
	parts := sections(page(t, "reference/flags.md"))
	variable := regexp.MustCompile(`PENSTOCK_[A-Z_]+`)
	known := map[string]bool{"--help": true}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		part, ok := parts[cmd.CommandPath()]
		flags := cmd.LocalNonPersistentFlags()
		if !cmd.HasParent() { // the flags of all commands stand above them
			part, ok = parts[""], true
			flags = cmd.PersistentFlags()
		}
		if !ok {
			t.Errorf("reference/flags.md has no section %q", cmd.CommandPath())
		}
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			known["--"+f.Name] = true
			wanted := append([]string{"--" + f.Name}, variable.FindAllString(f.Usage, -1)...)
			if f.Shorthand != "" {
				wanted = append(wanted, "-"+f.Shorthand)
			}
			for _, word := range wanted {
				if !strings.Contains(part, "`"+word+"`") {
					t.Errorf("%s: `%s` is not in its section of reference/flags.md", cmd.CommandPath(), word)
				}
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(cli.Root(standalone.Command()))
	for flag := range clusterFlags(t) {
		known[flag] = true
	}
	for _, part := range parts {
		for _, word := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(part, -1) {
			if !known[word[1]] {
				t.Errorf("reference/flags.md tells of %s, which no command has", word[1])
			}
		}
	}
}

// clusterPrograms are the commands that run as pods.
func clusterPrograms() []*cobra.Command {
	return []*cobra.Command{ingressapp.Command(), dispatcherapp.Command()}
}

// backupHelp is what backup-message-queue says about its flags.
func backupHelp(t *testing.T) string {
	t.Helper()
	var out, errOut strings.Builder
	if code := backupjob.Main(t.Context(), []string{"--help"}, &out, &errOut); code != 0 {
		t.Fatalf("backup-message-queue --help: %d %s", code, errOut.String())
	}
	return out.String()
}

var (
	longFlag    = regexp.MustCompile(`--[a-z-]+`)
	environment = regexp.MustCompile(`\b(?:PENSTOCK_[A-Z_]+|SYSTEM_NAMESPACE|POD_NAME)\b`)
)

func clusterFlags(t *testing.T) map[string]bool {
	t.Helper()
	flags := make(map[string]bool)
	for _, cmd := range clusterPrograms() {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
	}
	for _, flag := range longFlag.FindAllString(backupHelp(t), -1) {
		flags[flag] = true
	}
	return flags
}

// wordStart is where envconfig splits a field's name.
var wordStart = regexp.MustCompile(`([a-z])([A-Z])`)

func TestEveryProgramOfAClusterHasASectionWithItsFlagsAndVariables(t *testing.T) {
	parts := sections(page(t, "reference/flags.md"))
	wanted := make(map[string][]string) // by program: words of its section
	for _, cmd := range clusterPrograms() {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			words := environment.FindAllString(f.Usage, -1)
			if len(words) == 0 {
				t.Errorf("%s: --%s does not name its variable", cmd.Name(), f.Name)
			}
			wanted[cmd.Name()] = append(append(wanted[cmd.Name()], "--"+f.Name), words...)
			// A package of Knative's sets SYSTEM_NAMESPACE where nobody has.
			if f.DefValue != "" && f.Name != "namespace" && !strings.Contains(parts[cmd.Name()], strings.Trim(f.DefValue, "[]")) {
				t.Errorf("%s: the default of --%s is %s, which its section of reference/flags.md does not say", cmd.Name(), f.Name, f.DefValue)
			}
		})
	}
	_, help, _ := strings.Cut(backupHelp(t), "Flags:")
	wanted["backup-message-queue"] = append(longFlag.FindAllString(help, -1), environment.FindAllString(help, -1)...)
	options := reflect.TypeFor[controllerapp.Options]()
	for i := range options.NumField() {
		if field := options.Field(i); field.Tag.Get("split_words") == "true" {
			name := strings.ToUpper(wordStart.ReplaceAllString(field.Name, "${1}_${2}"))
			wanted["controller"] = append(wanted["controller"], "PENSTOCK_"+name)
		}
	}
	for program, least := range map[string]int{"ingress": 20, "dispatcher": 20, "controller": 8, "backup-message-queue": 18} {
		if len(wanted[program]) < least {
			t.Errorf("%s: only these flags and variables were found: %q", program, wanted[program])
		}
		for _, word := range wanted[program] {
			if !strings.Contains(parts[program], "`"+word+"`") {
				t.Errorf("%s: `%s` is not in its section of reference/flags.md", program, word)
			}
		}
	}
}
