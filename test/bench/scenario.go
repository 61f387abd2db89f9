package main

import (
	"slices"
	"time"
)

// scenario are systems that are measured in the same way, one after the other
// in each round, so that what is compared stands side by side.
type scenario struct {
	name    string
	plan    plan
	rounds  int
	systems []system
}

// Names of the scenarios.
const (
	inLoop      = "closed loop"
	inFan       = "fan-out"
	inOpen      = "open loop"
	inOne       = "one connection"
	inIsolation = "isolation"
	inCores     = "closed loop, processors of the broker"
	inPending   = "backlog in memory"
	inIdle      = "idle"
	inKnative   = "Knative"
)

const (
	pairs = 10 // rounds of everything that has a bound on a ratio

	openRate      = 1_000
	isolationRate = 500
	fanOutClients = 4  // a broker takes events faster than it delivers each 100 times
	knativeConns  = 16 // its accept waits for its delivery
)

// scenarios are all there is, with the events that 15 minutes allow.
func scenarios(nginx string) []scenario {
	one := []trigger{matching(0)}
	paths := fanPaths(fanTriggers)
	loop := []system{
		{name: sysNetHTTP, start: startFloor("nethttp", pathOne)},
		{name: sysFastHTTP, start: startFloor("fasthttp", pathOne)},
		{name: sysMemory, start: startPenstock(one, "--memory")},
		{name: sysDurable, start: startFloor("durable", pathOne)},
		{name: sysDisk, start: startPenstock(one)},
		{name: sysThousand, start: startPenstock(oneOf(someTriggers)), firstType: someTriggers / 2},
		{name: sysMany, start: startPenstock(oneOf(manyTriggers)), firstType: manyTriggers / 2},
		{name: sysSpread, start: startPenstock(allOf(manyTriggers)), types: manyTriggers},
		{name: sysSplit, start: startSplit},
		{name: sysBare, start: startPenstock(one, "--journal-bytes", "0")},
		{name: sysKnown, start: startPenstock([]trigger{matching(0), {known: true}})},
	}
	if nginx != "" {
		loop = slices.Insert(loop, 1, system{name: sysNginx, start: startNginx(nginx)})
	}
	return []scenario{
		{inLoop, plan{warm: 5_000, events: 25_000, connections: connections}, pairs, loop},
		{inFan, plan{warm: 50, events: 500, connections: fanOutClients}, pairs, []system{
			{name: sysFanMemory, start: startPenstock(fan(paths), "--memory"), paths: paths},
			{name: sysFanFloor, start: startFloor("fasthttp", paths...), paths: paths},
			{name: sysFanDisk, start: startPenstock(fan(paths)), paths: paths},
		}},
		{inOpen, plan{warm: 1_000, events: 3_000, connections: connections, rate: openRate}, pairs, []system{
			{name: sysFastHTTP, start: startFloor("fasthttp", pathOne)},
			{name: sysMemory, start: startPenstock(one, "--memory")},
			{name: sysDurable, start: startFloor("durable", pathOne)},
			{name: sysDisk, start: startPenstock(one)},
		}},
		{inOne, plan{warm: 500, events: 4_000, connections: 1}, pairs, []system{
			{name: sysFlush, measure: measureFlush},
			{name: sysDisk, start: startPenstock(one)},
			{name: sysDurable, start: startFloor("durable", pathOne)},
		}},
		// In memory: on disk the p99 is that of the disk, which would hide what this is to show.
		{inIsolation, plan{warm: 500, events: 2_000, connections: connections, rate: isolationRate}, pairs, []system{
			{name: sysAlone, start: startPenstock(one, "--memory")},
			{name: sysBeside, start: startPenstock(badCompany(), "--memory"), paths: []string{pathOne, pathSlow}, slow: map[string]time.Duration{pathSlow: slowAnswer}},
		}},
		{inCores, plan{warm: 3_000, events: 20_000, connections: connections}, pairs, []system{
			{name: sysMemoryOne, start: pinned(1, startPenstock(one, "--memory"))},
			{name: sysMemoryTwo, start: pinned(2, startPenstock(one, "--memory"))},
			{name: sysDiskOne, start: pinned(1, startPenstock(one))},
			{name: sysDiskTwo, start: pinned(2, startPenstock(one))},
			{name: sysMemoryAllOne, start: startPenstock(one, "--memory"), measure: measureOn(1)},
			{name: sysMemoryAllTwo, start: startPenstock(one, "--memory"), measure: measureOn(2)},
			{name: sysDiskAllOne, start: startPenstock(one), measure: measureOn(1)},
			{name: sysDiskAllTwo, start: startPenstock(one), measure: measureOn(2)},
		}},
		// As many as surely fit into the 256 MiB that the channel holds.
		{inPending, plan{warm: 5_000, events: 150_000, connections: connections}, 3, []system{{name: sysPending, measure: measurePending}}},
		{inIdle, plan{}, 1, []system{{name: sysIdle, measure: measureIdle}}},
		{inKnative, plan{warm: 1_000, events: 20_000, connections: knativeConns}, 3, []system{
			{name: sysMemory, start: startPenstock(one, "--memory")},
			{name: sysDisk, start: startPenstock(one)},
			{name: sysKnative, start: startKnative(1), own: &plan{warm: 300, events: 2_000, connections: knativeConns}},
			{name: sysKnative10, start: startKnative(10), firstType: 5, own: &plan{warm: 50, events: 400, connections: knativeConns}},
			{name: sysKnative99, start: startKnative(100), firstType: 50, own: &plan{warm: 5, events: 50, connections: knativeConns}},
		}},
	}
}

// badCompany are a healthy trigger, one whose subscriber takes its time and one
// whose subscriber is gone, which all want everything.
func badCompany() []trigger {
	healthy, slow, dead := matching(0), matching(0), matching(0)
	slow.name, slow.path = "slow", pathSlow
	dead.name, dead.url = "dead", nobody
	return []trigger{healthy, slow, dead}
}

// quick is what of the scenarios fits into the two minutes of CI.
func quick(all []scenario) []scenario {
	short := map[string]plan{
		inLoop: {warm: 3_000, events: 15_000, connections: connections},
		inFan:  {warm: 20, events: 200, connections: fanOutClients},
	}
	for i := range all {
		if p, ok := short[all[i].name]; ok {
			all[i].plan = p
		}
	}
	return all
}

// needed leaves the systems that rows need, and the yardsticks beside them: they
// show whether the machine was fit to measure on.
func needed(all []scenario, rows []row) []scenario {
	wanted := map[key]bool{}
	for _, r := range rows {
		for _, k := range r.needs() {
			wanted[k] = true
			if k.scenario == inLoop {
				for _, yardstick := range []string{sysNetHTTP, sysNginx, sysFastHTTP} {
					wanted[key{inLoop, yardstick}] = true
				}
			}
		}
	}
	var left []scenario
	for _, s := range all {
		s.systems = slices.DeleteFunc(slices.Clone(s.systems), func(sys system) bool { return !wanted[key{s.name, sys.name}] })
		if len(s.systems) > 0 {
			left = append(left, s)
		}
	}
	return left
}
