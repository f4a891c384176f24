package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

const (
	defaultPoll     = time.Second
	defaultBackstop = 10 * time.Second
	defaultName     = "file"

	// grace is how long a call whose context has ended waits for a file system
	// call to come back before it leaves it behind.
	grace = 500 * time.Millisecond
)

// Options are the settings of a [Source]. The zero value is ready for use.
type Options struct {
	// Limits bounds the file and what is in it.
	Limits configsrc.Limits
	// Name is the layer's name, as it stands in every value's Origin.Source.
	// Default "file".
	Name string
	// Poll is the time between two looks at the file where the kernel does not
	// report changes: on network and synthetic file systems, and where a watch
	// cannot be had. Default 1 s.
	Poll time.Duration
	// Backstop is the time between two looks where it does. Default 10 s.
	Backstop time.Duration
}

// Source follows one file. It needs no closing.
//
// Several calls of Next at a time are allowed; they take turns.
type Source struct {
	path   string // absolute
	origin configsrc.Origin
	format configsrc.Format
	opts   Options
	sys    system

	// turn holds the one call that may touch the file system. A call that hangs
	// in the kernel keeps it, so that a dead mount costs one goroutine and not
	// one for each retry.
	turn chan struct{}
}

var _ configsrc.Source = (*Source)(nil)

// New returns a source for the file at path. The extension names the format:
// .yaml, .yml, .json, .toml or .properties; any other is an error. A relative
// path is taken from the working directory of this moment. The file need not
// exist yet.
func New(path string, o Options) (*Source, error) {
	if path == "" {
		return nil, errors.New("file: the path is empty")
	}
	format, ok := configsrc.FormatOf(path)
	if !ok {
		return nil, fmt.Errorf("file: %s: extension %q is not known; known are .yaml, .yml, .json, .toml and .properties",
			path, filepath.Ext(path))
	}
	if o.Poll < 0 || o.Backstop < 0 {
		return nil, fmt.Errorf("file: %s: a negative interval", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("file: make %s absolute: %w", path, err)
	}
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	if o.Backstop == 0 {
		o.Backstop = defaultBackstop
	}
	if o.Name == "" {
		o.Name = defaultName
	}
	return &Source{
		path:   abs,
		origin: configsrc.Origin{Source: o.Name, Name: path},
		format: format,
		opts:   o,
		sys:    realSystem(),
		turn:   make(chan struct{}, 1),
	}, nil
}

// Next implements [configsrc.Source]; a Version of it has no Cursor.
//
// Published is the newer of the times at which the file was written and at which
// it was renamed or given its mode, where the system tells the second. It is zero
// where that was more than a minute before Notified, because the change is then
// another one: a link that leads elsewhere, say. Label is the modification time.
//
// A missing file is ErrNotFound, a file or directory that may not be read is
// ErrDenied. What is no regular file, too large, empty, or no configuration is
// ErrInvalid. All of these carry a Version, so the call after them blocks
// until something else is there. A file system error, and a file that changes
// each time it is read, carry none.
//
// A file system that does not answer (a network mount whose server is gone)
// cannot be interrupted. Next returns in time even then, and leaves one
// goroutine behind that ends when the kernel lets it; until then, further
// calls wait for it or for their context.
func (s *Source) Next(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return configsrc.Snapshot{}, err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return configsrc.Snapshot{}, ctx.Err()
	}
	done := make(chan state, 1)
	go func() {
		st := s.follow(ctx, after)
		<-s.turn
		done <- st
	}()
	select {
	case st := <-done:
		return st.result(ctx)
	case <-ctx.Done():
	}
	left := time.NewTimer(grace)
	defer left.Stop()
	select {
	case st := <-done:
		return st.result(ctx)
	case <-left.C:
		return configsrc.Snapshot{}, ctx.Err()
	}
}

// state is what one look at the path found: a snapshot, or an error.
type state struct {
	sight sight
	snap  configsrc.Snapshot
	err   *configsrc.Error
}

// version is the version of the state; zero where it is not known.
func (st state) version() configsrc.Version {
	if st.err != nil {
		return st.err.Version
	}
	return st.snap.Version
}

func (st state) result(ctx context.Context) (configsrc.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return configsrc.Snapshot{}, err
	}
	if st.err != nil {
		return configsrc.Snapshot{}, st.err
	}
	return st.snap, nil
}
