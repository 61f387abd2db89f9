// Package conformance holds Knative's conformance features as tests of our
// own: the same tests, features and texts, with the assertions written from
// what they mean. Those that Knative's suite only logs are written out too.
//
// The class of the Brokers is a parameter (BROKER_CLASS, Penstock if not set),
// so that Knative's own class is the oracle: a feature that is asserted in
// earnest must pass there. With -record the outcome is kept in testdata, and
// docs/conformance.md is written from that.
package conformance
