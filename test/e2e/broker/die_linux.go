package broker

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the child also when a test runs into its time limit and
// no cleanup is run.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
