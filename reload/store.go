package reload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// store keeps contents in the state folder. A nil store keeps nothing.
type store struct {
	dir string

	mu     sync.Mutex // held while something is written
	closed bool       // another process writes to the folder

	// step is called after each step of a write, by the tests that stop the
	// process there; nil otherwise.
	step func(name string)
}

const (
	lastGoodFile = "last-good.json"
	pinFile      = "pin.json"
	recordFormat = 1
	// A record is at most this long: the default limits on values, with room
	// for origins and JSON's escapes.
	maxRecordBytes = 64 << 20
	maxRecordKeys  = 1_000_000 // each source has its own limit; a record has the keys of all
)

// record is the first line of a content on disk; the second is the content
// itself, the sourced part, in configsrc's codec.
type record struct {
	Format   int               `json:"format"`
	Identity string            `json:"identity"` // of the sources it came from
	Revision string            `json:"revision"`
	SavedAt  time.Time         `json:"saved_at"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Checksum is the SHA-256 of the content's bytes.
	Checksum string `json:"checksum"`
}

// newStore is the state folder, closed for writing so far.
func newStore(dir string) *store {
	if dir == "" {
		return nil
	}
	return &store{dir: dir, closed: true}
}

// open lets this process write, and makes the folder where it is missing.
func (s *store) open() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = false
	if err := os.MkdirAll(filepath.Join(s.dir, historyDir), 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	return nil
}

// close waits for a write under way; after it, nothing is written.
func (s *store) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// encodeRecord writes a content as a record.
func encodeRecord(identity string, c content) ([]byte, error) {
	encoded, err := configsrc.EncodeValues(c.sourced)
	if err != nil {
		return nil, fmt.Errorf("encode content: %w", err)
	}
	sum := sha256.Sum256(encoded)
	head, err := json.Marshal(record{
		Format: recordFormat, Identity: identity, Revision: c.revision(), SavedAt: time.Now().UTC(),
		Labels: c.labels, Checksum: hex.EncodeToString(sum[:]),
	})
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return slices.Concat(head, []byte{'\n'}, encoded), nil
}

// write writes a file: a temporary one first, so that a crash at any point
// leaves the old content or the new one.
func (s *store) write(name string, data []byte) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrHandedOver
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	path := filepath.Join(s.dir, name)
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+temporary+"*") // made with 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	s.at("created")
	// Two writes, so that the tests can stop between them.
	half := len(data) / 2
	if _, err = f.Write(data[:half]); err != nil {
		return err
	}
	s.at("half written")
	if _, err = f.Write(data[half:]); err != nil {
		return err
	}
	s.at("written")
	if err = f.Sync(); err != nil {
		return err
	}
	s.at("synced")
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	s.at("renamed")
	// Without this the rename itself may be lost by a power cut.
	if dir, openErr := os.Open(filepath.Dir(path)); openErr == nil {
		err = dir.Sync()
		_ = dir.Close()
	}
	s.at("done")
	return err
}

// temporary is in the names of files that are being written.
const temporary = ".tmp-"

// sweep removes what writes have left that a kill has cut short. No other
// process may be writing: none is after a cold start, after probation, and after
// the death of the process that has followed instead of this one.
func (s *store) sweep() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, dir := range []string{s.dir, filepath.Join(s.dir, historyDir)} {
		entries, _ := os.ReadDir(dir) // what cannot be read cannot be swept
		for _, e := range entries {
			if e.Type().IsRegular() && strings.Contains(e.Name(), temporary) {
				_ = os.Remove(filepath.Join(dir, e.Name())) // the next one tries again
			}
		}
	}
}

func (s *store) at(step string) {
	if s.step != nil {
		s.step(step)
	}
}

// load reads a content back. It returns fs.ErrNotExist where there is none, and
// an error that says what is wrong where there is one that cannot be used.
func (s *store) load(name string) (record, configsrc.Values, error) {
	if s == nil {
		return record{}, nil, os.ErrNotExist
	}
	path := filepath.Join(s.dir, name)
	f, err := os.Open(path) //nolint:gosec // one of our own names in the state folder
	if err != nil {
		return record{}, nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxRecordBytes+1))
	if err != nil {
		return record{}, nil, err
	}
	return decodeRecord(data, path)
}

// decodeRecord reads what encodeRecord wrote; where is what its errors name.
func decodeRecord(data []byte, where string) (record, configsrc.Values, error) {
	if len(data) > maxRecordBytes {
		return record{}, nil, fmt.Errorf("%s is larger than %d bytes", where, maxRecordBytes)
	}
	var r record
	head, encoded, _ := bytes.Cut(data, []byte{'\n'})
	if err := json.Unmarshal(head, &r); err != nil {
		return record{}, nil, fmt.Errorf("%s is damaged: its first line is no JSON", where)
	}
	if r.Format != recordFormat {
		return record{}, nil, fmt.Errorf("%s has format %d, this program reads %d", where, r.Format, recordFormat)
	}
	sum := sha256.Sum256(encoded)
	if hex.EncodeToString(sum[:]) != r.Checksum {
		return record{}, nil, fmt.Errorf("%s is damaged: its checksum does not match", where)
	}
	values, err := configsrc.DecodeValues(encoded, configsrc.Limits{Bytes: maxRecordBytes, Keys: maxRecordKeys})
	if err != nil {
		return record{}, nil, fmt.Errorf("%s is damaged: %w", where, err)
	}
	return r, values, nil
}

// append adds to the end of a file.
func (s *store) append(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrHandedOver
	}
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // one of our own names in the state folder
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (s *store) remove(name string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrHandedOver
	}
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
