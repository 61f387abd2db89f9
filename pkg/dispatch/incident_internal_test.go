package dispatch

import (
	"testing"
	"time"
)

func TestAFailingLaneIsToldOfOnce(t *testing.T) {
	var i incidents
	now := time.Unix(1e9, 0)
	told := 0
	fail := func(n int, every time.Duration) {
		for range n {
			if now = now.Add(every); i.failed(now) {
				told++
			}
		}
	}
	fail(9, time.Hour)
	if told != 0 {
		t.Error("nine failures are an incident")
	}
	i.succeeded(now)
	fail(1000, time.Millisecond)
	if told != 0 {
		t.Error("failures of one second are an incident")
	}
	fail(1000, time.Minute)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	before, news := i.succeeded(now)
	if !news || before.failures != 2000 || now.Sub(before.since) < 1000*time.Minute {
		t.Errorf("recovered: %v, of %+v", news, before)
	}
	if _, news := i.succeeded(now); news {
		t.Error("recovered twice")
	}
	fail(50, time.Second)
	if told != 1 {
		t.Error("a lane that comes and goes is told of again within a minute")
	}
	fail(50, time.Second)
	if told != 2 {
		t.Errorf("it still fails after a minute, told %d times", told)
	}
}

func TestDeathsAreToldOfOnceInABurst(t *testing.T) {
	var i incidents
	now := time.Unix(1e9, 0)
	var told []time.Duration
	start := now
	for range 100 { // one each minute: one burst
		if i.dead(now) {
			told = append(told, now.Sub(start))
		}
		now = now.Add(time.Minute)
	}
	now = now.Add(deadQuiet)
	if i.dead(now) {
		told = append(told, now.Sub(start))
	}
	if len(told) != 2 || told[0] != 0 {
		t.Errorf("told after %v", told)
	}
}
