package requestreply

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// folder is what one Secret's folder had when it was looked into.
type folder struct {
	version string // of a mounted Secret; "" where there is none to go by
	keys    keys
	trouble []string // files that are no keys, one line each
}

// maxTrouble bounds how many files of one Secret are named in the log.
const maxTrouble = 8

// dataLink is the link that kubelet replaces when a mounted Secret changes: it
// leads to the folder with one version of all its files.
const dataLink = "..data"

// folders lists the Secrets there are.
func (s *Store) folders(trouble *[]string) ([]string, error) {
	entries, err := os.ReadDir(s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if info, err := os.Stat(filepath.Join(s.o.Dir, e.Name())); err != nil || !info.IsDir() {
			continue
		}
		if len(names) == MaxSecrets {
			*trouble = append(*trouble, fmt.Sprintf("more than %d folders: those after %s are not read", MaxSecrets, names[MaxSecrets-1]))
			break
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// read looks into one Secret's folder. Where kubelet has mounted it, all files
// are of one version, and one that is known is not read again.
func (s *Store) read(secret string) (folder, error) {
	dir := filepath.Join(s.o.Dir, secret)
	f := folder{keys: make(keys)}
	if version, err := os.Readlink(filepath.Join(dir, dataLink)); err == nil {
		if known := s.seen[secret]; known.version == version {
			return known, nil
		}
		f.version = version
		if !filepath.IsAbs(version) {
			version = filepath.Join(dir, version)
		}
		dir = version
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return folder{}, err
	}
	read := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if read++; read > MaxFiles {
			f.complain(secret, "more than %d files: the others are not read", MaxFiles)
			break
		}
		of, ok := parse(secret, e.Name())
		if !ok {
			f.complain(secret, "file %.80q: want NAMESPACE.NAME.KEY", e.Name())
			continue
		}
		c, err := readKey(filepath.Join(dir, e.Name()))
		if errors.Is(err, errNoKey) {
			f.complain(secret, "file %.80q: %v", e.Name(), err)
			continue
		}
		if err != nil {
			return folder{}, err
		}
		f.keys[of] = append(f.keys[of], c)
		if n := len(f.keys[of]); n > MaxKeys {
			f.keys[of] = f.keys[of][n-MaxKeys:]
			f.complain(secret, "%.80s/%.80s has more than %d keys: those whose names come first are not used", of.namespace, of.name, MaxKeys)
		}
	}
	return f, nil
}

func (f *folder) complain(secret, format string, args ...any) {
	if len(f.trouble) < maxTrouble {
		f.trouble = append(f.trouble, "Secret "+secret+": "+fmt.Sprintf(format, args...))
	}
}

// parse takes a file's name apart. A namespace has no dots and neither has the
// name of a key; that of a RequestReply may.
func parse(secret, file string) (owner, bool) {
	namespace, rest, _ := strings.Cut(file, ".")
	dot := strings.LastIndexByte(rest, '.')
	if namespace == "" || dot <= 0 || dot == len(rest)-1 {
		return owner{}, false
	}
	return owner{secret, namespace, rest[:dot]}, true
}

var errNoKey = errors.New("no AES key: want 16, 24 or 32 bytes")

// readKey reads one key. What is no regular file is no key: to read it might
// never end.
func readKey(path string) (cipher.AEAD, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoKey
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	key, err := io.ReadAll(io.LimitReader(file, 33))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errNoKey
	}
	return cipher.NewGCM(block)
}
