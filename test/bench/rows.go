package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// key is a system in a scenario.
type key struct{ scenario, system string }

// bound is one line of the report: a figure of one system, as a ratio to that of
// another or by itself, and what it may be.
type bound struct {
	what   string // is measured
	of, by key    // by is empty for a figure by itself
	value  func(sample) float64
	must   float64 // 0: nothing is promised
	aim    float64 // negative: none
	unit   string  // of a figure by itself
	almost float64 // so much above the aim still counts as the aim
	guard  float64 // what -quick allows of a must that is known to be missed; 0: the must with its slack
	least  bool    // must and aim are the least that will do, not the most
}

// holds reports whether a figure keeps to a limit of the bound.
func (b bound) holds(v, limit float64) bool {
	if b.least {
		return v >= limit
	}
	return v <= limit
}

// guarded is a bound that is known to be missed: -quick fails where it gets
// worse than that.
func guarded(b bound, guard float64) bound {
	b.guard = guard
	return b
}

// row is what -rows names.
type row struct {
	name   string
	bounds []bound
	asked  bool // only run where it is named: there is no time for it in the full run
}

const noAim = -1

// Void rules: above these the machine was too busy with something else to
// compare anything.
const (
	limitNetHTTP  = 2.4
	limitFastHTTP = 1.4
)

func cpu(s sample) float64         { return s.cpu }
func perSecond(s sample) float64   { return s.perSecond }
func perDelivery(s sample) float64 { return s.perDelivery }
func mallocs(s sample) float64     { return s.mallocs }
func accept50(s sample) float64    { return float64(s.accept.p50) }
func end50(s sample) float64       { return float64(s.endToEnd.p50) }
func end99(s sample) float64       { return float64(s.endToEnd.p99) }

const (
	ofCPU      = "processor time"
	ofDelivery = "processor time per delivery"
	ofRate     = "events/s"
	ofEnd50    = "delivered, p50"
	ofEnd99    = "delivered, p99"
)

// rows are all bounds, in the order of the report.
func rows() []row {
	loop := func(system string) key { return key{inLoop, system} }
	cores := func(system string) key { return key{inCores, system} }
	open := func(system string) key { return key{inOpen, system} }
	ratio := func(what string, value func(sample) float64, of, by key, must, aim float64) bound {
		return bound{what: what, of: of, by: by, value: value, must: must, aim: aim}
	}
	return []row{
		{name: "memory", bounds: []bound{
			ratio(ofCPU, cpu, loop(sysMemory), loop(sysFastHTTP), 1.3, noAim),
			ratio(ofCPU, cpu, loop(sysMemory), loop(sysNginx), 0, 1.0),
			ratio(ofCPU, cpu, loop(sysMemory), loop(sysNetHTTP), 0, noAim),
		}},
		{name: "disk", bounds: []bound{
			ratio(ofCPU, cpu, loop(sysDisk), loop(sysDurable), 1.3, noAim),
			ratio(ofCPU, cpu, loop(sysDisk), loop(sysNginx), 0, 1.2),
			ratio(ofCPU, cpu, loop(sysDisk), loop(sysNetHTTP), 0, noAim),
		}},
		{name: "flush", bounds: []bound{
			ratio("accepted, p50", accept50, key{inOne, sysDisk}, key{inOne, sysFlush}, 1.25, 1.1),
			ratio("accepted, p50", accept50, key{inOne, sysDisk}, key{inOne, sysDurable}, 0, noAim),
			ratio("accepted, p50", accept50, key{inOne, sysDurable}, key{inOne, sysFlush}, 0, noAim),
		}},
		{name: "triggers-1000", bounds: []bound{ratio(ofCPU, cpu, loop(sysThousand), loop(sysDisk), 1.10, 1.05)}},
		{name: "triggers-10000", bounds: []bound{ratio(ofCPU, cpu, loop(sysMany), loop(sysDisk), 1.10, 1.05)}},
		{name: "in-turn", bounds: []bound{ratio(ofCPU, cpu, loop(sysSpread), loop(sysDisk), 0, noAim)}},
		{name: "fan-out", bounds: []bound{
			guarded(ratio(ofDelivery, perDelivery, key{inFan, sysFanMemory}, key{inFan, sysFanFloor}, 1.2, noAim), 3),
			guarded(ratio(ofDelivery, perDelivery, key{inFan, sysFanDisk}, key{inFan, sysFanFloor}, 1.2, noAim), 3),
		}},
		{name: "open", bounds: []bound{
			ratio(ofCPU, cpu, open(sysMemory), open(sysFastHTTP), 1.25, 1.0),
			ratio(ofEnd50, end50, open(sysMemory), open(sysFastHTTP), 1.25, 1.0),
			ratio(ofCPU, cpu, open(sysDisk), open(sysDurable), 1.25, 1.0),
			ratio(ofEnd50, end50, open(sysDisk), open(sysDurable), 1.25, 1.0),
		}},
		{name: "isolation", bounds: []bound{ratio(ofEnd99, end99, key{inIsolation, sysBeside}, key{inIsolation, sysAlone}, 1.5, 1.2)}},
		{name: "allocations", bounds: []bound{
			{what: "objects allocated per event", of: loop(sysDisk), value: mallocs, must: 2, aim: 0, almost: 0.5},
		}},
		{name: "backlog", bounds: []bound{{
			what: "resident for each event of 1 KiB that waits", of: key{inPending, sysPending}, must: 1.5, aim: 1.3, unit: "KiB",
			value: func(s sample) float64 { return s.perPending / (1 << 10) },
		}}},
		{name: "idle", bounds: []bound{
			{what: "resident", of: key{inIdle, sysIdle}, must: 30, aim: 15, unit: "MiB", value: func(s sample) float64 { return float64(s.idle.resident) / (1 << 20) }},
			{what: "size of the binary", of: key{inIdle, sysIdle}, must: 40, aim: 20, unit: "MB", value: func(s sample) float64 { return float64(s.idle.binary) / 1e6 }},
			{what: "wake-ups a second, all threads", of: key{inIdle, sysIdle}, must: 1, aim: 0, almost: 0.5, value: func(s sample) float64 { return s.idle.wakeups }},
			{what: "start until ready", of: key{inIdle, sysIdle}, aim: 20, unit: "ms", value: func(s sample) float64 { return float64(s.idle.ready) / float64(time.Millisecond) }},
		}},
		{name: "journal", bounds: []bound{ratio(ofCPU, cpu, loop(sysKnown), loop(sysBare), 1.10, noAim)}},
		{name: "split", bounds: []bound{ratio(ofCPU, cpu, loop(sysSplit), loop(sysDisk), 1.6, noAim)}},
		{name: "cores", asked: true, bounds: []bound{
			{what: ofRate, of: cores(sysMemoryTwo), by: cores(sysMemoryOne), value: perSecond, aim: 1.1, least: true},
			{what: ofRate, of: cores(sysDiskTwo), by: cores(sysDiskOne), value: perSecond, aim: 1.1, least: true},
			ratio(ofCPU, cpu, cores(sysMemoryTwo), cores(sysMemoryOne), 0, noAim),
			ratio(ofCPU, cpu, cores(sysDiskTwo), cores(sysDiskOne), 0, noAim),
		}},
		{name: "cores-all", asked: true, bounds: []bound{
			{what: ofRate, of: cores(sysMemoryAllTwo), by: cores(sysMemoryAllOne), value: perSecond, must: 1.0, aim: 1.1, least: true},
			{what: ofRate, of: cores(sysDiskAllTwo), by: cores(sysDiskAllOne), value: perSecond, must: 1.0, aim: 1.1, least: true},
			ratio(ofCPU, cpu, cores(sysMemoryAllTwo), cores(sysMemoryAllOne), 0, noAim),
			ratio(ofCPU, cpu, cores(sysDiskAllTwo), cores(sysDiskAllOne), 0, noAim),
		}},
		{name: "knative", bounds: []bound{
			ratio(ofCPU, cpu, key{inKnative, sysKnative}, key{inKnative, sysMemory}, 0, noAim),
			ratio(ofCPU, cpu, key{inKnative, sysKnative}, key{inKnative, sysDisk}, 0, noAim),
			ratio(ofCPU, cpu, key{inKnative, sysKnative10}, key{inKnative, sysKnative}, 0, noAim),
			ratio(ofCPU, cpu, key{inKnative, sysKnative99}, key{inKnative, sysKnative}, 0, noAim),
		}},
	}
}

// quickRows are those of CI.
var quickRows = []string{"memory", "disk", "triggers-10000", "fan-out", "allocations"}

// choose finds rows by name; none is all that need not be asked for.
func choose(names []string) ([]row, error) {
	all := rows()
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(r row) bool { return r.asked }), nil
	}
	var chosen []row
	for _, name := range names {
		i := slices.IndexFunc(all, func(r row) bool { return r.name == name })
		if i < 0 {
			var known []string
			for _, r := range all {
				known = append(known, r.name)
			}
			return nil, fmt.Errorf("%w: no row %q: want some of %s", errUsage, name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func (r row) needs() []key {
	var needs []key
	for _, b := range r.bounds {
		needs = append(needs, b.of)
		if b.by != (key{}) {
			needs = append(needs, b.by)
		}
	}
	return needs
}
