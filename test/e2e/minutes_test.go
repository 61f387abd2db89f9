package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// A stranger types `penstock serve` and follows what it prints. The addresses
// come from the environment, for those of the README may be in use here.
func TestServeWithoutArgumentsTellsHowToSendAnEventAndWhereItIsKept(t *testing.T) {
	dir := t.TempDir()
	ingress := broker.FreeAddress(t)
	serve := exec.Command(penstock, "serve")
	serve.Dir = dir
	serve.Env = append(os.Environ(), "PENSTOCK_LISTEN="+ingress,
		"PENSTOCK_API_LISTEN="+broker.FreeAddress(t), "PENSTOCK_METRICS_LISTEN="+broker.FreeAddress(t))
	p, _ := broker.Launch(t, `-d '\{"hello":"world"\}'`, serve)
	out := p.Output()
	for _, want := range []string{"Penstock is ready.", "http://" + ingress + "/default/default", "/api/v1", "/metrics", "./.penstock"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not print %q:\n%s", want, out)
		}
	}

	curl := regexp.MustCompile(`(?m)^  (curl .*\\\n.*)$`).FindStringSubmatch(out)
	if curl == nil {
		t.Fatalf("it prints no curl line:\n%s", out)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		if status, _ := post("http://"+ingress+"/default/default", "1", "hello", `{"hello":"world"}`); status != 202 {
			t.Errorf("answer to an event is %d", status)
		}
	} else {
		code, answer, errOut := broker.Run(t, exec.Command("sh", "-c", curl[1]))
		if code != 0 || !strings.HasPrefix(answer, "HTTP/1.1 202 Accepted") {
			t.Errorf("the curl line answers with\n%s%s", answer, errOut)
		}
	}

	for _, probe := range []string{"/healthz", "/readyz"} {
		api := regexp.MustCompile(`API +(http://[^/]+)/`).FindStringSubmatch(out)[1]
		if code, got, _ := broker.Run(t, exec.Command(penstock, "get", "brokers", "--api", api)); code != 0 || !strings.Contains(got, "default/default") {
			t.Errorf("get brokers: exit code %d\n%s", code, got)
		}
		if status := get(t, api+probe); status != 200 {
			t.Errorf("GET %s: %d", probe, status)
		}
	}
	metrics := regexp.MustCompile(`metrics +(http://\S+)`).FindStringSubmatch(out)[1]
	if status := get(t, metrics); status != 200 {
		t.Errorf("GET %s: %d", metrics, status)
	}

	if code := p.Stop(); code != 0 {
		t.Errorf("exit code after SIGTERM is %d", code)
	}
	if !kept(t, filepath.Join(dir, ".penstock"), []byte(`{"hello":"world"}`)) {
		t.Error("the event is not where it says that events are stored")
	}
}

// The defaults are promised in the README; a test cannot count on those ports
// being free, so it reads them where a person would.
func TestDefaultAddressesAreThoseOfTheReadme(t *testing.T) {
	_, help, _ := broker.Run(t, exec.Command(penstock, "serve", "--help"))
	for flag, want := range map[string]string{
		"--listen": `":8080"`, "--api-listen": `"127.0.0.1:8088"`, "--metrics-listen": `":9090"`, "--data": `"./.penstock"`,
	} {
		if !regexp.MustCompile(regexp.QuoteMeta(flag) + ` string .*\(default ` + regexp.QuoteMeta(want) + `\)`).MatchString(help) {
			t.Errorf("%s is not %s by default:\n%s", flag, want, help)
		}
	}
	readme := read(t, "../../README.md")
	for _, want := range []string{"http://localhost:8080/default/default", "http://127.0.0.1:8088/api/v1", "http://localhost:9090/metrics"} {
		if !strings.Contains(readme, want) {
			t.Errorf("README does not show %s", want)
		}
	}
}

// kept reports whether a file below dir holds the bytes.
func kept(t *testing.T, dir string, data []byte) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(b, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
