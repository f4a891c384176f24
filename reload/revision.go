package reload

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// Revision is one content of the configuration, in force or once in force:
// the typed config and everything that was built from it. It is immutable.
type Revision[T any] struct {
	// Config is the typed config. Nobody changes it.
	Config *T
	// ID names the content: see [configsrc.Values.Revision].
	ID string

	content   content
	effective effective
	instances []*instance // by index of the resource

	// refs counts the leases, plus one while the revision is in force. A
	// revision that has reached 0 stays at 0.
	refs    atomic.Int64
	retired sync.Once
	retire  func()      // gives up the instances; run once, at the latest after the grace
	grace   *time.Timer // set before the manager's own lease is released
}

// content is a configuration before it is decoded: the part that sources gave,
// which is what is stored and rolled back to, and all of it, with the fixed
// layers on top.
type content struct {
	sourced configsrc.Values
	full    configsrc.Values
	hash    [32]byte // of full
	labels  map[string]string
}

func newContent(sourced, fixed configsrc.Values, labels map[string]string) (content, error) {
	full, err := configsrc.Merge(sourced, fixed)
	if err != nil {
		return content{}, err
	}
	return content{sourced: sourced, full: full, hash: full.Hash(), labels: labels}, nil
}

func (c content) revision() string { return revisionID(c.hash) }

// acquire takes a lease unless the revision is already retired.
func (r *Revision[T]) acquire() bool {
	for {
		n := r.refs.Load()
		if n == 0 {
			return false
		}
		if r.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a lease back. Every [Manager.Acquire] needs exactly one. After
// it, the resources of the revision may be closed; Config stays readable.
func (r *Revision[T]) Release() {
	switch n := r.refs.Add(-1); {
	case n == 0:
		if r.grace != nil {
			r.grace.Stop()
		}
		r.retired.Do(r.retire)
	case n < 0:
		panic("reload: Revision released more often than acquired")
	}
}

// Load returns the revision in force. It is one atomic load: cheap enough for
// every read of a setting. What was built from the revision may be closed at
// any time; use [Manager.Acquire] or [Manager.Pin] for that, and wherever
// several reads must agree. Before [Manager.Start] has returned it is nil.
func (m *Manager[T]) Load() *Revision[T] { return m.current.Load() }

// Acquire returns the revision in force and keeps its resources open until
// Release, or until the grace for retired revisions has passed. Call it after
// [Manager.Start] has returned.
func (m *Manager[T]) Acquire() *Revision[T] {
	for {
		// A revision that was retired between the two steps has a successor.
		if r := m.current.Load(); r.acquire() {
			return r
		}
	}
}

type pinKey[T any] struct{}

// Pin acquires the revision in force and stores it in the context, so that all
// that runs under the context sees one revision. The func releases it.
func (m *Manager[T]) Pin(ctx context.Context) (context.Context, func()) {
	r := m.Acquire()
	return context.WithValue(ctx, pinKey[T]{}, r), r.Release
}

// From returns the revision pinned in ctx, or else the one in force.
func (m *Manager[T]) From(ctx context.Context) *Revision[T] {
	if r, ok := ctx.Value(pinKey[T]{}).(*Revision[T]); ok {
		return r
	}
	return m.Load()
}
