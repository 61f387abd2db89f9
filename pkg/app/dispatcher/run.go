// Package dispatcher is the program that owns events in a cluster: one pod of a
// StatefulSet with a volume. It wires an engine to the Kubernetes API, which
// says what there is to deliver, and to the hop, over which ingress pods
// append. It serves only when everything declared is in force, and shows the
// controller what that is.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/app/engine"
	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/auth"
	"github.com/penstock-events/penstock/pkg/auth/tokenreview"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/owned"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/requestreply"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Run owns events until ctx ends and then stops in order: ingress pods are told
// to go elsewhere, what is in flight is finished, the log is closed.
func Run(ctx context.Context, o Options, clients cluster.Clients, errOut io.Writer) (err error) {
	logger, err := process.NewLogger(errOut, o.LogFormat, o.LogLevel)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	ordinal, err := o.Ordinal()
	if err != nil {
		return &process.UsageError{Err: err}
	}
	var appends, apiPort, metrics net.Listener
	closeAll, err := process.Listen(ctx,
		process.Port{To: &appends, Address: o.Listen, Flag: "--listen"},
		process.Port{To: &apiPort, Address: o.APIListen, Flag: "--api-listen"},
		process.Port{To: &metrics, Address: o.MetricsListen, Flag: "--metrics-listen"})
	if err != nil {
		return err
	}
	defer closeAll()

	keys := requestreply.Open(requestreply.Options{Dir: o.RequestReply, Logger: logger})
	_, maxIdle := process.Descriptors()
	board := clients.LoadedBy(o.Identity, cluster.DispatcherAudience)
	types := &witness{board: board}
	e, err := engine.Open(engine.Options{
		Data: o.Data, ScrubRate: o.ScrubRate, DrainTimeout: o.DrainTimeout, SystemBroker: o.SystemBroker,
		JournalRetention: o.JournalRetention, JournalBytes: o.JournalBytes, Logger: logger, Guard: o.Guard, MaxIdle: maxIdle, Keys: keys, Replied: types.replied,
		Number: func(log channel.Log) channel.Log { return owned.New(log, owned.First(ordinal)) },
	})
	if err != nil {
		return err
	}
	defer e.Close()
	life := process.NewLifecycle()
	defer func() { err = errors.Join(err, life.Stop()) }()
	life.Start("keys of RequestReply", keys.Run)
	e.StartChannels(life)
	e.StartMetrics(life, metrics)

	access := tokenreview.NewAccess(clients.Kube.AuthenticationV1().TokenReviews(), clients.Kube.AuthorizationV1().SubjectAccessReviews(), tokenreview.AccessOptions{Group: api.AccessGroup})
	server := e.API(api.Options{Authorize: authorize(access), Who: owner(access), IngressURL: "http://penstock-ingress." + o.Namespace})
	others := newOthers(o.Identity, clients, server, logger)
	life.Start("other dispatchers", others.run)
	life.Start("API", process.ServeHTTP(apiPort, cluster.Internal(board, others.api), func() {
		board.Close()
		server.Close()
	}))
	e.StartDispatcher(life)
	e.StartJobs(life)

	// Nothing is taken before everything declared is in force: an event must
	// meet each Trigger that was ready when it came.
	source := kube.New(kube.Options{
		Client: clients.Knative, Logger: logger, Stored: func() []kube.Stored { return stored(ctx, e, logger) },
		Compile: config.Options{DefaultChannel: e.Kind(), Channels: e.Kinds(), Keys: keys},
	})
	inForce := make(chan struct{})
	life.Start("configuration", func(ctx context.Context) error {
		first, shown := true, shown{}
		return e.Follow(ctx, &remembering{Source: source, dir: o.Data, stored: e.Stored, log: logger}, func(s *config.Snapshot, failed map[channel.UID]bool) {
			board.Publish(shown.next(s, failed))
			if first {
				first = false
				close(inForce)
			}
		})
	})
	if reached, err := life.Await(ctx, inForce); !reached {
		return err
	}

	hop := remote.NewServer(remote.ServerOptions{
		Appender: func(broker channel.UID) (channel.Appender, error) {
			log, err := e.Appender(broker)
			if err != nil {
				return nil, err
			}
			return types.of(log), nil
		},
		Authorize: clients.Reviewer(o.Identity, cluster.DispatcherAudience, cluster.IngressAccount).Requests(remote.ErrForbidden),
		Logger:    logger,
	})
	e.Metrics.WatchHop(func() telemetry.HopState {
		s := hop.Stats()
		return telemetry.HopState{Requests: s.Requests, Stored: s.Stored, Refused: s.Refused, Unknown: s.Unknown, Unauthorized: s.Unauthorized}
	})
	life.Start("appends", func(ctx context.Context) error { return hop.Run(ctx, appends) })
	e.SetServing(true)
	process.Settle()
	logger.Info("serving", "pod", o.Pod, "first shard", uint32(owned.First(ordinal)))

	err = life.Wait(ctx)
	e.SetServing(false)
	if err == nil {
		logger.Info("stopping: finishing what is in flight", "limit", o.DrainTimeout)
	}
	return err
}

// shown is what the controller was last told to be in force, by Broker.
type shown map[channel.UID]map[channel.UID]string

// next is what it is told now. Of a Broker that is not wholly in force it
// hears what it heard before: an older version, or nothing.
func (was shown) next(s *config.Snapshot, failed map[channel.UID]bool) map[channel.UID]string {
	all := make(map[channel.UID]string, len(s.Brokers())+len(s.Triggers()))
	live := make(map[channel.UID]bool, len(s.Brokers()))
	for _, b := range s.Brokers() {
		live[b.UID] = true
		if !failed[b.UID] {
			triggers := s.TriggersOf(b.Namespace, b.Name)
			is := make(map[channel.UID]string, 1+len(triggers))
			is[b.UID] = b.Version
			for _, t := range triggers {
				is[t.UID] = t.Version
			}
			was[b.UID] = is
		}
		maps.Copy(all, was[b.UID])
	}
	maps.DeleteFunc(was, func(broker channel.UID, _ map[channel.UID]string) bool { return !live[broker] })
	return all
}

// stored tells the source what the logs hold. A Broker that cannot be looked
// into is told without Triggers, which then keep what they have.
func stored(ctx context.Context, e *engine.Engine, logger *slog.Logger) []kube.Stored {
	var all []kube.Stored
	for _, info := range e.Stored() {
		triggers, err := e.Known(ctx, info)
		if err != nil {
			logger.Error("stored broker cannot be looked into", telemetry.KeyBroker, info.Name, telemetry.KeyError, err)
		}
		all = append(all, kube.Stored{Broker: info.UID, Name: info.Name, Triggers: triggers})
	}
	return all
}

// owner is whose token a request to the API brings.
func owner(access *tokenreview.Access) func(*http.Request) string {
	return func(r *http.Request) string {
		token, _ := auth.Bearer(r)
		return access.Owner(r.Context(), token)
	}
}

// authorize asks Kubernetes who may use the API.
func authorize(access *tokenreview.Access) func(*http.Request, api.Access) *api.Denied {
	return func(r *http.Request, a api.Access) *api.Denied {
		token, ok := auth.Bearer(r)
		if !ok {
			return &api.Denied{Code: http.StatusUnauthorized, Reason: "a bearer token is needed: kubectl create token NAME makes one for a service account"}
		}
		err := access.Allowed(r.Context(), token, a.Verb, a.Resource, a.Namespace)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, tokenreview.ErrForbidden):
			where := "in namespace " + a.Namespace
			if a.Namespace == "" {
				where = "in all namespaces"
			}
			role := "penstock-viewer"
			if a.Verb == "update" {
				role = "penstock-operator"
			}
			return &api.Denied{Code: http.StatusForbidden, Reason: fmt.Sprintf("you may not %s %s.%s %s: a ClusterRole such as %s allows it", a.Verb, a.Resource, api.AccessGroup, where, role)}
		case errors.Is(err, tokenreview.ErrUnavailable):
			return &api.Denied{Code: http.StatusServiceUnavailable, Reason: "the Kubernetes API does not say just now who you are: try again"}
		}
		return &api.Denied{Code: http.StatusUnauthorized, Reason: "the bearer token is not valid here"}
	}
}
