package seed

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// verbatimTrigger is the article's Trigger: its file, its type, and where its
// subscriber is to be found, as --resolve takes it.
func verbatimTrigger(t *testing.T, subscriber string) (file, typ, resolve string) {
	t.Helper()
	const name = "02-trigger.yaml"
	trigger := block(t, name)
	ref := at(trigger, "spec", "subscriber", "ref")
	resolve = strings.ToLower(at(ref, "kind").(string)) + "/" + at(ref, "name").(string) + "=" + subscriber
	return filepath.Join("testdata", name), at(trigger, "spec", "filter", "attributes", "type").(string), resolve
}

// post sends events of a type, numbered from 1 with a prefix, in batches.
func post(t *testing.T, url, prefix, typ string, n int) {
	t.Helper()
	client := http.Client{Timeout: broker.Patience}
	defer client.CloseIdleConnections()
	for sent := 0; sent < n; {
		var body bytes.Buffer
		for i := 0; i < 1000 && sent < n; i++ {
			sep := ","
			if i == 0 {
				sep = "["
			}
			sent++
			fmt.Fprintf(&body, `%s{"specversion":"1.0","id":"%s%d","source":"/seed","type":"%s","data":{"n":%d}}`, sep, prefix, sent, typ, sent)
		}
		body.WriteByte(']')
		resp, err := client.Post(url, "application/cloudevents-batch+json", &body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("POST %s: %s", url, resp.Status)
		}
	}
}

// Pattern 2: the file as it stands, without a cluster.
func TestTheTriggerRunsAsItStands(t *testing.T) {
	address := broker.FreeAddress(t)
	sink, _ := broker.Launch(t, `^listening on `, exec.Command(subscriber, "--listen", address))
	file, typ, resolve := verbatimTrigger(t, "http://"+address+"/")
	b := broker.Start(t, broker.Options{Binary: penstock, Files: []string{file}, Args: []string{"--resolve", resolve}})
	name := at(block(t, "02-trigger.yaml"), "metadata", "name").(string)

	post(t, b.Default(), "other-", typ+".else", 3)
	post(t, b.Default(), "wanted-", typ, 3)
	for i := 1; i <= 3; i++ {
		sink.Await(fmt.Sprintf(`^204 / id="wanted-%d" source="/seed" type="%s"`, i, typ))
	}
	b.AwaitSettled(name)
	if strings.Contains(sink.Output(), "other-") {
		t.Errorf("it got what it does not want:\n%s", sink.Output())
	}
	if got := b.Trigger(name); got.Delivered != 3 {
		t.Errorf("the Trigger is %+v", got)
	}
	if !strings.Contains(b.Log(), "v1alpha1") {
		t.Errorf("nothing is said about the old version:\n%s", b.Log())
	}
}

// Kubernetes serves v1 only: the twin for a cluster differs in that and in nothing else.
func TestTheTwinForAClusterDiffersInItsVersionOnly(t *testing.T) {
	theirs := block(t, "02-trigger.yaml")
	twin := ours(t, text(t, root, "examples", "article", "cluster", "trigger.yaml"), "Trigger", at(theirs, "metadata", "name").(string))
	superset(t, theirs, twin, "/apiVersion")
	if twin["apiVersion"] != "eventing.knative.dev/v1" {
		t.Errorf("the twin is %v", twin["apiVersion"])
	}
	delete(twin, "apiVersion")
	superset(t, twin, theirs)
	if !bytes.Equal(text(t, "testdata", "02-trigger.yaml"), text(t, root, "examples", "article", "trigger.yaml")) {
		t.Error("the example is not the article's block any more")
	}
}

// Practice 2: the command, by the article's own command line, under load; and
// a restore of what it made.
func TestTheBackupIsMadeByTheArticlesCommandAndRestores(t *testing.T) {
	gate := newGate(t)
	file, typ, resolve := verbatimTrigger(t, gate.url)
	var apis []string
	for range 2 {
		b := broker.Start(t, broker.Options{Binary: penstock, Files: []string{file}, Args: []string{"--resolve", resolve}})
		apis = append(apis, b.API)
		post(t, b.Default(), "before-", typ, 100)
	}
	cron := ours(t, deploy(t, "backup", "cronjob.yaml"), "CronJob", "message-queue-backup")
	command := at(block(t, "06-cronjob.yaml"), "spec", "jobTemplate", "spec", "template", "spec", "containers", "0", "command").([]any)
	var args []string
	for _, a := range command {
		args = append(args, a.(string))
	}
	dir := t.TempDir()
	job := exec.Command(args[0], args[1:]...)
	job.Env = []string{"PATH=" + filepath.Dir(backupJob), "PENSTOCK_API=" + strings.Join(apis, ",")}
	for _, e := range at(cron, "spec", "jobTemplate", "spec", "template", "spec", "containers", "0", "env").([]any) {
		name, value := at(e, "name").(string), at(e, "value")
		switch name {
		case "PENSTOCK_BACKUP_TO":
			value = dir
		case "PENSTOCK_BACKUP_EXPECT":
			value = "2" // so many are here
		case "PENSTOCK_TOKEN_FILE":
			continue // nobody asks for one here
		}
		if value != nil {
			job.Env = append(job.Env, name+"="+value.(string))
		}
	}
	if code, out, errOut := broker.Run(t, job); code != 0 {
		t.Fatalf("%q: exit code %d\n%s%s", args, code, out, errOut)
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil || len(archives) != 2 {
		t.Fatalf("backups are %q, %v", archives, err)
	}
	// The disks are lost. The gate opens when the restored one runs.
	data := filepath.Join(t.TempDir(), "data")
	if code, out, errOut := broker.Run(t, exec.Command(penstock, "restore", archives[0], "--data", data)); code != 0 {
		t.Fatalf("restore: exit code %d\n%s%s", code, out, errOut)
	}
	restored := broker.Start(t, broker.Options{Binary: penstock, Data: data, Files: []string{file}, Args: []string{"--resolve", resolve}})
	name := at(block(t, "06-cronjob.yaml"), "metadata", "name")
	// What was not scanned at the time of the backup is scanned now.
	broker.Await(t, fmt.Sprintf("%v brings 100 events back", name), func() bool { return restored.Trigger("message-trigger").Backlog == 100 })
	gate.open()
	restored.AwaitSettled("message-trigger")
}

// eventually is broker.Await with the last reason why not.
func eventually(t *testing.T, what string, so func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(broker.Patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = so(); err == nil {
			return
		}
	}
	t.Fatalf("after %v still not so: %s: %v", broker.Patience, what, err)
}
