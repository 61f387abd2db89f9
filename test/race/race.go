//go:build race

// Package race tells tests whether the race detector is there. It empties pools
// on purpose, so that nothing is shown then of what allocates.
package race

// Enabled reports whether this is a build with the race detector.
const Enabled = true
