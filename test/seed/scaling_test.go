package seed

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"text/template"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// autoscaler is what the article's HPA says about the backlog.
type autoscaler struct {
	metric   string
	target   float64
	min, max int
}

func readAutoscaler(t *testing.T) autoscaler {
	t.Helper()
	hpa := block(t, "04-horizontalpodautoscaler.yaml")
	pods := at(hpa, "spec", "metrics", "1", "pods")
	return autoscaler{
		metric: at(pods, "metric", "name").(string),
		target: float64(at(pods, "target", "averageValue").(int)),
		min:    at(hpa, "spec", "minReplicas").(int),
		max:    at(hpa, "spec", "maxReplicas").(int),
	}
}

// replicas is the formula of the Kubernetes documentation for a Pods metric,
// with what each of the pods reports: ceil(current * average / target), not
// moved by less than a tenth, between the bounds.
func (a autoscaler) replicas(values []float64) int {
	current, sum := float64(len(values)), 0.0
	for _, v := range values {
		sum += v
	}
	ratio := sum / current / a.target
	wanted := len(values)
	if math.Abs(ratio-1) > 0.1 {
		wanted = int(math.Ceil(current * ratio))
	}
	return min(max(wanted, a.min), a.max)
}

// backlogs are three processes with so many events each that nobody takes.
type backlogs struct {
	gate    *gate
	brokers []*broker.Broker
	metrics []string // addresses
	trigger string
}

func newBacklogs(t *testing.T, sizes ...int) *backlogs {
	t.Helper()
	b := &backlogs{gate: newGate(t), trigger: at(block(t, "02-trigger.yaml"), "metadata", "name").(string)}
	file, typ, resolve := verbatimTrigger(t, b.gate.url)
	for _, n := range sizes {
		metrics := broker.FreeAddress(t)
		p := broker.Start(t, broker.Options{Binary: penstock, Files: []string{file}, Args: []string{"--resolve", resolve, "--metrics-listen", metrics}})
		post(t, p.Default(), "e", typ, n)
		b.brokers, b.metrics = append(b.brokers, p), append(b.metrics, metrics)
	}
	for i, n := range sizes {
		broker.Await(t, fmt.Sprintf("%d pending", n), func() bool { return b.brokers[i].Trigger(b.trigger).Backlog == uint64(n) })
	}
	return b
}

// scrape reads one series without labels off a process's /metrics.
func scrape(t *testing.T, address, name string) float64 {
	t.Helper()
	for line := range bytes.Lines(exposition(t, address)) {
		if rest, ok := strings.CutPrefix(string(line), name+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("%s has no %s", address, name)
	return 0
}

func exposition(t *testing.T, address string) []byte {
	t.Helper()
	client := http.Client{Timeout: broker.Patience}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// Each process reports its own share and no other's: an average over pods
// times their number is the backlog that there is.
func TestTheBacklogOfAllProcessesMakesTheAutoscalerAskForTheRightNumber(t *testing.T) {
	hpa := readAutoscaler(t)
	target := int(hpa.target)
	sizes := []int{16 * target, 9 * target, 5 * target}
	b := newBacklogs(t, sizes...)
	read := func() (values []float64, sum float64) {
		for _, address := range b.metrics {
			values = append(values, scrape(t, address, "penstock_message_backlog"))
			sum += values[len(values)-1]
		}
		return values, sum
	}
	values, sum := read()
	if want := float64(30 * target); sum != want {
		t.Errorf("the processes report %v, together %v: %v events are pending", values, sum, want)
	}
	if got := hpa.replicas(values); got != hpa.max {
		t.Errorf("for %v the autoscaler asks for %d pods, want %d", values, got, hpa.max)
	}
	b.gate.open()
	for _, p := range b.brokers {
		p.AwaitSettled(b.trigger)
	}
	values, sum = read()
	if got := hpa.replicas(values); sum != 0 || got != hpa.min {
		t.Errorf("drained, with %v, the autoscaler asks for %d pods, want %d", values, got, hpa.min)
	}
}

func TestTheFormulaIsTheDocumentedOne(t *testing.T) {
	hpa := autoscaler{target: 1000, min: 3, max: 10}
	for _, c := range []struct {
		values []float64
		want   int
	}{
		{[]float64{2000, 1500, 1500}, 5},
		{[]float64{5000, 0, 0}, 5}, // where it lies does not matter
		{[]float64{1400, 1400, 1401}, 5},
		{[]float64{1050, 1050, 1050}, 3}, // within a tenth: nothing moves
		{[]float64{1050, 1050, 1050, 1050}, 4},
		{[]float64{0, 0, 0, 0, 0}, 3},
		{[]float64{9000, 9000, 9000}, 10},
	} {
		if got := hpa.replicas(c.values); got != c.want {
			t.Errorf("%v: %d pods, want %d", c.values, got, c.want)
		}
	}
}

// adapterQuery is what prometheus-adapter makes of our rule for some pods: its
// template language, its delimiters, its arguments.
func adapterQuery(t *testing.T, metric, namespace string, pods []string) string {
	t.Helper()
	var values struct {
		Rules struct {
			Custom []struct {
				SeriesQuery  string `yaml:"seriesQuery"`
				MetricsQuery string `yaml:"metricsQuery"`
				Name         struct{ As string }
				Resources    struct {
					Overrides map[string]struct{ Resource string }
				}
			}
		}
	}
	if err := yamlv3.Unmarshal(deploy(t, "autoscaling", "prometheus-adapter", "values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	rule := values.Rules.Custom[0]
	if len(values.Rules.Custom) != 1 || rule.Name.As != metric || rule.Resources.Overrides["pod"].Resource != "pod" || rule.Resources.Overrides["namespace"].Resource != "namespace" {
		t.Fatalf("the rule is %+v, the autoscaler asks for %s of pods", rule, metric)
	}
	query, err := template.New("").Delims("<<", ">>").Option("missingkey=error").Parse(rule.MetricsQuery)
	if err != nil {
		t.Fatal(err)
	}
	series, _, _ := strings.Cut(rule.SeriesQuery, "{")
	var b strings.Builder
	err = query.Execute(&b, struct{ Series, LabelMatchers, GroupBy string }{
		series, fmt.Sprintf(`namespace=%q,pod=~%q`, namespace, strings.Join(pods, "|")), "pod",
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The adapter's rule, asked of a real Prometheus: the pods that are scaled,
// whichever these are, share the true backlog.
func TestTheAdaptersRuleSharesTheTrueBacklogAmongThePods(t *testing.T) {
	hpa := readAutoscaler(t)
	b := newBacklogs(t, 2500, 700, 300)
	const namespace = "penstock-system"
	var config strings.Builder
	config.WriteString("global: {scrape_interval: 2s, scrape_timeout: 2s}\nscrape_configs:\n- job_name: penstock\n  static_configs:\n")
	names := []string{"penstock-ingress-a", "penstock-ingress-b", "penstock-dispatcher-0"}
	for i, address := range b.metrics {
		fmt.Fprintf(&config, "  - {targets: [%q], labels: {namespace: %s, pod: %s}}\n", address, namespace, names[i])
	}
	p := startPrometheus(t, config.String())
	for _, pods := range [][]string{names, names[:2], names[:1]} {
		query := adapterQuery(t, hpa.metric, namespace, pods)
		eventually(t, query, func() error {
			result, err := p.query(query)
			if err != nil {
				return err
			}
			var values []float64
			sum := 0.0
			for _, s := range result {
				values = append(values, s.value)
				sum += s.value
			}
			if len(values) != len(pods) || math.Abs(sum-3500) > 0.001 {
				return fmt.Errorf("%d pods have %v, together %v: want %d, together 3500", len(values), values, sum, len(pods))
			}
			if got := hpa.replicas(values); got != 4 {
				return fmt.Errorf("the autoscaler asks for %d pods, want 4", got)
			}
			return nil
		})
	}
	// KEDA divides the same sum itself.
	keda := ours(t, deploy(t, "keda", "scaledobject.yaml"), "ScaledObject", "penstock-ingress")
	result, err := p.query(at(keda, "spec", "triggers", "1", "metadata", "query").(string))
	if err != nil || len(result) != 1 || result[0].value != 3500 {
		t.Errorf("KEDA's query says %v, %v", result, err)
	}
}
