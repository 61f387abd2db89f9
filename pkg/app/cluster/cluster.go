// Package cluster is what the programs share that run inside Kubernetes: who
// they are there, how they reach its API, who may ask them what they have
// loaded. It starts nothing.
package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"knative.dev/eventing/pkg/client/clientset/versioned"

	"github.com/penstock-events/penstock/pkg/auth/tokenreview"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// Names that the manifests give. An audience is what a token is made for.
const (
	ControllerAccount = "penstock-controller"
	IngressAccount    = "penstock-ingress"

	DispatcherAudience = "penstock-dispatcher"
	IngressAudience    = "penstock-ingress"

	// TokenFile is the projected token for dispatchers, in the pods that speak
	// to them.
	TokenFile = "/var/run/secrets/penstock/token"
)

// Identity is who a pod is. Kubernetes tells it by environment variables.
type Identity struct {
	Namespace string `envconfig:"SYSTEM_NAMESPACE" default:"penstock-system"`
	Pod       string `envconfig:"POD_NAME"`
}

// Ordinal is the number that the pod's StatefulSet gave it.
func (i Identity) Ordinal() (int, error) {
	at := strings.LastIndexByte(i.Pod, '-')
	n, err := strconv.ParseUint(i.Pod[at+1:], 10, 16)
	if at < 0 || err != nil {
		return 0, fmt.Errorf("POD_NAME %q: want the name of a pod of a StatefulSet, as in penstock-dispatcher-0", i.Pod)
	}
	return int(n), nil
}

// account is a service account as the API server names it.
func (i Identity) account(name string) string {
	return "system:serviceaccount:" + i.Namespace + ":" + name
}

// Clients reach the API server.
type Clients struct {
	Kube    kubernetes.Interface
	Knative versioned.Interface
}

// Connect makes clients for the cluster that the process runs in, or for the
// one that KUBECONFIG names. It asks nobody yet.
func Connect(userAgent string) (Clients, error) {
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	}
	if err != nil {
		return Clients{}, fmt.Errorf("find the Kubernetes API: %w: run in a pod, or set KUBECONFIG", err)
	}
	config.UserAgent = userAgent
	var c Clients
	if c.Kube, err = kubernetes.NewForConfig(config); err != nil {
		return c, fmt.Errorf("reach the Kubernetes API: %w", err)
	}
	if c.Knative, err = kube.NewClient(config, userAgent); err != nil {
		return c, fmt.Errorf("reach the Kubernetes API: %w", err)
	}
	return c, nil
}

// LoadedBy makes the board that shows the controller what a process has loaded.
func (c Clients) LoadedBy(i Identity, audience string) *loaded.Board {
	reviewer := c.Reviewer(i, audience, ControllerAccount)
	return loaded.NewBoard(loaded.BoardOptions{Authorize: reviewer.Requests(loaded.ErrForbidden)})
}

// Reviewer lets in the service accounts of our own namespace that are named.
func (c Clients) Reviewer(i Identity, audience string, accounts ...string) *tokenreview.Reviewer {
	o := tokenreview.Options{Audience: audience}
	for _, name := range accounts {
		o.Allowed = append(o.Allowed, i.account(name))
	}
	return tokenreview.New(c.Kube.AuthenticationV1().TokenReviews(), o)
}

// Internal puts a board beside what else a port answers.
func Internal(board *loaded.Board, rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+loaded.Path, board)
	mux.Handle("/", rest)
	return mux
}
