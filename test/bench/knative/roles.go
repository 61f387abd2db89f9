package knative

import (
	"context"
	"net/http"
	"time"

	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/broker"
	"knative.dev/eventing/pkg/broker/filter"
	"knative.dev/eventing/pkg/broker/ingress"
	"knative.dev/eventing/pkg/channel"
	"knative.dev/eventing/pkg/channel/fanout"
	"knative.dev/eventing/pkg/channel/multichannelfanout"
	"knative.dev/eventing/pkg/eventingtls"
	"knative.dev/eventing/pkg/inmemorychannel"
	"knative.dev/eventing/pkg/kncloudevents"
	"knative.dev/eventing/pkg/observability/otel"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/logging"
)

// As cmd/broker/ingress, cmd/broker/filter and config/channels of
// knative.dev/eventing ship them.
const (
	maxTTL      = 255
	maxConns    = 1000
	readTimeout = 15 * time.Minute
)

// ingressHandler is cmd/broker/ingress.
func ingressHandler(ctx context.Context, p *parts) (http.Handler, error) {
	logger := logging.FromContext(ctx).Desugar()
	meters, traces := otel.DefaultMeterProvider(ctx, nil), otel.DefaultTraceProvider(ctx, nil)
	h, err := ingress.NewHandler(logger, broker.TTLDefaulter(logger, maxTTL), p.events.Eventing().V1().Brokers(),
		p.verifier, p.tokens, p.bundles, p.features, meters, traces)
	if err != nil {
		return nil, err
	}
	return otel.NewHandler(h, "broker.ingress", meters, traces), nil
}

// filterHandler is cmd/broker/filter.
func filterHandler(ctx context.Context, p *parts) (http.Handler, error) {
	meters, traces := otel.DefaultMeterProvider(ctx, nil), otel.DefaultTraceProvider(ctx, nil)
	h, err := filter.NewHandler(logging.FromContext(ctx).Desugar(), p.verifier, p.tokens,
		p.events.Eventing().V1().Triggers(), p.events.Eventing().V1().Brokers(), p.events.Messaging().V1().Subscriptions(),
		p.bundles, p.features, meters, traces)
	if err != nil {
		return nil, err
	}
	return otel.NewHandler(h, "broker.filter", meters, traces), nil
}

// channelHandler is the dispatcher of pkg/reconciler/inmemorychannel, without its reconciler.
func channelHandler(ctx context.Context, p *parts) (http.Handler, error) {
	meters, traces := otel.DefaultMeterProvider(ctx, nil), otel.DefaultTraceProvider(ctx, nil)
	kncloudevents.ConfigureConnectionArgs(&kncloudevents.ConnectionArgs{MaxIdleConns: maxConns, MaxIdleConnsPerHost: maxConns})
	tls := eventingtls.ClientConfig{TrustBundleConfigMapLister: p.bundles}
	var subscriptions []fanout.Subscription
	for _, s := range p.objects.subscribers {
		f, err := fanout.SubscriberSpecToFanoutConfig(s)
		if err != nil {
			return nil, err
		}
		f.Namespace = "default"
		subscriptions = append(subscriptions, *f)
		kncloudevents.AddOrUpdateAddressableHandler(tls, duckv1.Addressable{URL: s.SubscriberURI}, meters, traces)
	}
	config := multichannelfanout.Config{ChannelConfigs: []multichannelfanout.ChannelConfig{{
		Namespace: "default", Name: channelName, Path: "default/" + channelName,
		FanoutConfig: fanout.Config{Subscriptions: subscriptions},
	}}}
	noPolicies := func(channel.ChannelReference) ([]eventingduckv1.AppliedEventPolicyRef, error) { return nil, nil }
	return multichannelfanout.NewEventHandlerWithConfig(ctx, logging.FromContext(ctx).Desugar(), config,
		kncloudevents.NewDispatcher(tls, p.tokens, kncloudevents.WithMeterProvider(meters), kncloudevents.WithTraceProvider(traces)),
		meters, traces,
		channel.ResolveChannelFromPath(channel.ParseChannelFromPath),
		channel.OIDCTokenVerification(p.verifier, "messaging.knative.dev/inmemorychannel/default/"+channelName),
		channel.ReceiverWithContextFunc(p.features), channel.ReceiverWithGetPoliciesForFunc(noPolicies))
}

// serve listens as the programs do: the channel's dispatcher in its own way.
func serve(ctx context.Context, port int, h http.Handler) error {
	quiet := kncloudevents.WithDrainQuietPeriod(time.Millisecond) // as shipped it would linger for 45 s after its end
	if m, ok := h.(multichannelfanout.MultiChannelEventHandler); ok {
		return inmemorychannel.NewEventDispatcher(&inmemorychannel.InMemoryEventDispatcherArgs{
			Port: port, ReadTimeout: readTimeout, WriteTimeout: stopTimeout, Handler: m, Logger: logging.FromContext(ctx).Desugar(),
			HTTPEventReceiverOptions: []kncloudevents.HTTPEventReceiverOption{quiet},
		}).Start(ctx)
	}
	return kncloudevents.NewHTTPEventReceiver(port, quiet).StartListen(kncloudevents.WithShutdownTimeout(ctx, stopTimeout), h)
}
