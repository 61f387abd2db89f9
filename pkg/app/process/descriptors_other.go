//go:build !unix

package process

// descriptorLimit is not known where there is none to speak of.
func descriptorLimit() uint64 { return 0 }
