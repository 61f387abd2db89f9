// Package e2e holds tests that meet Penstock as its users do: the real
// binary, its output, its exit codes, its files, and real HTTP on loopback.
package e2e
