package kube

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock-events/penstock/test/kube/probe"
)

// Explain logs what a person needs to see why a test failed: conditions, what
// came, what Kubernetes says of the pods, and the last lines of their logs.
func (s *Space) Explain() {
	var b strings.Builder
	fmt.Fprintf(&b, "namespace %s, class %s\n", s.Name, s.Class)
	if all, err := s.Eventing.EventingV1().Brokers(s.Name).List(s.ctx, metav1.ListOptions{Limit: 10}); err == nil {
		for _, o := range all.Items {
			fmt.Fprintf(&b, "Broker %s, generation %d, seen %d%s\n", o.Name, o.Generation, o.Status.ObservedGeneration, Conditions(o.Status.Status))
		}
	}
	if all, err := s.Eventing.EventingV1().Triggers(s.Name).List(s.ctx, metav1.ListOptions{Limit: 10}); err == nil {
		for _, o := range all.Items {
			fmt.Fprintf(&b, "Trigger %s, generation %d, seen %d, subscriber %v%s\n", o.Name, o.Generation, o.Status.ObservedGeneration, o.Status.SubscriberURI, Conditions(o.Status.Status))
		}
	}
	if all, err := s.Kube.CoreV1().Events(s.Name).List(s.ctx, metav1.ListOptions{Limit: 200}); err == nil {
		for _, e := range all.Items {
			if e.Type != corev1.EventTypeNormal || e.InvolvedObject.Kind == "Broker" || e.InvolvedObject.Kind == "Trigger" {
				fmt.Fprintf(&b, "event %s %s %s: %s\n", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
			}
		}
	}
	for _, name := range s.seen.known {
		var got probe.Received
		if err := s.ask("GET", "received/"+name, nil, nil, &got); err != nil {
			fmt.Fprintf(&b, "receiver %s: %v\n", name, err)
			continue
		}
		fmt.Fprintf(&b, "receiver %s: %d requests\n", name, got.Total)
		for i, r := range got.Requests {
			if i == 10 {
				b.WriteString("  ...\n")
				break
			}
			fmt.Fprintf(&b, "  %s %s %s id=%q answered %d, headers %v, body %.200q\n", r.At.Format("15:04:05.000"), r.Method, r.Path, r.ID, r.Status, r.Headers, r.Body)
		}
	}
	system, lines := System, int64(20)
	if s.Class == Reference {
		system, lines = Knative, 3
	}
	b.WriteString(s.Pods(system, lines))
	s.t.Log(b.String())
}

// Pods is the state of the pods of a namespace and the last lines of their logs.
func (c *Cluster) Pods(namespace string, lines int64) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var b strings.Builder
	pods, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, p := range pods.Items {
		restarts := int32(0)
		why := ""
		for _, cs := range p.Status.ContainerStatuses {
			restarts += cs.RestartCount
			if w := cs.State.Waiting; w != nil {
				why += " " + w.Reason + " " + w.Message
			}
			if term := cs.LastTerminationState.Terminated; term != nil {
				why += fmt.Sprintf(" (before: %s, exit code %d)", term.Reason, term.ExitCode)
			}
		}
		fmt.Fprintf(&b, "pod %s %s, %d restarts%s\n", p.Name, p.Status.Phase, restarts, why)
		log, err := c.Kube.CoreV1().Pods(namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
		if err != nil {
			fmt.Fprintf(&b, "  log: %v\n", err)
			continue
		}
		for line := range bytes.Lines(log) {
			fmt.Fprintf(&b, "  %.400s\n", bytes.TrimRight(line, "\n"))
		}
	}
	return b.String()
}
