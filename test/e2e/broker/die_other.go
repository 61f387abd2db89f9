//go:build !linux

package broker

import "os/exec"

// dieWithParent needs Linux; elsewhere the tests' cleanup alone ends children.
func dieWithParent(*exec.Cmd) {}
