// Package controller is what the reconcilers of Broker and Trigger share: the
// flags of Knative, the resolution of destinations, the judgement of a
// declaration, and the wait until every pod has loaded it.
//
// No event passes here and nothing is kept but in the status of the objects
// themselves. What is wrong with a declaration is found by config.Compile, as
// the data plane does, so that the two never disagree. Conditions are level
// based: a reconciler computes all of them from what it sees, and a second run
// over the same things writes nothing.
//
// Objects of other Broker classes are never written.
package controller

import "github.com/penstock-events/penstock/pkg/channel"

// Reasons of conditions, beside those of package config.
const (
	ReasonLoading                 = "Loading"                         // not every serving pod has it yet
	ReasonConfigMapNotFound       = "ConfigMapNotFound"               // spec.config names one that is not there
	ReasonConfigMapForbidden      = "ConfigMapForbidden"              // it is in a namespace that is nobody's here
	ReasonConfigIgnored           = "ConfigIgnored"                   // spec.config is not for us
	ReasonCrossNamespaceForbidden = "CrossNamespaceEventLinksOff"     // brokerRef.namespace without the flag
	ReasonTLSNotSupported         = "TransportEncryptionNotSupported" // the flag asks for more than http
	ReasonOIDCNotSupported        = "OIDCNotSupported"                // the flag asks for tokens
	ReasonDependencyInvalid       = "DependencyInvalid"               // the annotation is not a reference
	ReasonDependencyNotFound      = "DependencyDoesNotExist"
	ReasonDependencyUnknown       = "DependencyNotReconciled"
)

// StateAnnotation, in status.annotations, is what a reconciler notes for
// itself. It is not among those that the data plane reads, and may change in
// form from one version to the next.
const StateAnnotation = "controller.penstock.dev/state"

// Plane is one program of the data plane, ingress or dispatcher, as the pods
// of it that serve report. It must not block and may be called at any time.
type Plane interface {
	// InForce lists the serving pods that do not have this version of this object
	// in force, each with a reason; none means that all have. Where no pod serves
	// the one entry says so.
	InForce(uid channel.UID, version string) (missing []string)
}
