// Package kube is what the tests on a real cluster share: the clients, a
// namespace for each test, Brokers and Triggers and the wait for them, the
// probe that sends and receives inside the cluster, and what a person needs to
// see when a test fails.
//
// The tests know the cluster by KUBECONFIG and the registry by KO_DOCKER_REPO
// (with what else ko itself reads), and nothing else, so that any cluster
// will do: they reach pods through the API server only. Where one of the two
// variables is missing every test is skipped, and each package says so in a
// line of its own.
//
// Every wait has a bound. Each test has its own namespace, which goes when the
// test ends; E2E_KEEP=1 keeps those of failed tests.
package kube
