package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/api/fleet"
	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/channel/owned"
	"github.com/penstock-events/penstock/pkg/config/kube"
)

// others are the dispatchers of the same StatefulSet, so that the API of any
// answers for all. Until they are known each answers for itself.
type others struct {
	name    string // of the StatefulSet and its Service
	fleet   *kube.Fleet
	members atomic.Pointer[[]fleet.Member]
	api     http.Handler
}

func newOthers(i cluster.Identity, clients cluster.Clients, local http.Handler, logger *slog.Logger) *others {
	o := &others{name: i.Pod[:strings.LastIndexByte(i.Pod, '-')]} // it has an ordinal: Run has asked
	o.members.Store(&[]fleet.Member{})
	o.fleet = kube.NewFleet(kube.FleetOptions{
		Client: clients.Kube, Namespace: i.Namespace, Service: o.name, Port: "api", StatefulSet: o.name, Logger: logger,
	})
	o.api = fleet.New(fleet.Options{
		Self: i.Pod, Local: local, Ordinal: owned.Ordinal, Logger: logger,
		Members: func() []fleet.Member { return *o.members.Load() },
	})
	return o
}

// run follows the fleet until ctx ends.
func (o *others) run(ctx context.Context) error {
	return o.fleet.Run(ctx, func(m kube.Members) {
		members := o.of(m)
		o.members.Store(&members)
	})
}

// of lists those there are to be and those there are: one that loads still
// shows what it has, and one beyond what is declared has events to deliver.
func (o *others) of(m kube.Members) []fleet.Member {
	all := make([]fleet.Member, m.Declared)
	for i := range all {
		all[i] = fleet.Member{Name: fmt.Sprintf("%s-%d", o.name, i), Ordinal: i}
	}
	for _, pod := range m.Pods {
		member := fleet.Member{Name: pod.Name, Ordinal: pod.Ordinal, URL: "http://" + pod.Address}
		if pod.Ordinal < len(all) {
			all[pod.Ordinal] = member
		} else {
			all = append(all, member)
		}
	}
	return all
}
