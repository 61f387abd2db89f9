package deliver

import (
	"bufio"
	"errors"
	"io"

	"github.com/penstock-events/penstock/pkg/http1"
)

// maxHead bounds the header block of an answer, interim answers included.
const maxHead = 64 << 10

var errHeadTooLarge = errors.New("the header block of the answer is too large")

// input is what has come of an answer.
type input struct {
	buf  [4 << 10]byte // buf[r:w] has been read and not yet taken
	r, w int

	headLeft int64 // bytes of header block that may still come; negative: not counted
	heard    bool  // a byte of the answer has come
	ended    error // what the connection has answered instead of more
	lost     error // that, once Read has told of it

	parsed http1.Response
	chunks []byte        // a body taken out of its chunks
	slow   *bufio.Reader // over Read; made when it is first needed
}

func (in *input) begin() {
	in.r, in.w, in.headLeft = 0, 0, maxHead
	in.heard, in.ended, in.lost = false, nil, nil
}

// came counts bytes that have come.
func (in *input) came(n int) {
	in.heard = true
	if in.headLeft > 0 {
		in.headLeft -= int64(n)
	}
}

// receive reads from the connection, and counts while a header block is read.
func (x *exchange) receive(p []byte) (n int, err error) {
	switch {
	case x.ended != nil:
		return 0, x.ended
	case x.headLeft == 0:
		x.ended = errHeadTooLarge
		return 0, errHeadTooLarge
	case x.headLeft > 0 && int64(len(p)) > x.headLeft:
		p = p[:x.headLeft]
	}
	for again := true; again; again = n == 0 && x.resume(err) {
		n, err = x.cn.Conn.Read(p)
	}
	if n > 0 {
		x.came(n)
	}
	x.ended = err
	return n, err
}

// fill reads more into the buffer; false where there is no room or no more.
func (x *exchange) fill() bool {
	if x.w == len(x.buf) {
		return false
	}
	n, err := x.receive(x.buf[x.w:])
	x.w += n
	return n > 0 || err == nil
}

// Read is the answer as the standard library's reader sees it: from the
// beginning, what is in the buffer included.
func (x *exchange) Read(p []byte) (int, error) {
	if x.r < x.w {
		n := copy(p, x.buf[x.r:x.w])
		x.r += n
		return n, nil
	}
	n, err := x.receive(p)
	x.lost = err
	return n, err
}

// cause finds behind an error of the parser that of the connection: what it has
// when a line breaks off it takes for the line.
func (x *exchange) cause(err error) error {
	switch x.lost {
	case nil:
		return err
	case io.EOF:
		return io.ErrUnexpectedEOF
	}
	return x.lost
}
