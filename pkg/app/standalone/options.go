package standalone

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/kelseyhightower/envconfig"
	"github.com/spf13/pflag"
)

// Options are the flags of `penstock serve`. Each has an environment variable
// of the same meaning, prefix PENSTOCK_; a flag that is given wins.
type Options struct {
	Files            []string      `split_words:"true"`
	Data             string        `split_words:"true" default:"./.penstock"`
	Memory           bool          `split_words:"true"`
	Listen           string        `split_words:"true" default:":8080"`
	APIListen        string        `split_words:"true" default:"127.0.0.1:8088"`
	APIHosts         []string      `split_words:"true"`
	MetricsListen    string        `split_words:"true" default:":9090"`
	Resolve          []string      `split_words:"true"`
	DrainTimeout     time.Duration `split_words:"true" default:"20s"`
	ScrubRate        string        `split_words:"true" default:"20Mi"`
	SystemBroker     string        `split_words:"true" default:"penstock-system/system"`
	JournalRetention time.Duration `split_words:"true" default:"24h"`
	JournalBytes     string        `split_words:"true" default:"256Mi"`
	LogFormat        string        `split_words:"true" default:"text"`
	LogLevel         string        `split_words:"true" default:"info"`
}

// fromEnvironment is what the environment says, or the defaults.
func fromEnvironment() (Options, error) {
	var o Options
	if err := envconfig.Process("PENSTOCK", &o); err != nil {
		return o, fmt.Errorf("environment: %w", err)
	}
	return o, nil
}

// bind makes the flags, with the environment's values as their defaults.
func (o *Options) bind(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&o.Files, "filename", "f", o.Files, "file or folder of Broker and Trigger YAML; may be repeated; reloaded when it changes (PENSTOCK_FILES, separated by commas)")
	flags.StringVar(&o.Data, "data", o.Data, "folder that events are kept in (PENSTOCK_DATA)")
	flags.BoolVar(&o.Memory, "memory", o.Memory, "keep events in memory only: a restart forgets them (PENSTOCK_MEMORY)")
	flags.StringVar(&o.Listen, "listen", o.Listen, "address that events are posted to (PENSTOCK_LISTEN)")
	flags.StringVar(&o.APIListen, "api-listen", o.APIListen, "address of the API and the probes /healthz and /readyz (PENSTOCK_API_LISTEN)")
	flags.StringArrayVar(&o.APIHosts, "api-host", o.APIHosts, "host name, beside localhost and IP addresses, that the API is reached by; may be repeated (PENSTOCK_API_HOSTS, separated by commas)")
	flags.StringVar(&o.MetricsListen, "metrics-listen", o.MetricsListen, "address of /metrics (PENSTOCK_METRICS_LISTEN)")
	flags.StringArrayVar(&o.Resolve, "resolve", o.Resolve, "URL for a subscriber.ref, as kind/name=URL; may be repeated (PENSTOCK_RESOLVE, separated by commas)")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long a stop waits for what is in flight (PENSTOCK_DRAIN_TIMEOUT)")
	flags.StringVar(&o.ScrubRate, "scrub-rate", o.ScrubRate, "bytes a second at which stored events are read once a day to find damage; 0 switches that off (PENSTOCK_SCRUB_RATE)")
	flags.DurationVar(&o.JournalRetention, "journal-retention", o.JournalRetention, "how long the journal keeps what happened to events (PENSTOCK_JOURNAL_RETENTION)")
	flags.StringVar(&o.JournalBytes, "journal-bytes", o.JournalBytes, "most bytes of the journal on disk, the oldest entries go first; 0 switches it off (PENSTOCK_JOURNAL_BYTES)")
	flags.StringVar(&o.SystemBroker, "system-broker", o.SystemBroker, "Broker, as NAMESPACE/NAME, that gets an event when a Trigger begins to fail, recovers, or its events begin to die; empty for none (PENSTOCK_SYSTEM_BROKER)")
	flags.StringVar(&o.LogFormat, "log-format", o.LogFormat, "text or json (PENSTOCK_LOG_FORMAT)")
	flags.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error (PENSTOCK_LOG_LEVEL)")
}

// eventLink is the API's URL for programs on this machine: a number, where
// localhost may be another address.
func eventLink(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return "http://" + a.String()
}

// reachable is a URL for a listening address that a person on this machine
// can use.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return "http://" + a.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
