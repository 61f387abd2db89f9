package kube

import (
	"context"
	"fmt"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	eventing "knative.dev/eventing/pkg/client/clientset/versioned"
)

// Where things are installed.
const (
	System  = "penstock-system"
	Knative = "knative-eventing"
)

// Cluster is the clients, and what is known of the cluster.
type Cluster struct {
	Config   *rest.Config
	Kube     kubernetes.Interface
	Eventing eventing.Interface
	Dynamic  dynamic.Interface

	// Class is that of the Brokers under test.
	Class string
	// Webhook is whether Knative's admission runs, which defaults and refuses.
	Webhook bool
	// HasReference is whether Knative's own broker class is installed.
	HasReference bool

	probe string // its image
}

func connect() (*Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	c := &Cluster{Config: config, Class: os.Getenv("BROKER_CLASS")}
	if c.Class == "" {
		c.Class = DefaultClass
	}
	if c.Kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.Eventing, err = eventing.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.Dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	if _, err := c.Eventing.EventingV1().Brokers("").List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return nil, fmt.Errorf("the cluster does not serve Brokers (are Knative Eventing's CRDs installed?): %w", err)
	}
	hooks, err := c.Kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, h := range hooks.Items {
		c.Webhook = c.Webhook || strings.HasSuffix(h.Name, "webhook.eventing.knative.dev")
	}
	_, err = c.Kube.AppsV1().Deployments(Knative).Get(ctx, "mt-broker-controller", metav1.GetOptions{})
	c.HasReference = err == nil
	if c.probe, err = image(ctx); err != nil {
		return nil, err
	}
	return c, nil
}
