package file

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

const (
	// rereads bounds how often a file that changes under the read is read
	// again; the pauses between add up to about 300 ms.
	rereads    = 5
	rereadWait = 10 * time.Millisecond

	// recent is how old a file's times may be, when the driver learns of a
	// change, to be taken for the time of the change. A link or a directory that
	// is swapped leads to files that were written long before.
	recent = time.Minute
)

var (
	errNotRegular = errors.New("not a regular file")
	errChanging   = errors.New("the file changes each time it is read")
)

// sight is what tells, without reading, that a file is still the same one with
// the same content; or why there is none.
type sight struct {
	device, inode uint64
	size          int64
	modified      int64 // ns
	changed       int64 // ns; 0 where the system does not tell
	fault         string
}

// look reads the file as it is now.
func (s *Source) look(ctx context.Context, notified time.Time) state {
	wait := rereadWait
	for range rereads {
		st, stable := s.readOnce(ctx, notified)
		if stable {
			return st
		}
		if !pause(ctx, wait) {
			break
		}
		wait *= 2
	}
	return s.fault("read", errChanging)
}

// readOnce reads and parses; stable is false where the file changed under it.
func (s *Source) readOnce(ctx context.Context, notified time.Time) (st state, stable bool) {
	f, before, err := s.openRegular()
	if err != nil {
		return s.fault("open", err), true
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := s.opts.Limits.ReadAll(interruptible(ctx, f), s.origin)
	switch {
	case errors.Is(err, configsrc.ErrInvalid):
		return s.invalid("read", before, "too large", err), true
	case err != nil:
		return s.fault("read", err), true
	}
	info, err := f.Stat()
	if err != nil {
		return s.fault("stat", err), true
	}
	if sightOf(info) != before {
		return state{}, false
	}
	if blank(data) {
		return s.invalid("parse", before, "empty", s.emptyError()), true
	}
	values, err := configsrc.Flatten(s.format, data, s.origin, s.opts.Limits)
	if err != nil {
		return s.invalid("parse", before, "content "+string(data), err), true
	}
	snap := configsrc.Snapshot{
		Version:  configsrc.Version{Content: values.Hash()},
		Values:   values,
		Label:    info.ModTime().UTC().Format(time.RFC3339),
		Notified: notified,
		Fetched:  time.Now(),
	}
	before.date(&snap)
	return state{sight: before, snap: snap}, true
}

// date sets Published to the time of the last change of the file or of its name,
// where that can be the change that the snapshot is about.
func (v sight) date(snap *configsrc.Snapshot) {
	changed := time.Unix(0, max(v.modified, v.changed))
	switch {
	case changed.After(snap.Fetched): // by another clock
	case changed.Before(snap.Notified.Add(-recent)):
	case changed.After(snap.Notified):
		// One more write after the one that was told of. Nothing but the read
		// has told of it.
		snap.Notified = changed
		snap.Published = changed
	default:
		snap.Published = changed
	}
}

// blank reports whether there is nothing in the file: it was truncated, or the
// disk was full. Whoever means "no settings" writes so.
func blank(data []byte) bool {
	return len(bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\uFEFF")))) == 0
}

func (s *Source) emptyError() error {
	write := "{}"
	if s.format == configsrc.TOML || s.format == configsrc.Properties {
		write = "a comment"
	}
	return &configsrc.InvalidError{Problems: []configsrc.Problem{{
		Origin: s.origin,
		Reason: "the file is empty: write " + write + " if no setting is meant",
	}}}
}

// glance looks at the file without reading it. It opens it, because a network
// file system asks its server for current times only then.
func (s *Source) glance() sight {
	f, seen, err := s.openRegular()
	if err != nil {
		return s.fault("open", err).sight
	}
	_ = f.Close()
	return seen
}

// openRegular opens a regular file and nothing else, and never waits for a writer.
func (s *Source) openRegular() (*os.File, sight, error) {
	// The look before it keeps a pipe's writer or a device from noticing; the
	// look after it is the one that counts.
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, sight{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, sight{}, notRegular(info.Mode())
	}
	f, err := s.sys.open(s.path)
	if err != nil {
		return nil, sight{}, err
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(info.Mode())
	}
	if err != nil {
		_ = f.Close()
		return nil, sight{}, err
	}
	return f, sightOf(info), nil
}

// fault is the state in which there is no content to read.
func (s *Source) fault(op string, err error) state {
	e := &configsrc.Error{Backend: "file", Op: op, Address: s.path, Err: err}
	// The path is in Address already.
	if inner := (*fs.PathError)(nil); errors.As(err, &inner) {
		e.Err = inner.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		e.Kind = configsrc.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		e.Kind = configsrc.ErrDenied
	case errors.Is(err, errNotRegular), errors.Is(err, syscall.ELOOP):
		e.Kind = configsrc.ErrInvalid
	}
	st := state{err: e, sight: sight{fault: e.Err.Error()}}
	if e.Kind != nil {
		e.Version = faultVersion(e.Err.Error())
	}
	return st
}

// invalid is the state in which there is content that is no configuration.
// what tells it from other such states.
func (s *Source) invalid(op string, seen sight, what string, err error) state {
	return state{sight: seen, err: &configsrc.Error{
		Backend: "file", Op: op, Address: s.path,
		Kind: configsrc.ErrInvalid, Err: err, Version: faultVersion(what),
	}}
}

// faultVersion names a state without values. The prefix keeps it apart from
// every Values.Hash, whose input begins with the length of a key.
func faultVersion(what string) configsrc.Version {
	return configsrc.Version{Content: sha256.Sum256([]byte("no configuration: " + what))}
}

// kindError is a path that leads to something else than a regular file.
type kindError struct{ kind string }

func (e *kindError) Error() string        { return "is " + e.kind + ", not a regular file" }
func (e *kindError) Is(target error) bool { return target == errNotRegular }

func notRegular(m fs.FileMode) error {
	switch {
	case m.IsDir():
		return &kindError{"a directory"}
	case m&fs.ModeNamedPipe != 0:
		return &kindError{"a named pipe"}
	case m&fs.ModeSocket != 0:
		return &kindError{"a socket"}
	case m&fs.ModeDevice != 0:
		return &kindError{"a device"}
	}
	return &kindError{"something special"}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// interruptible is r until ctx ends.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

// pause waits; it reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
