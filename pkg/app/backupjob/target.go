package backupjob

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// target is one dispatcher to back up. Its name becomes part of a file's.
type target struct {
	name string
	url  string
}

// resolver finds the pods behind a headless Service. *net.Resolver is one.
type resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// portName is the port of the Service that the API is on.
const portName = "api"

// targets are the dispatchers, by name. It is an error if there is none.
func (j *job) targets(ctx context.Context) ([]target, error) {
	find := j.discover
	if len(j.API) > 0 {
		find = j.named
	}
	found, err := find(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b target) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(found); i++ {
		if found[i].name == found[i-1].name {
			return nil, fmt.Errorf("two dispatchers are called %s: one backup would hide the other", found[i].name)
		}
	}
	return found, nil
}

// discover asks DNS which pods the Service has: an SRV record of a headless
// Service names each pod and the port. Pods that are not ready are among them
// (the Service publishes them): they hold events, too.
func (j *job) discover(ctx context.Context) ([]target, error) {
	service := j.Service + "." + j.Namespace + ".svc"
	_, records, err := j.resolver.LookupSRV(ctx, portName, "tcp", service)
	if err != nil {
		return nil, fmt.Errorf("find the dispatchers of %s: %w", service, err)
	}
	var all []target
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		name, _, _ := strings.Cut(host, ".")
		if !isLabel(name) {
			return nil, fmt.Errorf("find the dispatchers of %s: %q is no name of a pod", service, r.Target)
		}
		// By address: names can change their meaning between two requests.
		addresses, err := j.resolver.LookupHost(ctx, host)
		if err != nil || len(addresses) == 0 {
			return nil, fmt.Errorf("find %s: %w", host, err)
		}
		all = append(all, target{name, "http://" + net.JoinHostPort(addresses[0], strconv.Itoa(int(r.Port)))})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find the dispatchers of %s: there is none", service)
	}
	return all, nil
}

// unfit is what a file's name should not have in it.
var unfit = regexp.MustCompile(`[^a-z0-9.-]+`)

// named are the targets of --api.
func (j *job) named(context.Context) ([]target, error) {
	var all []target
	for _, text := range j.API {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("--api %q: want a URL such as http://127.0.0.1:8088", text)
		}
		all = append(all, target{strings.Trim(unfit.ReplaceAllString(strings.ToLower(u.Host), "-"), ".-"), text})
	}
	return all, nil
}

var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// isLabel reports whether s is a DNS label, as names of Kubernetes are.
func isLabel(s string) bool { return label.MatchString(s) }
