package seed

import (
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

func deploy(t *testing.T, parts ...string) []byte {
	t.Helper()
	return text(t, append([]string{root, "deploy"}, parts...)...)
}

// Pattern 1. The image is ours, and so is the name of the container in it.
func TestTheStatefulSetIsTheOneThatWeShip(t *testing.T) {
	theirs := block(t, "01-statefulset.yaml")
	mine := ours(t, overlay(t), "StatefulSet", at(theirs, "metadata", "name").(string))
	superset(t, theirs, mine,
		"/spec/template/spec/containers/0/image",
		"/spec/template/spec/containers/0/name")
}

// The same values hold where nothing is renamed.
func TestPlainConfigDiffersFromTheStatefulSetInNamesOnly(t *testing.T) {
	mine := ours(t, text(t, root, "config", "500-dispatcher.yaml"), "StatefulSet", "penstock-dispatcher")
	superset(t, block(t, "01-statefulset.yaml"), mine,
		"/metadata/name", "/spec/serviceName", "/spec/selector/matchLabels/app", "/spec/template/metadata/labels/app",
		"/spec/template/spec/containers/0/image", "/spec/template/spec/containers/0/name")
}

// Pattern 3.
func TestTheServiceEntryIsInTheMeshOverlay(t *testing.T) {
	theirs := block(t, "03-serviceentry.yaml")
	istio := deploy(t, "istio", "istio.yaml")
	// v1alpha3 is read by Istio as v1; v1 is what it asks for today.
	superset(t, theirs, ours(t, istio, "ServiceEntry", at(theirs, "metadata", "name").(string)), "/apiVersion")

	// Its host leads to the ingress, on its port.
	host, port := at(theirs, "spec", "hosts", "0"), at(theirs, "spec", "ports", "0", "number")
	route := ours(t, istio, "VirtualService", "message-queue")
	if at(route, "spec", "hosts", "0") != host || at(route, "spec", "tcp", "0", "match", "0", "port") != port {
		t.Errorf("the route is for %v", at(route, "spec"))
	}
	destination := at(route, "spec", "tcp", "0", "route", "0", "destination")
	if at(destination, "host") != "penstock-ingress.penstock-system.svc.cluster.local" {
		t.Errorf("the route leads to %v", destination)
	}
	service := ours(t, text(t, root, "config", "400-services.yaml"), "Service", "penstock-ingress")
	superset(t, tree{"spec": tree{"ports": []any{tree{"port": at(destination, "port", "number")}}}}, service)

	// The mesh must not send an event again by itself.
	if at(ours(t, istio, "VirtualService", "penstock-ingress"), "spec", "http", "0", "retries", "attempts") != 0 {
		t.Error("the mesh retries what it sends to the ingress")
	}
	if at(ours(t, istio, "PeerAuthentication", "penstock"), "spec", "mtls", "mode") != "STRICT" {
		t.Error("connections without mTLS are taken")
	}
}

// Practice 1.
func TestTheAutoscalerIsTheOneThatWeShip(t *testing.T) {
	theirs := block(t, "04-horizontalpodautoscaler.yaml")
	manifest := overlay(t)
	mine := ours(t, manifest, "HorizontalPodAutoscaler", at(theirs, "metadata", "name").(string))
	superset(t, theirs, mine)
	target := at(theirs, "spec", "scaleTargetRef")
	deployment := ours(t, manifest, at(target, "kind").(string), at(target, "name").(string))
	if at(deployment, "spec", "replicas") != nil {
		t.Error("the Deployment sets the number that the autoscaler sets")
	}
	// Without the article's names.
	superset(t, theirs, ours(t, deploy(t, "autoscaling", "hpa.yaml"), "HorizontalPodAutoscaler", "penstock-ingress"),
		"/metadata/name", "/spec/scaleTargetRef/name")

	// KEDA's variant asks for the same.
	keda := ours(t, deploy(t, "keda", "scaledobject.yaml"), "ScaledObject", "penstock-ingress")
	spec := tree{
		"minReplicaCount": at(theirs, "spec", "minReplicas"),
		"maxReplicaCount": at(theirs, "spec", "maxReplicas"),
		"triggers": []any{
			tree{"type": "cpu", "metadata": tree{"value": at(theirs, "spec", "metrics", "0", "resource", "target", "averageUtilization")}},
			tree{"type": "prometheus", "metricType": at(theirs, "spec", "metrics", "1", "pods", "target", "type"),
				"metadata": tree{"threshold": at(theirs, "spec", "metrics", "1", "pods", "target", "averageValue")}},
		},
	}
	superset(t, spec, at(keda, "spec"))
}

// Practice 2: the claim is that of Penstock in one pod.
func TestTheClaimHoldsPenstockInOnePod(t *testing.T) {
	theirs := block(t, "05-persistentvolumeclaim.yaml")
	manifest := deploy(t, "standalone", "standalone.yaml")
	name := at(theirs, "metadata", "name").(string)
	superset(t, theirs, ours(t, manifest, "PersistentVolumeClaim", name))
	if size := resource.MustParse(at(theirs, "spec", "resources", "requests", "storage").(string)); size.Value() < 1<<30 {
		t.Errorf("%v is too small for a log", size)
	}
	pod := at(ours(t, manifest, "Deployment", "message-queue"), "spec", "template", "spec")
	superset(t, tree{"volumes": []any{tree{"persistentVolumeClaim": tree{"claimName": name}}}}, pod)
	// Two pods cannot share it.
	deployment := ours(t, manifest, "Deployment", "message-queue")
	if at(deployment, "spec", "replicas") != 1 || at(deployment, "spec", "strategy", "type") != "Recreate" {
		t.Error("two processes could meet on the claim")
	}
}

// Practice 2: there is no shell in our image, so the command is the program.
func TestTheBackupJobIsTheOneThatWeShip(t *testing.T) {
	theirs := block(t, "06-cronjob.yaml")
	mine := ours(t, deploy(t, "backup", "cronjob.yaml"), "CronJob", at(theirs, "metadata", "name").(string))
	container := "/spec/jobTemplate/spec/template/spec/containers/0"
	superset(t, theirs, mine, container+"/image", container+"/command")
	pod := []string{"spec", "jobTemplate", "spec", "template", "spec", "containers", "0", "command"}
	shell := at(theirs, pod...).([]any)
	command := at(mine, pod...).([]any)
	if got, want := filepath.Base(command[0].(string)), shell[len(shell)-1]; len(command) != 1 || got != want {
		t.Errorf("it runs %q, the article %q", got, want)
	}
}
