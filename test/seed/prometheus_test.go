package seed

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// tool finds a program of the Debian package prometheus.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: %s is not here (Debian package prometheus)", name)
	}
	return path
}

// prometheus is a real one.
type prometheus struct{ url string }

func startPrometheus(t *testing.T, config string) *prometheus {
	t.Helper()
	bin := tool(t, "prometheus")
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool(t, "promtool"), "check", "config", file).CombinedOutput(); err != nil {
		t.Fatalf("promtool check config: %v\n%s\n%s", err, out, config)
	}
	address := broker.FreeAddress(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--config.file="+file, "--web.listen-address="+address, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = log.Close()
	})
	p := &prometheus{"http://" + address}
	eventually(t, "Prometheus is ready", func() error {
		select {
		case err := <-ended:
			ended <- err
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("Prometheus ended: %v\n%s", err, text)
		default:
		}
		return p.get("/-/ready", nil)
	})
	return p
}

func (p *prometheus) get(path string, into any) error {
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(p.url + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// sample is one series at one moment.
type sample struct {
	labels map[string]string
	value  float64
}

func (p *prometheus) query(q string) ([]sample, error) {
	var answer struct {
		Data struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(q), &answer); err != nil {
		return nil, err
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("%s is a %s", q, answer.Data.ResultType)
	}
	var vector []struct {
		Metric map[string]string
		Value  [2]any
	}
	if err := json.Unmarshal(answer.Data.Result, &vector); err != nil {
		return nil, err
	}
	var all []sample
	for _, s := range vector {
		v, err := strconv.ParseFloat(s.Value[1].(string), 64)
		if err != nil {
			return nil, err
		}
		all = append(all, sample{s.Metric, v})
	}
	return all, nil
}

// one asks for a single number.
func (p *prometheus) one(q string) (float64, error) {
	result, err := p.query(q)
	if err != nil {
		return 0, err
	}
	if len(result) != 1 {
		return 0, fmt.Errorf("%s has %d results", q, len(result))
	}
	return result[0].value, nil
}

// scrapeConfig is the article's configuration, unchanged but for its host
// names: no DNS here knows them, so each is put in its place by the address
// that the program listens on.
func scrapeConfig(t *testing.T, places map[string]string) string {
	t.Helper()
	config := at(block(t, "07-configmap.yaml"), "data", "prometheus.yml").(string)
	for host, address := range places {
		if strings.Count(config, "'"+host+"'") != 1 {
			t.Fatalf("the article does not scrape %s", host)
		}
		config = strings.ReplaceAll(config, "'"+host+"'", "'"+address+"'")
	}
	// It says nothing about how often; a minute is long for a test.
	return "global: {scrape_interval: 2s, scrape_timeout: 2s}\n" + config
}
