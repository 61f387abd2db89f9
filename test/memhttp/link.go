package memhttp

import (
	"context"
	"net"
	"sync"
	"time"
)

// Link is what lies between two hosts. Its settings hold for both directions
// and for the connections that are open as for those to come.
type Link struct {
	mu     sync.Mutex
	delay  time.Duration
	rate   int           // bytes a second, 0 for any number
	healed chan struct{} // closed when a cut ends; nil while there is none
	conns  map[*Conn]struct{}
}

// Link is the link between two hosts, in either order, ports left out.
func (n *Net) Link(a, b string) *Link {
	key := [2]string{hostOf(a), hostOf(b)}
	if key[0] > key[1] {
		key[0], key[1] = key[1], key[0]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.links[key]
	if l == nil {
		l = &Link{conns: map[*Conn]struct{}{}}
		n.links[key] = l
	}
	return l
}

func hostOf(name string) string {
	if host, _, err := net.SplitHostPort(name); err == nil {
		return host
	}
	return name
}

// Delay is how long bytes are on their way from now on; a connection takes
// twice that to be made.
func (l *Link) Delay(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// Drip lets so many bytes a second through in each direction of each
// connection; 0 is any number. What is under way stays as slow as it was.
func (l *Link) Drip(bytesPerSecond int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = bytesPerSecond
}

// Cut lets nothing through until Heal: what is sent, ends of connections
// included, waits as if TCP sent it again and again, and nobody is told.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.healed == nil {
		l.healed = make(chan struct{})
	}
}

// Heal ends a cut.
func (l *Link) Heal() {
	l.mu.Lock()
	if l.healed != nil {
		close(l.healed)
		l.healed = nil
	}
	conns := l.list()
	l.mu.Unlock()
	for _, c := range conns {
		c.in.resume()
		c.out.resume()
	}
}

// Reset ends all connections over the link hard.
func (l *Link) Reset() {
	l.mu.Lock()
	conns := l.list()
	l.mu.Unlock()
	for _, c := range conns {
		c.Reset()
	}
}

// list is the connections; the caller holds the mutex.
func (l *Link) list() []*Conn {
	conns := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	return conns
}

func (l *Link) add(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
}

func (l *Link) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *Link) isCut() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.healed != nil
}

// settings are what the link does to bytes just now.
func (l *Link) settings() (delay time.Duration, rate int, cut bool) {
	if l == nil {
		return 0, 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delay, l.rate, l.healed != nil
}

// pass waits as a first packet and its answer would.
func (l *Link) pass(ctx context.Context) error {
	for {
		l.mu.Lock()
		delay, healed := l.delay, l.healed
		l.mu.Unlock()
		if healed == nil && delay == 0 {
			return nil
		}
		if healed == nil {
			t := time.NewTimer(2 * delay)
			defer t.Stop()
			select {
			case <-t.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case <-healed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// transit is the part of a stream that the writer has sent and the reader
// cannot see yet. It is guarded by the stream's mutex.
type transit struct {
	link     *Link
	parcels  []parcel
	underway int       // bytes in parcels
	free     time.Time // when a slow link has sent what it was given
	arrival  *time.Timer
}

// parcel is bytes, or the end of the stream, on their way.
type parcel struct {
	data []byte
	end  error
	at   time.Time
}

// send puts bytes or the end on their way. The stream's mutex is held.
func (s *stream) send(data []byte, end error) {
	delay, rate, cut := s.link.settings()
	if delay == 0 && rate == 0 && !cut && len(s.parcels) == 0 {
		s.arrive(parcel{data: data, end: end})
		return
	}
	if now := time.Now(); s.free.Before(now) {
		s.free = now
	}
	idle := len(s.parcels) == 0
	for len(data) > 0 || end != nil {
		p := parcel{data: data, end: end}
		if rate > 0 && len(data) > 0 {
			n := min(rate, len(data))
			p = parcel{data: data[:n]}
			s.free = s.free.Add(time.Second * time.Duration(n) / time.Duration(rate))
		}
		p.at = s.free.Add(delay)
		if n := len(s.parcels); n > 0 && p.at.Before(s.parcels[n-1].at) {
			p.at = s.parcels[n-1].at // nothing overtakes
		}
		data = data[len(p.data):]
		if p.end != nil {
			end = nil
		}
		p.data = append([]byte(nil), p.data...)
		s.underway += len(p.data)
		s.parcels = append(s.parcels, p)
	}
	if idle {
		s.expect()
	}
}

// arrive hands bytes or the end to the reader. The stream's mutex is held.
func (s *stream) arrive(p parcel) {
	if s.gone {
		return
	}
	s.buf = append(s.buf, p.data...)
	if p.end != nil && s.ended == nil {
		s.ended = p.end
	}
	s.changed.Broadcast()
}

// expect sets the timer for the first parcel. The stream's mutex is held.
func (s *stream) expect() {
	if len(s.parcels) == 0 || s.link.isCut() {
		return // Heal calls resume
	}
	left := max(0, time.Until(s.parcels[0].at))
	if s.arrival == nil {
		s.arrival = time.AfterFunc(left, s.resume)
		return
	}
	s.arrival.Reset(left)
}

// resume lets in what is due, unless the link is cut.
func (s *stream) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link.isCut() {
		return
	}
	now := time.Now()
	for len(s.parcels) > 0 && !s.parcels[0].at.After(now) {
		p := s.parcels[0]
		s.parcels = s.parcels[1:]
		s.underway -= len(p.data)
		s.arrive(p)
	}
	s.changed.Broadcast() // there may be room for the writer, or a peer that is gone
	s.expect()
}

// forget drops what is on its way. The stream's mutex is held.
func (s *stream) forget() {
	s.parcels, s.underway = nil, 0
	if s.arrival != nil {
		s.arrival.Stop()
	}
}
