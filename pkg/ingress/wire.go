package ingress

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// answer writes the reply. It reports whether another request may follow.
func (c *conn) answer(last bool) bool {
	b := &c.content
	// A sender that was not told to go on may or may not do so.
	last = last || !b.continued || b.left > maxDiscard
	now := time.Now()
	if now.After(c.answerBy) {
		return false
	}
	if slack := c.server.answerTimeout / idleSlack; c.writeBy.Before(c.answerBy) || c.writeBy.Sub(c.answerBy) > slack {
		c.writeBy = c.answerBy.Add(slack)
		_ = c.peer.SetWriteDeadline(c.writeBy)
	}
	c.out = c.reply.appendTo(c.out[:0], c, c.server.clock.at(now), last)
	c.reply.reset()
	if _, err := c.peer.Write(c.out); err != nil {
		return false
	}
	if cap(c.out) > firstRead {
		c.out = nil
	}
	if last {
		if b.left > 0 || c.at < c.end || c.request.method == "" {
			linger(c.peer)
		}
		return false
	}
	return c.discard()
}

// appendTo writes the reply in the form of HTTP/1.1.
func (a *reply) appendTo(b []byte, c *conn, date string, last bool) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(a.code), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(a.code)...)
	b = append(b, "\r\n"...)
	for i := range a.fields {
		b = appendField(b, a.fields[i].Name, a.fields[i].Value)
	}
	b = appendField(b, "Date", date)
	switch {
	case last:
		b = appendField(b, "Connection", "close")
	case c.head.KeepsOld():
		b = appendField(b, "Connection", "keep-alive")
	}
	length := 0
	if a.reason != "" {
		length = len(a.reason) + len("\n")
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	b = append(b, "\r\n\r\n"...)
	if length > 0 && c.request.method != http.MethodHead {
		b = append(append(b, a.reason...), '\n')
	}
	return b
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// clock is the Date of answers, made once a second.
type clock struct{ now atomic.Pointer[second] }

type second struct {
	unix int64
	text string
}

func (c *clock) at(t time.Time) string {
	now := c.now.Load()
	if now == nil || now.unix != t.Unix() {
		now = &second{t.Unix(), t.UTC().Format(http.TimeFormat)}
		c.now.Store(now)
	}
	return now.text
}
