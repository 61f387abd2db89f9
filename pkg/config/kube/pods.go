package kube

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// pods are the pods of the StatefulSet that the slices show, each once, by
// ordinal. A Service has several slices, and while endpoints move between them
// one can stand in two; a pod with two families of addresses does so always.
func (f *Fleet) pods(all []*discoveryv1.EndpointSlice) []Pod {
	byName := make(map[string]Pod)
	for _, slice := range all {
		// Not every API server, and no fake, knows each selector.
		if slice.Labels[discoveryv1.LabelServiceName] != f.o.Service || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		port, ok := f.port(slice)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			p, ok := f.pod(&slice.Endpoints[i], port)
			if !ok {
				continue
			}
			if other, twice := byName[p.Name]; !twice || better(p, other) {
				byName[p.Name] = p
			}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Ordinal, b.Ordinal), cmp.Compare(a.Name, b.Name))
	})
}

func (f *Fleet) port(slice *discoveryv1.EndpointSlice) (string, bool) {
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil && f.o.Port == "" || p.Name != nil && *p.Name == f.o.Port) {
			return strconv.Itoa(int(*p.Port)), true
		}
	}
	return "", false
}

// pod is one endpoint as a pod. An endpoint whose pod nobody can name, or that
// is not the StatefulSet's, is none.
func (f *Fleet) pod(e *discoveryv1.Endpoint, port string) (Pod, bool) {
	var p Pod
	switch {
	case len(e.Addresses) == 0:
		return p, false
	case e.TargetRef != nil && e.TargetRef.Kind == "Pod":
		p.Name = e.TargetRef.Name
	case e.TargetRef == nil && e.Hostname != nil:
		p.Name = *e.Hostname // a StatefulSet's pods are called like their hosts
	}
	digits, ok := strings.CutPrefix(p.Name, f.o.StatefulSet+"-")
	ordinal, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil || strconv.FormatUint(ordinal, 10) != digits {
		return p, false
	}
	p.Ordinal = int(ordinal)
	// All addresses of an endpoint are the same pod's: the first is as good as any.
	p.Address = net.JoinHostPort(e.Addresses[0], port)

	// EndpointConditions: no word about ready is a yes, about serving what ready
	// says, about terminating a no.
	p.Ready = e.Conditions.Ready == nil || *e.Conditions.Ready
	p.Serving = p.Ready
	if e.Conditions.Serving != nil {
		p.Serving = *e.Conditions.Serving
	}
	p.Terminating = e.Conditions.Terminating != nil && *e.Conditions.Terminating
	// A Service that publishes what is not ready has ready where serving is not.
	p.Ready = p.Ready && p.Serving && !p.Terminating
	return p, true
}

// better chooses between two entries of one pod: the one that serves, then
// IPv4, then the lower, so that the choice does not change with the order.
func better(a, b Pod) bool {
	switch {
	case a.Ready != b.Ready:
		return a.Ready
	case a.Serving != b.Serving:
		return a.Serving
	case a.Terminating != b.Terminating:
		return b.Terminating
	case isV6(a) != isV6(b):
		return isV6(b)
	}
	return a.Address < b.Address
}

func isV6(p Pod) bool { return strings.HasPrefix(p.Address, "[") }
