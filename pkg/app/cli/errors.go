package cli

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/client"
)

// usageError says that a command was used wrongly.
type usageError struct{ text string }

func (u *usageError) Error() string { return u.text }

// ExitCode makes any error decide on the exit code, those of commands that
// other packages bring included.
func (u *usageError) ExitCode() int { return ExitUsage }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// failure marks an error that a command ran into, as against one that cobra
// found in its arguments before it ran: unknown flags, too many arguments.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// markFailures makes the errors of all commands' RunE failures.
func markFailures(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return &failure{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		markFailures(sub)
	}
}

// exitCode is the code an error ends the process with. An error that has an
// ExitCode decides itself.
func exitCode(err error) int {
	var decides interface{ ExitCode() int }
	if errors.As(err, &decides) {
		return decides.ExitCode()
	}
	if _, ran := errors.AsType[*failure](err); ran {
		return ExitFailed
	}
	return ExitUsage
}

// cure is an error's text with, where we know it, what to do about it.
func cure(err error) string {
	if u, ok := errors.AsType[*client.Unreachable](err); ok {
		return fmt.Sprintf("no broker answers at %s (%v): is `penstock serve` running? Use --api or PENSTOCK_API", u.URL, dialCause(u.Err))
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// dialCause is the system's own word for why a connection failed:
// "connection refused", without the address that stands beside it anyway.
func dialCause(err error) error {
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return call.Err
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New(dns.Err)
	}
	return err
}
