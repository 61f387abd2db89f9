//go:build !linux

package main

import (
	"errors"
	"time"
)

func processorTime(int) (time.Duration, error) {
	return 0, errors.New("processor time is read on Linux only")
}

func onProcessors(int, func() error) error {
	return errors.New("processors are chosen on Linux only")
}

func sameProcessors([]int) (restore func() error, err error) {
	return nil, errors.New("processors are chosen on Linux only")
}
