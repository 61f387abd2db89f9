package dispatcher

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/deliver"
)

// Options are the flags of the dispatcher. Each has an environment variable of
// the same meaning, prefix PENSTOCK_; a flag that is given wins.
type Options struct {
	cluster.Identity

	Data             string        `split_words:"true" default:"/data"`
	Listen           string        `split_words:"true" default:":9092"`
	APIListen        string        `split_words:"true" default:":8088"`
	MetricsListen    string        `split_words:"true" default:":9090"`
	RequestReply     string        `split_words:"true" default:"/var/run/secrets/request-reply"`
	DrainTimeout     time.Duration `split_words:"true" default:"20s"`
	ScrubRate        string        `split_words:"true" default:"20Mi"`
	SystemBroker     string        `split_words:"true" default:"penstock-system/system"`
	JournalRetention time.Duration `split_words:"true" default:"24h"`
	JournalBytes     string        `split_words:"true" default:"256Mi"`
	LogFormat        string        `split_words:"true" default:"json"`
	LogLevel         string        `split_words:"true" default:"info"`

	// Guard is where subscribers may be; the zero Guard denies loopback, which no
	// flag changes: it would be the pod itself.
	Guard deliver.Guard `ignored:"true"`
}

func (o *Options) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.Data, "data", o.Data, "folder that events are kept in: the pod's volume (PENSTOCK_DATA)")
	flags.StringVar(&o.Listen, "listen", o.Listen, "address that ingress pods append to (PENSTOCK_LISTEN)")
	flags.StringVar(&o.APIListen, "api-listen", o.APIListen, "address of the API and the probes /healthz and /readyz (PENSTOCK_API_LISTEN)")
	flags.StringVar(&o.MetricsListen, "metrics-listen", o.MetricsListen, "address of /metrics (PENSTOCK_METRICS_LISTEN)")
	flags.StringVar(&o.RequestReply, "request-reply", o.RequestReply, "folder with the keys of Knative's RequestReply, a folder for each Secret (PENSTOCK_REQUEST_REPLY)")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long a stop waits for deliveries in flight (PENSTOCK_DRAIN_TIMEOUT)")
	flags.StringVar(&o.ScrubRate, "scrub-rate", o.ScrubRate, "bytes a second at which stored events are read once a day to find damage; 0 switches that off (PENSTOCK_SCRUB_RATE)")
	flags.DurationVar(&o.JournalRetention, "journal-retention", o.JournalRetention, "how long the journal keeps what happened to events (PENSTOCK_JOURNAL_RETENTION)")
	flags.StringVar(&o.JournalBytes, "journal-bytes", o.JournalBytes, "most bytes of the journal on disk, the oldest entries go first; 0 switches it off (PENSTOCK_JOURNAL_BYTES)")
	flags.StringVar(&o.SystemBroker, "system-broker", o.SystemBroker, "Broker, as NAMESPACE/NAME, that gets an event when a Trigger begins to fail, recovers, or its events begin to die; empty for none (PENSTOCK_SYSTEM_BROKER)")
	flags.StringVar(&o.LogFormat, "log-format", o.LogFormat, "text or json (PENSTOCK_LOG_FORMAT)")
	flags.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error (PENSTOCK_LOG_LEVEL)")
	flags.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace that Penstock is installed in (SYSTEM_NAMESPACE)")
	flags.StringVar(&o.Pod, "pod", o.Pod, "name of this pod, which ends in its number (POD_NAME)")
}

// Command is the dispatcher. It stops in order when the command's context ends.
func Command() *cobra.Command {
	var o Options
	cmd := cluster.Command(cobra.Command{
		Use:   "dispatcher",
		Short: "Keep events on a volume and deliver them, as a pod of a cluster",
		Long: `Own the shards of one pod: take events from ingress pods, keep them on the pod's
volume, match them against the Triggers that Kubernetes holds, deliver them.

It runs in a StatefulSet; the number at the end of the pod's name is that of its
shards. SIGTERM stops it in order: ingress pods are told and go elsewhere,
deliveries in flight end, exit code 0.`,
		Example: `  # as the manifests start it
  dispatcher --data /data --pod penstock-dispatcher-0

  # against the cluster of KUBECONFIG, from a shell
  dispatcher --data ./data --pod penstock-dispatcher-0 --log-format text`,
	}, &o, func(ctx context.Context, c cluster.Clients, errOut io.Writer) error { return Run(ctx, o, c, errOut) })
	o.bind(cmd.Flags())
	return cmd
}
