package history

import (
	"slices"
	"time"
)

// accounts compares a trigger's counters with the checker's own.
func (j *judge) accounts(t *trigger) {
	end, known := j.finals[t.name]
	if !known {
		return
	}
	j.found.checked("I14", 1)
	own := j.count(t)
	wrong := func(format string, args ...any) { j.found.breach("I14", end.line, "", t, format, args...) }
	if n := int(end.Delivered); n >= 0 && (n < own.least || n > own.most) {
		wrong("counts %d delivered, the subscriber %d to %d", n, own.least, own.most)
	}
	if n := int(end.Dead); n >= 0 && n != own.letters {
		wrong("counts %d dead letters and lists %d", n, own.letters)
	}
	if n := int(end.Pending); n > own.unended {
		wrong("counts %d pending, %d can be", n, own.unended)
	}
	if end.Cancelled > 0 && t.cancelled == forever {
		wrong("counts %d cancelled, and was not removed", end.Cancelled)
	}
	if end.Lost > 0 && (t.broker == nil || j.gaps[t.broker.name] == 0) {
		wrong("counts %d lost without a declared gap", end.Lost)
	}
	if end.Expired > 0 {
		wrong("counts %d expired, which nobody asked for", end.Expired)
	}
}

// tally adds what the last process must and may have counted as delivered.
func (j *judge) tally(t *trigger, p *pair) {
	end, known := j.finals[t.name]
	if !known {
		return
	}
	own := j.count(t)
	for i := range p.attempts {
		a := &p.attempts[i]
		if a.at < j.began || a.ended == forever || !good(a.answer) {
			continue
		}
		own.most++
		if a.at >= j.began+j.rules.Slack && a.ended+j.rules.Slack <= end.at && j.surelyHeard(t, a) {
			own.least++
		}
	}
}

// process judges what concerns the broker as a whole.
func (j *judge) process() {
	j.owners()
	j.syncErrors()
	for _, w := range j.windows {
		if w.kind != Damage {
			continue
		}
		j.found.checked("I11", 1)
		if !j.detected[w.what] {
			j.found.breach("I11", w.line, "", nil, "damage %q was not reported", w.what)
		}
	}
	for _, s := range j.samples {
		j.found.checked("I13", 1)
		if r := j.rules; r.MaxRSS > 0 && s.RSS > r.MaxRSS {
			j.found.breach("I13", s.line, "", nil, "%d bytes resident, agreed are %d", s.RSS, r.MaxRSS)
		}
		if r := j.rules; r.MaxFDs > 0 && s.FDs > r.MaxFDs {
			j.found.breach("I13", s.line, "", nil, "%d file descriptors, agreed are %d", s.FDs, r.MaxFDs)
		}
		if r := j.rules; r.MaxConns > 0 && s.Conns > r.MaxConns {
			j.found.breach("I13", s.line, "", nil, "%d connections, agreed are %d", s.Conns, r.MaxConns)
		}
	}
	overload := j.during(Overload)
	for _, s := range j.order {
		for _, p := range s.posts {
			if !overload.touch(p.at, p.at) {
				continue
			}
			j.found.checked("I13", 1)
			switch p.code {
			case 0, 202, 429, 503:
			default:
				j.found.breach("I13", p.line, s.id, nil, "answered %d under overload", p.code)
			}
		}
	}
}

// owners judges that epochs grow and that no process acknowledges what was
// sent after the next one had begun.
func (j *judge) owners() {
	j.found.checked("I12", len(j.incarnations))
	for i := range j.incarnations {
		if i == 0 {
			continue
		}
		before, now := j.incarnations[i-1], j.incarnations[i]
		if now.n <= before.n {
			j.found.breach("I12", now.line, "", nil, "incarnation %d follows %d", now.n, before.n)
		} else if now.epoch != 0 && now.epoch <= before.epoch && (now.epoch < before.epoch || !j.traceless(before.at, now.at)) {
			j.found.breach("I12", now.line, "", nil, "epoch %d follows %d", now.epoch, before.epoch)
		}
	}
	var recoveries []time.Duration
	next := 0 // the first incarnation that began after the answer
	answered := false
	for _, a := range j.acks {
		for next < len(j.incarnations) && j.incarnations[next].at <= a.at {
			next++
			answered = false
		}
		if next == 0 {
			continue
		}
		owner := j.incarnations[next-1]
		if !answered && a.post.at >= owner.at {
			answered = true
			recoveries = append(recoveries, a.at-owner.at)
		}
		if a.post.by != 0 && a.post.at > owner.at && a.post.by < owner.n {
			j.found.breach("I12", a.line, a.post.sent.id, nil, "acknowledged by incarnation %d after %d had begun", a.post.by, owner.n)
		}
	}
	j.figures.Recovery = spread(recoveries)
}

// traceless reports whether a process that was started then may have left no
// trace of itself: the disk was full, and it acknowledged nothing.
func (j *judge) traceless(from, to time.Duration) bool {
	return j.during(DiskFull).touch(from, from) && !slices.ContainsFunc(j.acks, func(a ack) bool { return a.at >= from && a.at < to })
}

// syncErrors judges that a log which could not sync acknowledges nothing that
// is sent to it before it is opened again.
func (j *judge) syncErrors() {
	for _, w := range j.windows {
		if w.kind != SyncError {
			continue
		}
		j.found.checked("I10", 1)
		reopened := forever
		for _, i := range j.incarnations {
			if i.at > w.from {
				reopened = i.at
				break
			}
		}
		for _, a := range j.acks {
			if a.post.at > w.from && a.at < reopened { // later it was the next process that answered
				j.figures.AcksAfterSyncError++
				j.found.breach("I10", a.line, a.post.sent.id, nil, "answered 202 after the failed sync in line %d", w.line)
			}
		}
	}
}

// sum completes the figures.
func (j *judge) sum() {
	if j.figures.Delivered > 0 {
		j.figures.DupRatio = float64(j.figures.Duplicates) / float64(j.figures.Delivered)
	}
	for _, e := range j.ends {
		if e.kind == Stop {
			j.figures.Stops++
		} else {
			j.figures.Crashes++
		}
		if n := j.repeats[e]; n > j.figures.MostPerCrash {
			j.figures.MostPerCrash, j.figures.AtRisk = n, j.risks[e]
		}
	}
}
