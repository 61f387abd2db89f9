package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrTruncated says that an archive ends before its end: a backup or a copy
// that was cut short.
var ErrTruncated = errors.New("the archive is not whole: it ends early, so the backup or a copy of it was cut short")

// AlteredError says that an archive is not the one that was written.
type AlteredError struct {
	Offset int64 // about where
	Reason string
}

func (e *AlteredError) Error() string {
	return fmt.Sprintf("the archive is damaged near byte %d: %s; take another copy of it", e.Offset, e.Reason)
}

// FailedError says that the backup ended with an error, and which.
type FailedError struct{ Reason string }

func (e *FailedError) Error() string {
	return "the backup failed, so the archive is not whole: " + e.Reason
}

// Read reads an archive to its end and verifies every byte of it. take gets
// each file of Manifest.Contents; what it leaves unread is read for it, and
// its error ends the reading. It may be nil. What take has seen is worth
// nothing until Read returns without an error.
//
// Errors are *VersionError, ErrTruncated, *AlteredError, *FailedError, those
// of r and those of take. Memory is bounded by the manifest, at most 64 MiB.
func Read(r io.Reader, take func(m *Manifest, e Entry, content io.Reader) error) (*Manifest, error) {
	in := &inlet{r: r}
	m, text, err := readManifest(in)
	if err != nil {
		return nil, err
	}
	var sums strings.Builder
	sum := sha256.Sum256(text)
	sums.WriteString(sumLine(sum[:], manifestName))
	for _, e := range m.Contents {
		want, err := header(e.Name, e.Size, m.Created)
		if err != nil {
			return nil, fmt.Errorf("entry %.128q: %w", e.Name, err)
		}
		if err := in.header(want); err != nil {
			return nil, err
		}
		sum := sha256.New()
		content := io.TeeReader(&io.LimitedReader{R: in, N: e.Size}, sum)
		if take != nil {
			if err := take(m, e, content); err != nil {
				if in.err != nil { // what take made of it
					err = in.err
				}
				return nil, err
			}
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return nil, err
		}
		if err := in.pad(e.Size); err != nil {
			return nil, err
		}
		sums.WriteString(sumLine(sum.Sum(nil), e.Name))
	}
	return m, in.end(m, sums.String())
}

// readManifest reads the first entry, the only one that may say of itself
// how long it is.
func readManifest(in *inlet) (*Manifest, []byte, error) {
	first := make([]byte, block)
	if _, err := io.ReadFull(in, first); err != nil {
		return nil, nil, err
	}
	h, err := tar.NewReader(bytes.NewReader(first)).Next()
	if err != nil || h.Name != manifestName || h.Typeflag != tar.TypeReg || h.Size < 2 || h.Size > maxManifest {
		return nil, nil, errors.New("this is no archive of `penstock backup`")
	}
	text, err := io.ReadAll(io.LimitReader(in, h.Size))
	if err != nil {
		return nil, nil, err
	}
	m, err := parseManifest(text)
	if _, newer := errors.AsType[*VersionError](err); newer {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, in.altered(err.Error())
	}
	want, err := header(manifestName, h.Size, m.Created)
	if err != nil || !bytes.Equal(first, want) {
		return nil, nil, in.altered("the first header is not as it was written")
	}
	return m, text, in.pad(h.Size)
}

// inlet is where an archive comes from. That it ends early is an error.
type inlet struct {
	r   io.Reader
	at  int64
	err error
}

func (in *inlet) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.r.Read(p)
	in.at += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrTruncated
	}
	in.err = err
	return n, err
}

func (in *inlet) altered(reason string) error { return &AlteredError{in.at, reason} }

// header reads the header of the next entry, which must be the one wanted.
func (in *inlet) header(want []byte) error {
	got := make([]byte, block)
	if _, err := io.ReadFull(in, got); err != nil {
		return err
	}
	if bytes.Equal(got, want) {
		return nil
	}
	h, err := tar.NewReader(bytes.NewReader(got)).Next()
	if err == nil && h.Name == failureName && h.Size >= 0 && h.Size <= maxFailure {
		reason := make([]byte, h.Size)
		if _, err := io.ReadFull(in, reason); err != nil {
			return err
		}
		return &FailedError{string(reason)}
	}
	return in.altered("a header is not as it was written")
}

// pad reads the zeros that fill up an entry.
func (in *inlet) pad(size int64) error {
	return in.expect(make([]byte, (block-size%block)%block), "bytes between two entries are not zero")
}

func (in *inlet) expect(want []byte, otherwise string) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return in.altered(otherwise)
	}
	return nil
}

// end reads what follows the contents: the sums, and then nothing.
func (in *inlet) end(m *Manifest, sums string) error {
	want, err := header(sumsName, int64(len(sums)), m.Created)
	if err != nil {
		return err
	}
	if err := in.header(want); err != nil {
		return err
	}
	if err := in.expect([]byte(sums), "the checksums say that a file is not as it was written"); err != nil {
		return err
	}
	if err := in.pad(int64(len(sums))); err != nil {
		return err
	}
	if err := in.expect(make([]byte, 2*block), "it does not end with zeros"); err != nil {
		return err
	}
	switch n, err := io.ReadFull(in, make([]byte, 1)); {
	case n > 0:
		return in.altered("bytes follow its end")
	case !errors.Is(err, ErrTruncated):
		return err
	}
	return nil
}
