package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/wire"
)

// A clustered system is a Broker class on the cluster of KUBECONFIG, whose one
// node is this machine: the processor time of its pods is read from /proc.
type clustered struct {
	name      string
	class     string
	namespace string   // of its data plane
	programs  []string // of its data plane, as their containers are named
	service   string   // where events are posted, in namespace
}

// classes are what is compared: ours, and Knative's own with its channel in memory.
var classes = []clustered{
	{"penstock, class Penstock, disk", "Penstock", "penstock-system", []string{"ingress", "dispatcher"}, "penstock-ingress"},
	{"Knative, class MTChannelBasedBroker, memory", "MTChannelBasedBroker", "knative-eventing", []string{"ingress", "filter", "dispatcher"}, "broker-ingress"},
}

const benchNamespace = "penstock-bench"

// clusterCommand puts the same load on a Broker of each class, in turn.
func clusterCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	host := flags.String("host", "", "address of this machine that pods can reach, for the subscriber; needed")
	pairs := flags.Int("pairs", 10, "how often each is measured")
	events := flags.Int("events", 5_000, "events of each measurement")
	warm := flags.Int("warm", 1_000, "events before the first")
	triggers := flags.Int("triggers", 1, "Triggers of each Broker, of which one matches")
	if err := parse(flags, args); err != nil {
		return err
	}
	if net.ParseIP(*host) == nil {
		return fmt.Errorf("%w: -host %q: give the address of this machine that pods can reach", errUsage, *host)
	}
	b, err := newBenchAt(ctx, *host)
	if err != nil {
		return err
	}
	defer b.close()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_, _ = kubectl(end, nil, "delete", "namespace", benchNamespace, "--ignore-not-found")
	}()
	if err := b.declare(ctx, *triggers); err != nil {
		return err
	}
	samples := make(map[string][]sample)
	order := slices.Clone(classes)
	first := 0
	for round := -1; round < *pairs; round++ {
		n := *events
		if round < 0 {
			n = *warm
		}
		for _, c := range order {
			s, err := b.clusterTrial(ctx, c, first, n)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			first += n
			if round >= 0 {
				samples[c.name] = append(samples[c.name], s)
				fmt.Fprintf(out, "round %d  %s: %.1f us of processor time per event, accepted p50 %v p99 %v, delivered p50 %v p99 %v\n",
					round+1, c.name, s.cpu, s.accept.p50, s.accept.p99, s.endToEnd.p50, s.endToEnd.p99)
			}
		}
		slices.Reverse(order)
	}
	fmt.Fprintf(out, "\n| %d Triggers, 1 matches; %d pairs of %d events of %d bytes, %d connections | µs per event, median | lowest to highest | events/s | accepted p50 / p99 ms | delivered p50 / p99 ms |\n|---|--:|--:|--:|--:|--:|\n",
		*triggers, *pairs, *events, eventSize, connections)
	for _, c := range classes {
		all := samples[c.name]
		cpu, _ := summary(each(all, func(s sample) float64 { return s.cpu }))
		rate, _ := summary(each(all, func(s sample) float64 { return s.perSecond }))
		mid := all[len(all)/2]
		fmt.Fprintf(out, "| %s | %.1f | %.1f to %.1f | %s | %s / %s | %s / %s |\n", c.name, cpu.median, cpu.low, cpu.high,
			thousands(int(rate.median)), ms(mid.accept.p50), ms(mid.accept.p99), ms(mid.endToEnd.p50), ms(mid.endToEnd.p99))
	}
	return nil
}

// newBenchAt is a rig whose subscriber is reached at host.
func newBenchAt(ctx context.Context, host string) (b *bench, err error) {
	b = &bench{}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("-host: %w", err)
	}
	address := l.Addr().String()
	_ = l.Close()
	b.sink, err = startSinkAt(ctx, b.self, b.dir, address)
	return b, err
}

// kubectl runs it with some input and returns what it prints.
func kubectl(ctx context.Context, input io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Stdin = input
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("kubectl %s: %w: %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// declare makes a Broker of each class and its Triggers, and waits until all
// are ready.
func (b *bench) declare(ctx context.Context, triggers int) error {
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", benchNamespace)
	for _, c := range classes {
		name := strings.ToLower(c.class)
		fmt.Fprintf(&text, "---\napiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: %s\n  namespace: %s\n  annotations: {eventing.knative.dev/broker.class: %s}\nspec:\n  delivery: {retry: 10, backoffPolicy: exponential, backoffDelay: PT0.2S}\n", name, benchNamespace, c.class)
		for i := range triggers {
			path, eventType := pathNone, wire.TypeName(i)
			if i == 0 {
				path = pathOne
			}
			fmt.Fprintf(&text, "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: %s-%05d, namespace: %s}\nspec:\n  broker: %s\n  filter: {attributes: {type: %s}}\n  subscriber: {uri: %q}\n",
				name, i, benchNamespace, name, eventType, b.sink.url(path))
		}
	}
	if _, err := kubectl(ctx, strings.NewReader(text.String()), "apply", "-f", "-"); err != nil {
		return err
	}
	_, err := kubectl(ctx, nil, "-n", benchNamespace, "wait", "--for=condition=Ready", "broker,trigger", "--all", "--timeout=300s")
	return err
}

// clusterTrial sends once through a class.
func (b *bench) clusterTrial(ctx context.Context, c clustered, first, events int) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	address, err := kubectl(ctx, nil, "-n", c.namespace, "get", "service", c.service, "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		return sample{}, err
	}
	pods, err := c.processes(ctx)
	if err != nil {
		return sample{}, err
	}
	t := &target{process: &process{name: c.name, ended: make(chan struct{}), pids: pods}, address: net.JoinHostPort(address, "80")}
	return b.pass(ctx, c.name, t, only(pathOne), load.Options{
		Address: t.address, Path: "/" + benchNamespace + "/" + strings.ToLower(c.class), Connections: connections, Size: eventSize,
		Events: events, FirstID: uint64(first), Types: 1, Duration: 4 * time.Minute,
	})
}

// processes are those of the class's data plane, on this machine.
func (c clustered) processes(ctx context.Context) ([]int, error) {
	text, err := kubectl(ctx, nil, "-n", c.namespace, "get", "pods", "-o", "json")
	if err != nil {
		return nil, err
	}
	var pods struct {
		Items []struct {
			Metadata struct{ UID string }
			Spec     struct{ Containers []struct{ Name string } }
		}
	}
	if err := json.Unmarshal([]byte(text), &pods); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, pod := range pods.Items {
		for _, container := range pod.Spec.Containers {
			if slices.Contains(c.programs, container.Name) {
				wanted[pod.Metadata.UID] = true
			}
		}
	}
	var pids []int
	groups, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, name := range groups {
		group, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		for uid := range wanted {
			if strings.Contains(strings.ReplaceAll(string(group), "_", "-"), uid) {
				if pid, err := strconv.Atoi(strings.Split(name, "/")[2]); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	if len(pids) < len(c.programs) {
		return nil, fmt.Errorf("%d processes found of %v in namespace %s: is this machine the node they run on?", len(pids), c.programs, c.namespace)
	}
	return pids, nil
}
