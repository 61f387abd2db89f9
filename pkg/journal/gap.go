package journal

import "time"

// Gap is a time of which records are missing.
type Gap struct {
	From, To time.Time
	Records  uint64 // 0 where it is not known how many
	Cause    string // one line
}

// merge makes one gap of two. A gap that is zero becomes the other.
func (g *Gap) merge(o Gap) {
	if g.From.IsZero() {
		*g = o
		return
	}
	if o.From.Before(g.From) {
		g.From = o.From
	}
	if o.To.After(g.To) {
		g.To = o.To
	}
	g.Records += o.Records
}

// overlaps reports whether the gap touches a time; zero times are open.
func (g *Gap) overlaps(from, to time.Time) bool {
	return (from.IsZero() || !g.To.Before(from)) && (to.IsZero() || !g.From.After(to))
}
