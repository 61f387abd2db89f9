package ingress

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock-events/penstock/pkg/app/cluster"
)

// Options are the flags of the ingress. Each has an environment variable of
// the same meaning, prefix PENSTOCK_; a flag that is given wins.
type Options struct {
	cluster.Identity

	Listen        []string      `split_words:"true" default:":8080,:9092"`
	APIListen     string        `split_words:"true" default:":8088"`
	MetricsListen string        `split_words:"true" default:":9090"`
	APIUrl        string        `split_words:"true"` // so that the variable is PENSTOCK_API_URL
	Dispatchers   string        `split_words:"true" default:"penstock-dispatcher"`
	Service       string        `split_words:"true" default:"penstock-ingress"`
	Token         string        `split_words:"true" default:"/var/run/secrets/penstock/token"`
	LameDuck      time.Duration `split_words:"true" default:"5s"`
	DrainTimeout  time.Duration `split_words:"true" default:"20s"`
	LogFormat     string        `split_words:"true" default:"json"`
	LogLevel      string        `split_words:"true" default:"info"`
}

func (o *Options) bind(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.Listen, "listen", o.Listen, "addresses that events are posted to, one door (PENSTOCK_LISTEN)")
	flags.StringVar(&o.APIListen, "api-listen", o.APIListen, "address of the probes /healthz and /readyz (PENSTOCK_API_LISTEN)")
	flags.StringVar(&o.MetricsListen, "metrics-listen", o.MetricsListen, "address of /metrics (PENSTOCK_METRICS_LISTEN)")
	flags.StringVar(&o.APIUrl, "api-url", o.APIUrl, "URL at which senders reach the API of a dispatcher, for the links of a 202; without it they are paths (PENSTOCK_API_URL)")
	flags.StringVar(&o.Dispatchers, "dispatchers", o.Dispatchers, "name of the StatefulSet of dispatchers and of its headless Service (PENSTOCK_DISPATCHERS)")
	flags.StringVar(&o.Service, "service", o.Service, "name of our own Service: its pods share the rate of a Broker (PENSTOCK_SERVICE)")
	flags.StringVar(&o.Token, "token", o.Token, "file with the token for dispatchers (PENSTOCK_TOKEN)")
	flags.DurationVar(&o.LameDuck, "lame-duck", o.LameDuck, "how long a stop goes on taking events, until nobody is sent here any more (PENSTOCK_LAME_DUCK)")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long a stop then waits for what is being stored (PENSTOCK_DRAIN_TIMEOUT)")
	flags.StringVar(&o.LogFormat, "log-format", o.LogFormat, "text or json (PENSTOCK_LOG_FORMAT)")
	flags.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error (PENSTOCK_LOG_LEVEL)")
	flags.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace that Penstock is installed in (SYSTEM_NAMESPACE)")
}

// Command is the ingress. It stops in order when the command's context ends.
func Command() *cobra.Command {
	var o Options
	cmd := cluster.Command(cobra.Command{
		Use:   "ingress",
		Short: "Take events by HTTP and store them in dispatchers, as a pod of a cluster",
		Long: `The front door on Kubernetes: POST /NAMESPACE/BROKER, answered with 202 when a
dispatcher has stored the event. It keeps nothing itself.

SIGTERM stops it in order: it goes on taking events until nobody is sent here any
more, what is being stored is answered, exit code 0.`,
		Example: `  # as the manifests start it
  ingress

  # against the cluster of KUBECONFIG, from a shell
  ingress --listen :8080 --token ./token --log-format text`,
	}, &o, func(ctx context.Context, c cluster.Clients, errOut io.Writer) error { return Run(ctx, o, c, errOut) })
	o.bind(cmd.Flags())
	return cmd
}
