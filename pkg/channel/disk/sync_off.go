//go:build unsafe_nosync

package disk

const syncing = false
