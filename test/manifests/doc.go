// Package manifests holds config/ and deploy/ to what Kubernetes accepts and
// to what we promise of them, without a cluster: every field is known, every
// pod fits Pod Security restricted, rights are the least, and names that must
// agree do agree.
package manifests
