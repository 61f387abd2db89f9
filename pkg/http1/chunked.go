package http1

import "bytes"

// maxChunkLine bounds the line before a chunk, extensions included, and each
// line of the trailer; maxTrailer all of that together.
const (
	maxChunkLine = 1 << 10
	maxTrailer   = 8 << 10
)

// Chunked takes a body out of its chunks (RFC 9112, 7.1). The zero value is at
// the beginning of a body. Extensions and trailer are passed over.
type Chunked struct {
	state   chunkState
	left    int64 // of the chunk under way
	trailer int   // bytes
}

type chunkState uint8

const (
	atSize chunkState = iota
	inData
	afterData
	inTrailer
	atEnd
)

// Next takes what comes next from the beginning of b: data is a piece of the
// body, used is how much of b is done with, both 0 where more bytes are needed.
// done is true once the body and its trailer are over.
func (c *Chunked) Next(b []byte) (data []byte, used int, done bool, err error) {
	switch c.state {
	case atSize:
		line, ok, err := chunkLine(b)
		if !ok || err != nil {
			return nil, 0, false, err
		}
		if c.left, ok = chunkSize(line); !ok {
			return nil, 0, false, errChunk
		}
		c.state = inData
		if c.left == 0 {
			c.state = inTrailer
		}
		return nil, len(line) + 2, false, nil

	case inData:
		n := int(min(int64(len(b)), c.left))
		if c.left -= int64(n); c.left == 0 {
			c.state = afterData
		}
		return b[:n], n, false, nil

	case afterData:
		if len(b) < 2 {
			return nil, 0, false, nil
		}
		if b[0] != '\r' || b[1] != '\n' {
			return nil, 0, false, errChunk
		}
		c.state = atSize
		return nil, 2, false, nil

	case inTrailer:
		line, ok, err := chunkLine(b)
		if !ok || err != nil {
			return nil, 0, false, err
		}
		if c.trailer += len(line) + 2; c.trailer > maxTrailer {
			return nil, 0, false, errChunk
		}
		if len(line) == 0 {
			c.state = atEnd
			return nil, 2, true, nil
		}
		if colon := bytes.IndexByte(line, ':'); colon <= 0 || !token(line[:colon]) || !text(line[colon+1:]) {
			return nil, 0, false, errChunk
		}
		return nil, len(line) + 2, false, nil
	}
	return nil, 0, true, nil
}

// chunkLine is the line at the beginning of b, without its CRLF; false where
// it has not come to its end.
func chunkLine(b []byte) (line []byte, ok bool, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxChunkLine)], '\n')
	switch {
	case end < 0 && len(b) >= maxChunkLine, end == 0, end > 0 && b[end-1] != '\r':
		return nil, false, errChunk
	case end < 0:
		return nil, false, nil
	}
	return b[:end-1], true, nil
}

// chunkSize reads the size and looks at what follows it.
func chunkSize(line []byte) (n int64, ok bool) {
	i := 0
	for ; i < len(line); i++ {
		digit := hex(line[i])
		if digit < 0 {
			break
		}
		if i == 15 {
			return 0, false
		}
		n = n<<4 | int64(digit)
	}
	rest := line[i:]
	return n, i > 0 && (len(rest) == 0 || rest[0] == ';' && text(rest))
}

func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
