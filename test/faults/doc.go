// Package faults runs the real penstock on a real Linux kernel and breaks what
// is under it: the power of its volume, its syncs, its space, the speed of its
// disk, its file descriptors, its memory, its time. What senders and
// subscribers saw is written down and judged by test/history.
//
// It promises that a fault is the one it is named after: the power of a volume
// is cut with the process stopped, a sync fails in the kernel with its pages
// dropped, and what is acknowledged is recorded elsewhere. It does not model a
// disk that lies about a flush. Where a machine cannot do something (no root,
// no loop devices, no strace) the test is skipped, and the number of those is
// printed at the end of the run with all figures.
//
// The tests run in a mount namespace of their own, so that no mount outlives
// them however they end.
package faults
