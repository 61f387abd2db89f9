//go:build !linux

package main

import (
	"errors"
	"time"
)

func processorTime(int) (time.Duration, error) {
	return 0, errors.New("processor time is read on Linux only")
}
