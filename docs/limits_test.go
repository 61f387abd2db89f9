package docs_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/auth/tokenreview"
	"github.com/penstock-events/penstock/pkg/channel/owned"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/dedup"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/http1"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/loaded"
	"github.com/penstock-events/penstock/pkg/requestreply"
)

func TestLimitsInTheReferenceAreThoseOfTheProgram(t *testing.T) {
	text := page(t, "reference/limits.md")
	thousands := func(n int) string { return strconv.Itoa(n/1000) + "," + strconv.Itoa(n)[len(strconv.Itoa(n))-3:] }
	mib := func(n int) string { return strconv.Itoa(n>>20) + " MiB" }
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d/time.Second)) + " s" }
	minutes := func(d time.Duration) string { return strconv.Itoa(int(d/time.Minute)) + " min" }
	for bound, want := range map[string]string{
		"body of a request":                            mib(ingress.DefaultMaxBody),
		"request line and headers":                     strconv.Itoa(ingress.DefaultMaxHeader>>10) + " KiB",
		"headers of a request":                         thousands(http1.MaxFields),
		"events of a batch":                            strconv.Itoa(event.DefaultMaxBatch),
		"attributes of an event":                       strconv.Itoa(event.DefaultMaxAttributes),
		"length of an attribute's name":                strconv.Itoa(event.MaxAttributeName) + " bytes",
		"nesting of JSON":                              strconv.Itoa(event.DefaultMaxDepth),
		"passes through brokers":                       strconv.Itoa(ingress.DefaultTTL),
		"bodies being received or stored":              mib(ingress.DefaultMaxInFlight) + " of buffers",
		"open connections":                             strconv.Itoa(ingress.DefaultMaxConns),
		"of one IPv4 address or IPv6 /64":              strconv.Itoa(ingress.DefaultMaxConns / 2),
		"time for the headers":                         strconv.Itoa(int(ingress.DefaultHeaderTimeout/time.Second)) + " s",
		"time for each 64 KiB of a body":               strconv.Itoa(int(ingress.DefaultBodyTimeout/time.Second)) + " s",
		"time to the end of the answer":                minutes(ingress.DefaultAnswerTimeout),
		"idle connection":                              minutes(ingress.DefaultIdleTimeout),
		"settled events":                               strconv.Itoa(int(config.DefaultRetention/time.Hour)) + " h and " + strconv.Itoa(config.DefaultRetentionBytes>>30) + " GiB a Broker",
		"wait between attempts":                        minutes(deliver.DefaultBackoffMax),
		"one attempt":                                  minutes(deliver.DefaultTimeout),
		"connecting to a subscriber":                   seconds(deliver.MaxConnect) + ", in 4 tries",
		"held by an open circuit":                      minutes(dispatch.LeastHeld) + ", or all waits of `delivery`",
		"waits of a retry schedule":                    strconv.Itoa(deliver.MaxSchedule),
		"Brokers and Triggers":                         thousands(config.MaxObjects),
		"one file; files":                              mib(file.MaxFileBytes) + "; " + thousands(file.MaxFiles),
		"grace of what was removed":                    minutes(file.DefaultGrace),
		"clauses and operators of a filter":            strconv.Itoa(filter.MaxNodes),
		"nesting of a filter; brackets in CESQL":       strconv.Itoa(filter.MaxDepth) + " each",
		"one value or CESQL expression":                strconv.Itoa(filter.MaxTextBytes) + " bytes",
		"known events of a Broker with a dedup window": mib(dedup.DefaultMaxBytes) + ", in memory " + mib(dedup.DefaultMaxBytesMemory),

		"connections of an ingress pod to each dispatcher":   strconv.Itoa(remote.DefaultConns),
		"appends that wait for one dispatcher":               strconv.Itoa(remote.DefaultMaxQueue) + " and " + mib(remote.DefaultMaxQueueBytes),
		"one request of several appends":                     mib(remote.DefaultMaxRequestBytes),
		"dispatchers that an event without a key is offered": strconv.Itoa(remote.DefaultTries),
		"connecting to a dispatcher":                         seconds(remote.DefaultDialTimeout),
		"answer of a dispatcher":                             seconds(remote.DefaultTimeout),
		"one request that a dispatcher takes":                mib(remote.DefaultServerMaxRequestBytes) + ", " + thousands(remote.DefaultMaxAppends) + " appends, " + strconv.Itoa(remote.DefaultMaxEvents) + " events",
		"requests being received or stored":                  mib(remote.DefaultMaxInFlight),
		"body of such a request":                             seconds(remote.DefaultBodyTimeout),
		"a dispatcher that stops says so":                    seconds(remote.DefaultGrace),
		"streams that read what a pod has loaded":            strconv.Itoa(loaded.DefaultStreams),
		"heartbeat of such a stream":                         seconds(loaded.DefaultHeartbeat),
		"silence of a pod":                                   seconds(loaded.DefaultSilence),
		"event types that a pod remembers":                   strconv.Itoa(loaded.DefaultTypes),
		"settings of one Broker":                             strconv.Itoa(kube.MaxSettingsBytes>>10) + " KiB",
		"storage of a deleted Broker":                        minutes(kube.DefaultGrace),
		"shards of a Broker on one dispatcher":               strconv.Itoa(owned.PerOwner),
		"Secrets with keys of RequestReply":                  strconv.Itoa(requestreply.MaxSecrets) + " folders, " + strconv.Itoa(requestreply.MaxFiles) + " files each",
		"keys of one RequestReply":                           strconv.Itoa(requestreply.MaxKeys),
		"one question to the API server":                     seconds(tokenreview.DefaultTimeout),
	} {
		if row := "\n| " + bound + " | " + want + " |"; !strings.Contains(text, row) {
			t.Errorf("reference/limits.md has no row that begins with %q", row[1:])
		}
	}
}
