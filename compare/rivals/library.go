package rivals

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// library is one way to hold a configuration, filled with one of two documents.
type library struct {
	name   string
	module string
	// read reads setting n times, each time as a request would that wants the
	// value in force, and returns the sum.
	read func(n int) time.Duration
	// load brings the document into force for all readers. It returns how long
	// that took from the text on. One call at a time.
	load func(ctx context.Context, d document) (time.Duration, error)

	documents [2]document
	loads     int
}

// errNotRead: what was loaded is not what a reader reads.
var errNotRead = errors.New("a reader does not see the value that was loaded")

// reload brings the other one of the two documents into force and returns how
// long that took.
func (l *library) reload(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d := l.documents[l.loads%2]
	l.loads++
	took, err := l.load(ctx, d)
	if err == nil && l.read(1) != d.timeout {
		err = errNotRead
	}
	if err != nil {
		return 0, fmt.Errorf("reload %s: %w", l.name, err)
	}
	return took, nil
}

// title is the name with the version, where the build tells it.
func (l *library) title() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return l.name
	}
	for _, m := range info.Deps {
		if m.Path == l.module && m.Replace == nil && m.Version != "" {
			return l.name + " " + strings.TrimPrefix(m.Version, "v")
		}
	}
	return l.name
}

// libraries are ours and the rivals, each with a document in force.
type libraries struct {
	ours   *library
	pinned *library // ours too, read under a lease; it has no load
	rivals []*library
	close  func() error // ends what ours runs, and waits for it
}

// all returns ours first.
func (l libraries) all() []*library { return append([]*library{l.ours}, l.rivals...) }

// openLibraries fills every library with a document of that many keys, in
// sections of at most side. ctx bounds all use of them.
func openLibraries(ctx context.Context, keys, side int) (libraries, error) {
	documents := [2]document{newDocument(keys, side, 1000*time.Millisecond), newDocument(keys, side, 1001*time.Millisecond)}
	ours, pinned, end, err := openOurs(ctx, documents[1])
	if err != nil {
		return libraries{}, err
	}
	opened := libraries{ours: ours, pinned: pinned, rivals: []*library{newViper(), newKoanf()}, close: end}
	for _, l := range opened.all() {
		l.documents = documents
		if _, err := l.reload(ctx); err != nil {
			return libraries{}, errors.Join(err, end())
		}
	}
	return opened, nil
}
