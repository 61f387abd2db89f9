// Package kube holds tests that meet Penstock as its users on Kubernetes do:
// `ko apply -f config/` on a real cluster, Broker and Trigger objects, their
// conditions, and events by HTTP from pods. They know the cluster by KUBECONFIG
// and the registry by KO_DOCKER_REPO, and install what is in config/ first.
//
// Tests that restart, roll, scale or remove what all share do so alone; all
// others run side by side, each in its own namespace.
package kube
