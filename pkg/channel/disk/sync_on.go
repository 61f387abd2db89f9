//go:build !unsafe_nosync

package disk

// syncing is false only in builds that must lose data, to show that the
// tests which cut the power notice.
const syncing = true
