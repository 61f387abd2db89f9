package manifests

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kelseyhightower/envconfig"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/app/controller"
	"github.com/penstock-events/penstock/pkg/app/dispatcher"
	"github.com/penstock-events/penstock/pkg/app/ingress"
	"github.com/penstock-events/penstock/pkg/app/standalone"
)

// others are variables that programs read beside their own.
var others = []string{"SYSTEM_NAMESPACE", "POD_NAME", "POD_IP", "GOMEMLIMIT", // Kubernetes' and Go's
	"CONFIG_LOGGING_NAME", "CONFIG_OBSERVABILITY_NAME", "CONFIG_LEADERELECTION_NAME"} // Knative's

// flagVariables are those that the flags of a command name.
func flagVariables(cmd *cobra.Command) []string {
	var all []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		all = append(all, regexp.MustCompile(`PENSTOCK_[A-Z_]+`).FindAllString(f.Usage, -1)...)
	})
	return all
}

// A variable that nobody reads is a setting that does nothing.
func TestEveryVariableIsReadByItsProgram(t *testing.T) {
	var o controller.Options
	var usage strings.Builder
	if err := envconfig.Usagef("PENSTOCK", &o, &usage, "{{range .}}{{usage_key .}} {{end}}"); err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{
		"ingress":    flagVariables(ingress.Command()),
		"dispatcher": flagVariables(dispatcher.Command()),
		"controller": strings.Fields(usage.String()),
		"penstock":   flagVariables(standalone.Command()),
		"backup": {"PENSTOCK_DISPATCHERS", "PENSTOCK_BACKUP_EXPECT", "PENSTOCK_BACKUP_TO", "PENSTOCK_BACKUP_KEEP",
			"PENSTOCK_TOKEN_FILE"}, // test/seed runs it with these
	}
	everywhere(t, func(t *testing.T, objects []object) {
		for _, w := range workloads(objects) {
			for _, c := range w.template.Spec.Containers {
				for _, e := range c.Env {
					if !slices.Contains(known[c.Name], e.Name) && !slices.Contains(others, e.Name) {
						t.Errorf("%s: %s reads no %s: it reads %q", w.name, c.Name, e.Name, known[c.Name])
					}
				}
			}
		}
	})
}

// The longest a stop takes by the programs' defaults is less than Kubernetes
// gives it before it kills.
func TestStopsAreGivenTheTimeThatTheyTake(t *testing.T) {
	var in ingress.Options
	var out dispatcher.Options
	for _, o := range []any{&in, &out} {
		if err := envconfig.Process("PENSTOCK", o); err != nil {
			t.Fatal(err)
		}
	}
	longest := map[string]time.Duration{
		"ingress":    in.LameDuck + in.DrainTimeout,
		"dispatcher": 2 * out.DrainTimeout, // appends, then attempts
	}
	for _, w := range workloads(folder(t, "config")) {
		c := w.template.Spec.Containers[0]
		if want, ok := longest[c.Name]; ok {
			if grace := time.Duration(*w.template.Spec.TerminationGracePeriodSeconds) * time.Second; grace < want+10*time.Second {
				t.Errorf("%s has %v to stop and may take %v", w.name, grace, want)
			}
			delete(longest, c.Name)
		}
	}
	if len(longest) > 0 {
		t.Errorf("not there: %v", longest)
	}
}

// Names that are compiled into the programs are those of the manifests.
func TestNamesInTheProgramsAreThoseOfTheManifests(t *testing.T) {
	accounts := map[string]bool{}
	for _, w := range workloads(folder(t, "config")) {
		accounts[w.template.Spec.ServiceAccountName] = true
		for _, v := range w.template.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for _, s := range v.Projected.Sources {
				if a := s.ServiceAccountToken.Audience; a != cluster.DispatcherAudience && a != cluster.IngressAudience {
					t.Errorf("%s has a token for %q", w.name, a)
				}
			}
		}
	}
	for _, name := range []string{cluster.ControllerAccount, cluster.IngressAccount} {
		if !accounts[name] {
			t.Errorf("no pod runs as %s", name)
		}
	}
}
