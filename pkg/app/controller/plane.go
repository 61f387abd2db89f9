package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"k8s.io/client-go/kubernetes"

	"github.com/penstock-events/penstock/pkg/auth"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/controller/pods"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// plane is one program of the data plane as the controller sees it: its pods,
// and what they have loaded. While types are asked for it has a second stream
// to each pod, so that the first need not be broken to ask.
type plane struct {
	*loaded.Watcher
	pods  pods.Options
	token *auth.TokenFile // nil sends none
	types func([]loaded.Type)
	log   *slog.Logger

	mu    sync.Mutex
	known []loaded.Pod
	more  *loaded.Watcher // nil while types are not asked for
}

// planeOptions are what a plane needs.
type planeOptions struct {
	client             kubernetes.Interface
	namespace, service string
	port               int
	token              string // file; "" sends none
	changed            func(loadedUIDs)
	types              func([]loaded.Type)
	log                *slog.Logger
}

func newPlane(o planeOptions) *plane {
	p := &plane{
		pods:  pods.Options{Client: o.client, Namespace: o.namespace, Service: o.service, Port: o.port},
		types: o.types,
		log:   o.log.With("service", o.service),
	}
	if o.token != "" {
		p.token = auth.NewTokenFile(o.token)
	}
	options := p.watcher()
	options.OnChange = func(uids loadedUIDs) { o.changed(uids) }
	options.OnPods = func() { o.changed(nil) }
	p.Watcher = loaded.NewWatcher(options)
	return p
}

func (p *plane) watcher() loaded.WatcherOptions {
	o := loaded.WatcherOptions{Logger: p.log}
	if p.token != nil {
		o.Token, o.Rejected = p.token.Token, p.token.Rejected
	}
	return o
}

// InForce is the Watcher's answer, but for the case that nobody serves, of
// which there are two programs to tell.
func (p *plane) InForce(uid channel.UID, version string) (missing []string) {
	p.mu.Lock()
	known := p.known
	p.mu.Unlock()
	if !slices.ContainsFunc(known, func(pod loaded.Pod) bool { return pod.Serving }) {
		return []string{fmt.Sprintf("no pod of Service %s/%s is serving", p.pods.Namespace, p.pods.Service)}
	}
	return p.Watcher.InForce(uid, version)
}

// run follows the pods until ctx ends, and asks for types while the last value
// from ask is true. It returns after all it started has ended.
func (p *plane) run(ctx context.Context, ask <-chan bool) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { p.end(p.Watcher.Run(ctx)) })
	all.Go(func() { p.end(pods.Run(ctx, p.pods, p.set)) })
	var stop context.CancelFunc
	for {
		select {
		case <-ctx.Done():
			if stop != nil {
				stop()
			}
			return
		case on := <-ask:
			if on == (stop != nil) {
				continue
			}
			if !on {
				stop()
				stop = nil
				p.with(nil)
				continue
			}
			o := p.watcher()
			o.Types, o.OnTypes = true, p.types
			more := loaded.NewWatcher(o)
			inner, cancel := context.WithCancel(ctx)
			stop = cancel
			p.with(more)
			all.Go(func() { p.end(more.Run(inner)) })
		}
	}
}

// with sets the watcher of types.
func (p *plane) with(more *loaded.Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more = more
	if more != nil && p.known != nil {
		more.SetPods(p.known)
	}
}

func (p *plane) set(pods []loaded.Pod) {
	p.mu.Lock()
	p.known = pods
	more := p.more
	p.mu.Unlock()
	if more != nil {
		more.SetPods(pods)
	}
	p.Watcher.SetPods(pods)
}

func (p *plane) end(err error) {
	if err != nil {
		p.log.Error("what the data plane has loaded is not followed any more", "error", err)
	}
}
