package history

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
)

const forever = time.Duration(math.MaxInt64)

// facts are the lines of a history, joined. Times count from its first line.
type facts struct {
	rules   Rules
	origin  time.Time     // of the first begin line
	offset  time.Duration // of the part that is being read
	line    int           // being read
	now     time.Duration // of that line
	part    int
	lastAct time.Duration // the last that somebody outside did: answer, change

	sends    map[string]*sent
	posts    map[int64]*post // of this part, by N, until answered
	order    []*sent
	triggers map[string]*trigger
	brokers  map[string]*broker
	pairs    map[pairKey]*pair
	open     map[int64]place // receipts of this part, by N, until answered
	strange  []stranger      // receipts and dead letters of what nobody sent

	ends         []*ending
	windows      []*window
	deaf         spans             // the broker may not have heard
	store        spans             // the broker may not have stored
	faults       map[int64]*window // of this part, by N, until healed
	incarnations []incarnation
	detected     map[string]bool
	samples      []sampled
	lateness     []late
	finals       map[string]final
	gaps         map[string]uint64
	backups      map[string]*window
	unread       map[int64]*window // backups of this part, by N
	later        map[string]bool   // ids sent after the backup that was restored
	restored     int               // the part that began with a restored backup, 0 for none
	acks         []ack
}

type (
	// sent is an event that somebody posted, perhaps more than once.
	sent struct {
		id     string
		broker string
		event  event.Event // attributes alone
		sha    [32]byte
		posts  []*post
		line   int
		part   int
	}
	post struct {
		sent     *sent
		at       time.Duration
		answered time.Duration // forever: never
		code     int
		by       int64
		stored   string // the event's own id, where the answer had it
		line     int
	}
	pairKey struct {
		trigger *trigger
		id      string
	}
	// pair is an event and a trigger: what the promise is about.
	pair struct {
		attempts []attempt
		dead     *death
		letters  int // that the broker lists
	}
	attempt struct {
		at      time.Duration
		ended   time.Duration // answered; forever: never
		answer  Answer
		corrupt string // how the event differs from the one sent
		line    int
		part    int
	}
	death struct {
		Dead
		at   time.Duration
		line int
	}
	place struct {
		pair *pair
		n    int
	}
	stranger struct {
		id, trigger, what string
		line              int
	}
	// ending is the end of a process and the start of the next.
	ending struct {
		kind  Kind
		at    time.Duration // it was told to end
		next  time.Duration // the next was started; forever: never
		from  time.Duration // attempts that ended later may be forgotten
		until time.Duration // and began before
		line  int
	}
	// window is a fault, or a backup, with its beginning and end.
	window struct {
		kind     Kind
		what     string
		from, to time.Duration // to forever: not healed
		line     int
	}
	incarnation struct {
		n     int64
		epoch uint64
		at    time.Duration
		line  int
	}
	sampled struct {
		Sample
		line int
	}
	// late is a stretch of time by which the machine was late, and its end.
	late struct {
		at, by time.Duration
	}
	final struct {
		Final
		at   time.Duration
		line int
	}
	// ack is a 202 in the order of the answers.
	ack struct {
		post *post
		at   time.Duration
		line int
	}
)

func newFacts() *facts {
	return &facts{
		sends: make(map[string]*sent), triggers: make(map[string]*trigger), brokers: make(map[string]*broker),
		pairs: make(map[pairKey]*pair), detected: make(map[string]bool), finals: make(map[string]final),
		gaps: make(map[string]uint64), backups: make(map[string]*window), later: make(map[string]bool),
	}
}

// add takes in one line.
func (f *facts) add(l *Line) error {
	if (l.Do == doBegin) != (f.posts == nil) {
		return errors.New("want one begin line, the first of each file")
	}
	if l.Do != doBegin {
		f.now = l.T + f.offset
	}
	switch l.Do {
	case doBegin:
	case doRoutes, doRouted, doCancelled:
		return f.addRoutes(l)
	case doSend, doAnswer:
		return f.addSend(l)
	case doReceipt, doSubscriber, doDead:
		return f.addReceipt(l)
	default:
		return f.addFault(l)
	}
	if l.Rules == nil || l.At == nil {
		return errors.New("begin line without rules or wall clock")
	}
	if f.part++; f.part == 1 {
		f.origin = *l.At
	}
	f.rules, f.offset = *l.Rules, max(l.At.Sub(f.origin), f.now)
	f.now = f.offset
	f.posts, f.open, f.faults, f.unread = make(map[int64]*post), make(map[int64]place), make(map[int64]*window), make(map[int64]*window)
	return nil
}

// endPart forgets what joins the lines of one file.
func (f *facts) endPart() { f.posts, f.open, f.faults, f.unread = nil, nil, nil, nil }

func (f *facts) addSend(l *Line) error {
	if l.Do == doAnswer {
		p := f.posts[l.N]
		if p == nil || l.Answer == nil {
			return fmt.Errorf("answer %d belongs to no send", l.N)
		}
		delete(f.posts, l.N)
		f.lastAct = f.now
		p.stored = l.Answer.Stored
		if p.code, p.by = l.Answer.Code, l.Answer.By; p.code != 0 {
			p.answered = f.now
		}
		if p.code == 202 {
			f.acks = append(f.acks, ack{post: p, at: f.now, line: f.line})
		}
		return nil
	}
	s := f.sends[l.ID]
	if s == nil {
		e, err := attributes(l.Attrs)
		if err != nil {
			return err
		}
		s = &sent{id: l.ID, broker: l.Broker, event: e, line: f.line, part: f.part}
		if n, err := hex.Decode(s.sha[:], []byte(l.SHA)); err != nil || n != len(s.sha) {
			return fmt.Errorf("sha %q is no SHA-256", l.SHA)
		}
		f.sends[l.ID] = s
		f.order = append(f.order, s)
	}
	p := &post{sent: s, at: f.now, answered: forever, line: f.line}
	s.posts = append(s.posts, p)
	f.posts[l.N] = p
	return nil
}

// attributes is an event that filters can look at.
func attributes(attrs map[string]string) (event.Event, error) {
	var b event.Builder
	for name, value := range attrs {
		b.Set(name, value)
	}
	return b.Build()
}

func (f *facts) addReceipt(l *Line) error {
	if l.Do == doSubscriber {
		at, ok := f.open[l.N]
		if !ok || l.Answer == nil {
			return fmt.Errorf("subscriber's answer %d belongs to no receipt", l.N)
		}
		delete(f.open, l.N)
		if at.pair != nil {
			a := &at.pair.attempts[at.n]
			a.ended, a.answer = f.now, *l.Answer
		}
		return nil
	}
	s := f.sends[l.ID]
	if s == nil {
		f.strange = append(f.strange, stranger{id: l.ID, trigger: l.Trigger, what: l.Do, line: f.line})
		if l.Do == doReceipt {
			f.open[l.N] = place{}
		}
		return nil
	}
	key := pairKey{f.trigger(l.Trigger), l.ID}
	p := f.pairs[key]
	if p == nil {
		p = new(pair)
		f.pairs[key] = p
	}
	if l.Do == doReceipt {
		f.open[l.N] = place{p, len(p.attempts)}
		p.attempts = append(p.attempts, attempt{at: f.now, ended: forever, corrupt: f.differs(s, l), line: f.line, part: f.part})
		return nil
	}
	if l.Dead == nil {
		return errors.New("dead line without a dead letter")
	}
	if !l.Dead.Sink {
		p.letters++
	}
	if p.dead == nil || p.dead.Sink { // what the broker lists says more
		p.dead = &death{Dead: *l.Dead, at: f.now, line: f.line}
	}
	return nil
}

// differs says how what came differs from what was sent, "" for not at all. A
// broker may add the time of arrival, what a reply answers, and nothing else.
func (f *facts) differs(s *sent, l *Line) string {
	if l.SHA != hex.EncodeToString(s.sha[:]) {
		return "its data is not what was sent"
	}
	n := 0
	for name, value := range s.event.Attributes() {
		got, ok := l.Attrs[name]
		if !ok && name == event.ExtTTL {
			continue // hidden from subscribers
		}
		if n++; !ok {
			return fmt.Sprintf("attribute %s is missing", name)
		}
		if name != event.ExtArrivalTime && got != value.Text {
			return fmt.Sprintf("attribute %s is %q, sent was %q", name, got, value.Text)
		}
	}
	if _, stamped := l.Attrs[event.ExtArrivalTime]; stamped {
		if _, sent := s.event.Attribute(event.ExtArrivalTime); !sent {
			n++
		}
	}
	for _, name := range []string{event.ExtCausation, event.ExtCorrelation} { // of a reply
		if _, named := l.Attrs[name]; named && f.sends[l.Attrs[name]] != nil {
			if _, sent := s.event.Attribute(name); !sent {
				n++
			}
		}
	}
	if n != len(l.Attrs) {
		return "it has attributes that were not sent"
	}
	return ""
}
