package http1

import "bytes"

// Response is the head of an answer. It may be used for one after another.
type Response struct {
	Status int // 100 to 999
	Minor  int // of the version: HTTP/1.Minor

	fields

	// Close: the connection ends after the answer.
	Close bool

	next int // see Head
}

// ParseResponse reads the head at the beginning of b and returns its length.
// That is 0, without an error, where the head is not complete: the same
// Response then takes b with more bytes behind. The error is an *Error, whose
// status means nothing here.
//
// It takes what any server of today sends. What it refuses a more patient
// reader may understand; nothing of b is lost.
func ParseResponse(b []byte, r *Response) (n int, err error) {
	n, r.next, err = Head(b, r.next)
	if n == 0 || err != nil {
		return 0, err
	}
	r.next = 0
	r.reset()
	end := bytes.IndexByte(b, '\n')
	if err := r.line(b[:end-1]); err != nil {
		return 0, err
	}
	if err := r.parse(b[end+1 : n]); err != nil {
		return 0, err
	}
	switch {
	case r.Chunked && r.Minor == 0:
		return 0, errOldChunks
	case r.Chunked && r.ContentLength >= 0:
		return 0, errFraming
	}
	r.Close = r.closes || r.Minor == 0 && !r.keeps
	return n, nil
}

// Restart makes r ready for other bytes after a head that was not complete.
func (r *Response) Restart() { r.next = 0 }

// line reads the status line (RFC 9112, 4). Its reason phrase is nobody's.
func (r *Response) line(line []byte) error {
	const before = len("HTTP/1.1 ")
	if len(line) < before+3 || line[before-1] != ' ' || len(line) > before+3 && line[before+3] != ' ' {
		return errStatusLine
	}
	var ok bool
	if r.Minor, ok = version(line[:before-1]); !ok {
		return errStatusLine
	}
	status, ok := number(line[before : before+3])
	if !ok || status < 100 || !text(line[before+3:]) {
		return errStatusLine
	}
	r.Status = int(status)
	return nil
}
