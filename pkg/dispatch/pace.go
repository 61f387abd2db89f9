package dispatch

import "time"

const (
	// ColdStart is how long a subscriber that scales from zero may refuse before
	// its refusals count as attempts, and how long one event is spared. Knative's
	// activator mostly holds requests, for as long as the revision allows (300 s),
	// and refuses where it has no room or no revision to wait for; pulling an
	// image and starting a node are matters of minutes. Twice as long (Knative
	// gives a revision up after 10 minutes) would double what an outage costs
	// before it shows in dead letters. The retries come on top.
	ColdStart = 5 * time.Minute

	// firstWindow is how many attempts a paced lane has in flight before it has
	// learnt what its subscriber takes: enough for an autoscaler to see that
	// there is work, few enough to be refused.
	firstWindow = 8

	// restful is after how long without an answer the subscriber may have scaled
	// down: Knative's stable window is as long. The lane then feels its way anew.
	restful = time.Minute

	// firstPause and maxPause bound how long a paced lane keeps still after a
	// refusal: it doubles with each round that is refused as a whole.
	firstPause = 100 * time.Millisecond
	maxPause   = 4 * time.Second

	// eagerRestful is the same for a subscriber that does not: what it refused
	// half a minute ago it may take now.
	eagerRestful = 30 * time.Second

	pauseJitter = 0.2

	// resumedWindow is the window after the circuit was open (see circuit): a subscriber
	// that has just come up is not met with all that has gathered.
	resumedWindow = 8

	// maxPatience bounds after how many full windows of good answers a lane
	// tries once more what was refused before.
	maxPatience = 64
)

// pace decides how many attempts a lane has in flight by what its subscriber
// takes. There are two, of which the eager one is for all lanes whose
// subscriber does not scale from zero. A lane that is steady has none.
//
// An eager pace begins with the window as wide as it can be. A 429 or a 503
// halves it, once a round trip, and so do answers that come far later than they
// used to (see latency); each full window of good answers makes it wider by one.
// It never keeps the lane still: what was refused has its own wait.
//
// The other pace also decides whether a refusal counts. Its window begins small and grows by one with each good answer until the
// first refusal, and then by one with each full window of them. A refusal halves
// it, once a round trip; where nothing has been taken since the last one it
// falls to 1 and the lane keeps still for a while. Where the subscriber has
// refused before the window waits longer each time, so that one with a fixed
// concurrency is seldom refused.
//
// It is a value without clock or lock: the lane's mutex guards it, and whoever
// calls says what time it is.
type pace struct {
	eager     bool
	limit     int // the window's bound: the lane's concurrency
	window    int
	inflight  int    // attempts of the subscriber, not of the dead letter sink
	seq       uint64 // of the last attempt begun
	full      uint64 // attempts up to here were in flight when the window was full
	shrunk    uint64 // attempts up to here were begun before the window last shrank
	taken     int    // good answers since then
	credit    int    // good answers of a full window since the window last changed
	threshold int    // below it the window grows with each good answer
	ceiling   int    // where it was last refused; 0: nowhere yet
	patience  int    // full windows of good answers before it goes there again

	rounds   int       // refused in a row with nothing taken in between
	paused   time.Time // no attempt begins before
	answered time.Time // the last answer

	// coldSince is the first refusal after the last good answer, or after
	// ColdStart without any; zero for none.
	coldSince time.Time
	refusedAt time.Time

	latency latency // of an eager pace
}

// ticket is an attempt under way as the lane's pace and circuit know it.
type ticket struct {
	pace  *pace // nil: of a lane without one
	seq   uint64
	epoch int  // of the circuit
	probe bool // of a subscriber that is down
	last  bool // the last attempt of an event that an open circuit held
}

// refusal is what an answer tells of the subscriber's capacity.
type refusal uint8

const (
	noRefusal refusal = iota // says nothing about it: a 4xx, a 500, a timeout
	taken                    // a 2xx
	busy                     // 429, of an eager pace 503 too: too much; counts as an attempt
	cold                     // 502, 503, 504, no connection: is not there, or too much; spared
)

func newPace(limit int) *pace {
	p := &pace{limit: limit}
	p.forget()
	return p
}

// newEagerPace makes the pace of a lane whose subscriber is taken to be there.
func newEagerPace(limit int) *pace {
	p := &pace{limit: limit, eager: true}
	p.forget()
	return p
}

// forget begins anew: nothing is known of what the subscriber takes.
func (p *pace) forget() {
	p.window, p.threshold, p.ceiling, p.patience, p.credit = firstWindow, p.limit, 0, 1, 0
	if p.eager {
		p.window = p.limit
	}
}

// resume begins anew with a subscriber that has been down. Attempts under way
// tell nothing of the new window.
func (p *pace) resume() {
	p.forget()
	p.window, p.shrunk, p.taken, p.rounds = min(resumedWindow, p.limit), p.seq, 0, 0
	p.latency.restart()
}

// resize puts another concurrency in force.
func (p *pace) resize(limit int) {
	if p.threshold == p.limit || p.threshold > limit {
		p.threshold = limit
	}
	if p.eager && p.window >= p.limit {
		p.window = limit
	}
	p.limit = limit
}

// spent reports whether the subscriber has been refusing for ColdStart: from
// then on refusals count, and the lane goes on as one that is not paced.
func (p *pace) spent(now time.Time) bool {
	return !p.coldSince.IsZero() && now.Sub(p.coldSince) >= ColdStart
}

// size is the window in force.
func (p *pace) size(now time.Time) int {
	if p.spent(now) || p.eager && p.inflight == 0 && now.Sub(p.answered) >= eagerRestful {
		return p.limit
	}
	return min(p.window, p.limit)
}

// timeless reports whether neither room nor begin need to know the time, which
// costs as much as they do: an eager pace asks for it after a rest only.
func (p *pace) timeless() bool { return p.eager && p.inflight > 0 && p.coldSince.IsZero() }

// vacant is room without the time, where that needs none.
func (p *pace) vacant() (n int, ok bool) {
	if !p.timeless() {
		return 0, false
	}
	return max(0, min(p.window, p.limit)-p.inflight), true
}

// room is how many attempts may begin now.
func (p *pace) room(now time.Time) int {
	if p.eager {
		return max(0, p.size(now)-p.inflight)
	}
	if now.Before(p.paused) && !p.spent(now) {
		return 0
	}
	return max(0, p.size(now)-p.inflight)
}

// reopens is when there may be room without an answer; zero for never.
func (p *pace) reopens(now time.Time) time.Time {
	var at time.Time
	if now.Before(p.paused) {
		at = p.paused
	}
	if spent := p.coldSince.Add(ColdStart); !p.coldSince.IsZero() && now.Before(spent) && (at.IsZero() || spent.Before(at)) {
		at = spent
	}
	return at
}

// begin takes a place in the window.
func (p *pace) begin(now time.Time) ticket {
	long := restful
	if p.eager {
		long = eagerRestful
	}
	if p.inflight == 0 && p.coldSince.IsZero() && now.Sub(p.answered) >= long {
		p.forget()
	}
	p.inflight++
	p.seq++
	if p.inflight >= p.size(now) {
		p.full = p.seq
	}
	return ticket{pace: p, seq: p.seq}
}

// end gives the place back and learns from the answer. asked is what the
// subscriber asked for with Retry-After; jitter is a random number in [0, 1).
func (p *pace) end(t ticket, what refusal, now time.Time, asked time.Duration, jitter float64) {
	p.inflight--
	p.answered = now
	switch what {
	case taken:
		p.take(t, now)
	case busy, cold:
		if what == cold {
			if p.coldSince.IsZero() || now.Sub(p.refusedAt) >= ColdStart {
				p.coldSince = now
			}
			p.refusedAt = now
		}
		p.refuse(t, now, asked, jitter)
	}
}

func (p *pace) take(t ticket, now time.Time) {
	if p.spent(now) {
		p.forget() // the window was as wide as it can be, whatever is taken
		p.shrunk = p.seq
	}
	p.taken++
	p.rounds, p.paused, p.coldSince = 0, time.Time{}, time.Time{}
	if t.seq > p.full || t.seq <= p.shrunk && p.window > 1 || p.window >= p.limit {
		return // tells nothing of a wider window
	}
	p.credit++
	need := 1
	if p.window >= p.threshold {
		if need = p.window; p.window+1 == p.ceiling {
			need *= p.patience
		}
	}
	if p.credit < need {
		return
	}
	p.credit = 0
	if p.window++; p.ceiling > 0 && p.window > p.ceiling {
		p.ceiling, p.patience = 0, max(1, p.patience/2) // it takes more than it did
	}
}

func (p *pace) refuse(t ticket, now time.Time, asked time.Duration, jitter float64) {
	if t.seq > p.shrunk { // else the window has shrunk since: this one is old news
		p.shrunk, p.credit = p.seq, 0
		p.rounds++
		if p.taken == 0 && !p.eager {
			p.window = 1
		} else {
			if p.ceiling > 0 && p.window <= p.ceiling {
				p.patience = min(2*p.patience, maxPatience)
			}
			p.ceiling = max(p.window, 2) // 1 is always tried
			p.window = max(1, p.window/2)
			p.threshold = p.window
		}
		p.taken = 0
		if p.eager {
			return
		}
		pause := maxPause
		if doubled := p.rounds - 1; doubled < 16 {
			pause = min(firstPause<<doubled, maxPause)
		}
		p.paused = now.Add(pause + time.Duration(float64(pause)*pauseJitter*jitter))
	}
	if until := now.Add(asked); !p.eager && asked > 0 && until.After(p.paused) {
		p.paused = until
	}
}

// late looks at how long a good answer has taken, and narrows the window when
// the subscriber has become slow under what it is given.
func (p *pace) late(took time.Duration, now time.Time) {
	switch p.latency.take(took, p.full, now) {
	case rising:
		if narrow := max(1, p.window/2, p.limit/lateShare); narrow < p.window {
			p.window, p.threshold, p.ceiling, p.credit, p.shrunk = narrow, narrow, 0, 0, p.seq
			p.latency.narrowed()
		}
	case inVain:
		p.window, p.threshold, p.credit = p.limit, p.limit, 0
	}
}
