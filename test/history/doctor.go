package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// Ailment is one way in which a broker could break its promise, as it would
// show in a history.
type Ailment struct {
	Name      string
	Invariant string // the one that must notice, and no other
	spoil     func(*patient) bool
}

// Doctor gives a good history of one part an ailment, at a random place, and
// returns the bad one. It is an error if the history has no place for it, such
// as no dead letter that could be missing.
func Doctor(good io.Reader, a Ailment, rng *rand.Rand) ([]byte, error) {
	text, err := io.ReadAll(good)
	if err != nil {
		return nil, err
	}
	f := newFacts()
	if err := f.read(bytes.NewReader(text)); err != nil {
		return nil, fmt.Errorf("doctor: line %d: %w", f.line, err)
	}
	f.finish()
	p := &patient{rng: rng, judge: &judge{facts: f}}
	if n := len(f.incarnations); n > 0 {
		p.began = f.incarnations[n-1].at
	}
	for text := range bytes.Lines(text) {
		var l Line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, err
		}
		p.lines = append(p.lines, l)
		p.n = max(p.n, l.N)
	}
	if !a.spoil(p) {
		return nil, errors.New("doctor: no place for: " + a.Name)
	}
	slices.SortStableFunc(p.lines, func(a, b Line) int { return cmp.Compare(a.T, b.T) })
	var bad bytes.Buffer
	for _, l := range p.lines {
		text, err := json.Marshal(&l)
		if err != nil {
			return nil, err
		}
		bad.Write(append(text, '\n'))
	}
	return bad.Bytes(), nil
}

// Ailments are all that the doctor can do.
func Ailments() []Ailment {
	return []Ailment{
		{"an acknowledged event is never delivered", "I1", (*patient).drop},
		{"an event is delivered that nobody sent", "I2", (*patient).invent},
		{"the data of an event is altered", "I3", (*patient).alterData},
		{"an attribute of an event is altered", "I3", (*patient).alterAttribute},
		{"an attribute is added", "I3", (*patient).addAttribute},
		{"a refused event is delivered", "I4", (*patient).deliverRefused},
		{"an event is delivered to a trigger whose filter says no", "I5", (*patient).deliverUnwanted},
		{"an event is delivered again after it was taken", "I6", (*patient).deliverTwice},
		{"an attempt is made too early", "I7", (*patient).retryEarly},
		{"an attempt is made too many", "I7", (*patient).retryOnceMore},
		{"a dead letter is lost", "I7", (*patient).loseDeadLetter},
		{"an event is delivered, and dead too", "I7", (*patient).killDelivered},
		{"an event is given up too early", "I7", (*patient).giveUpEarly},
		{"an event overtakes another of its key", "I8", (*patient).overtake},
		{"an event is delivered hours after all was well", "I9", (*patient).deliverLate},
		{"a failed sync is followed by an acknowledgement", "I10", (*patient).acknowledgeAfterSyncError},
		{"a damage is not reported", "I11", (*patient).damageSilently},
		{"an epoch goes back", "I12", (*patient).turnEpochBack},
		{"a process takes more memory than it may", "I13", (*patient).grow},
		{"a delivery is counted twice", "I14", (*patient).countTwice},
		{"a dead letter is not counted", "I14", (*patient).countNoDead},
		{"something is pending that was delivered", "I14", (*patient).countPending},
	}
}

// patient is a history under the doctor's hands: what it says, and its lines.
type patient struct {
	*judge
	rng   *rand.Rand
	lines []Line
	n     int64
}

// case of a patient: a pair, its event and its trigger.
type illCase struct {
	s *sent
	t *trigger
	p *pair
}

// pick finds a random pair, also one that nothing came of, that fits.
func (p *patient) pick(fits func(illCase) bool) (illCase, bool) {
	events := slices.Clone(p.order)
	p.rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for _, s := range events {
		b := p.brokers[s.broker]
		if b == nil || len(s.posts) != 1 {
			continue
		}
		for _, i := range p.rng.Perm(len(b.triggers)) {
			t := b.triggers[i]
			of := p.pairs[pairKey{t, s.id}]
			if of == nil {
				of = new(pair)
			}
			if c := (illCase{s, t, of}); fits(c) {
				return c, true
			}
		}
	}
	return illCase{}, false
}

// owed is a pair that must have an end.
func (p *patient) owed(c illCase) bool { return p.wanted(c.s, c.t) == must }

// delivered is a pair that was taken at its only attempt, far from any crash.
func (p *patient) delivered(c illCase) bool {
	if len(c.p.attempts) != 1 || c.p.dead != nil || !p.owed(c) {
		return false
	}
	a := &c.p.attempts[0]
	return a.ended != forever && good(a.answer) && p.surelyHeard(c.t, a) && p.endOf(a.at, a.ended) == nil
}

// died is a pair that is dead after all its attempts, far from any crash.
func (p *patient) died(c illCase) bool {
	if c.p.dead == nil || c.p.letters != 1 || !p.owed(c) || !p.exhausted(c.t, c.p) {
		return false
	}
	return !slices.ContainsFunc(c.p.attempts, func(a attempt) bool {
		return a.ended == forever || good(a.answer) || p.endOf(a.at, p.latest(c.t, &a)) != nil || !p.surelyHeard(c.t, &a)
	})
}

// remove takes out all lines of a pair that fit.
func (p *patient) remove(c illCase, fits func(*Line) bool) {
	p.lines = slices.DeleteFunc(p.lines, func(l Line) bool { return l.ID == c.s.id && l.Trigger == c.t.name && fits(&l) })
}

// find is the first line of a pair that does so.
func (p *patient) find(c illCase, do string) *Line {
	i := slices.IndexFunc(p.lines, func(l Line) bool { return l.ID == c.s.id && l.Trigger == c.t.name && l.Do == do })
	if i < 0 {
		return nil
	}
	return &p.lines[i]
}

// count changes a trigger's final counters as a broker with the ailment would.
func (p *patient) count(t *trigger, change func(*Final)) bool {
	for i := range p.lines {
		if p.lines[i].Do == doFinal && p.lines[i].Trigger == t.name {
			change(p.lines[i].Final)
			return true
		}
	}
	return false
}

// deliver adds an attempt that is answered with a code.
func (p *patient) deliver(c illCase, at time.Duration, code int) {
	send := p.lines[slices.IndexFunc(p.lines, func(l Line) bool { return l.Do == doSend && l.ID == c.s.id })]
	p.n++
	p.lines = append(p.lines,
		Line{T: at, Do: doReceipt, N: p.n, ID: c.s.id, Trigger: c.t.name, Attrs: send.Attrs, SHA: send.SHA},
		Line{T: at, Do: doSubscriber, N: p.n, ID: c.s.id, Trigger: c.t.name, Answer: &Answer{Code: code}})
	if code/100 == 2 && at >= p.began {
		p.count(c.t, func(f *Final) { f.Delivered++ })
	}
}
