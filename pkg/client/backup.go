package client

import (
	"context"
	"io"
	"net/http"
	"strconv"
)

// Backup asks for an archive of what the broker has on disk, at most so many
// bytes a second; 0 is as fast as it goes. When it returns the cut is made:
// what was acknowledged before the call is in the archive. The caller closes
// the stream, which is size bytes long, and verifies what comes out of it.
// The stream ends early with io.ErrUnexpectedEOF where it is cut.
func (c *Client) Backup(ctx context.Context, rate int64) (archive io.ReadCloser, size int64, err error) {
	req, err := c.request(ctx, http.MethodGet, values("rate", strconv.FormatInt(rate, 10)), nil, "backup")
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/x-tar, application/json")
	resp, err := c.send(req)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}
