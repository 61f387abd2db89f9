package http1

import "bytes"

// Request is the head of a request. It may be used for one after another.
type Request struct {
	Method []byte
	Target []byte // as sent: a path, an absolute URI, or *
	Minor  int    // of the version: HTTP/1.Minor

	fields

	// Expects: the sender waits for a 100 before it sends the body.
	Expects bool
	// Close: the connection ends after the answer.
	Close bool
}

// KeepsOld reports whether the answer has to say that the connection stays:
// HTTP/1.0 closes it otherwise.
func (r *Request) KeepsOld() bool { return r.Minor == 0 && !r.Close }

// HasBody reports whether a body follows the head.
func (r *Request) HasBody() bool { return r.Chunked || r.ContentLength > 0 }

// Parse reads a whole head, as Head has found it. The error is an *Error.
func (r *Request) Parse(head []byte) error {
	r.reset()
	r.Expects, r.Close = false, false
	end := bytes.IndexByte(head, '\n')
	if end < 1 {
		return errRequestLine
	}
	if err := r.line(head[:end-1]); err != nil {
		return err
	}
	if err := r.parse(head[end+1:]); err != nil {
		return err
	}
	switch {
	case r.Chunked && r.Minor == 0:
		return errOldChunks
	case r.Chunked && r.ContentLength >= 0:
		return errFraming
	}
	r.Close = r.closes || r.Minor == 0 && !r.keeps
	return r.rest()
}

// line reads the request line (RFC 9112, 3).
func (r *Request) line(line []byte) error {
	a, b := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if a <= 0 || b <= a+1 {
		return errRequestLine
	}
	r.Method, r.Target = line[:a], line[a+1:b]
	if !token(r.Method) || !printable(r.Target) {
		return errRequestLine
	}
	var ok bool
	if r.Minor, ok = version(line[b+1:]); !ok {
		if bytes.HasPrefix(line[b+1:], []byte("HTTP/")) {
			return errVersion
		}
		return errRequestLine
	}
	return nil
}

// version reads HTTP/1.0 or HTTP/1.1.
func version(b []byte) (minor int, ok bool) {
	if string(b) == "HTTP/1.1" {
		return 1, true
	}
	return 0, string(b) == "HTTP/1.0"
}

// rest looks at the fields that concern requests alone.
func (r *Request) rest() error {
	hosts := 0
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case Is(f.Name, "host"):
			if hosts++; hosts > 1 || !host(f.Value) {
				return errHost
			}
		case Is(f.Name, "expect"):
			if !Is(f.Value, "100-continue") {
				return errExpectation
			}
			r.Expects = r.Minor == 1
		}
	}
	if hosts == 0 && r.Minor == 1 {
		return errHost
	}
	return nil
}

func host(b []byte) bool {
	for _, c := range b {
		if !hostByte[c] {
			return false
		}
	}
	return true
}
