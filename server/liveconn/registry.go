package liveconn

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Kind is the protocol of a connection.
type Kind string

// The kinds.
const (
	KindHTTP1  Kind = "http1"  // also a connection that has not said yet what it is
	KindH2     Kind = "h2"     // with and without TLS
	KindCustom Kind = "custom" // hijacked by a handler
)

// State is what a connection is doing.
type State string

// The states.
const (
	StateNew      State = "new"      // accepted, nothing read yet
	StateActive   State = "active"   // a request is read or served, or a handler owns it
	StateIdle     State = "idle"     // waits for the next request
	StateDraining State = "draining" // any of the above, while the server drains
	StateMoved    State = "moved"    // was idle, and is on its way to another process
)

// Class is what connections are counted by.
type Class struct {
	Kind  Kind
	State State
}

// Registry is every open connection of a server, hijacked ones included, and
// the timeouts that count for them. Make one with [NewRegistry]. Its methods
// may be called from any goroutine.
//
// To use it with an [http.Server], whose own timeouts must be 0: serve on what
// [Registry.Listener] returns, with [Registry.ConnState] and
// [Registry.ConnContext] as the hooks of these names; give the end of each TLS
// handshake to [Registry.Secured]; bracket each request with [Request.Begin] and
// [Request.End].
type Registry struct {
	timeouts atomic.Pointer[Timeouts]
	limit    atomic.Int64
	refused  atomic.Uint64
	drain    drain
	// changed gets a value when a connection or request has moved on during
	// the drain. The drain looks at everything then, so one place is enough.
	changed chan struct{}
	// never is never closed. See Request.Done.
	never chan struct{}

	// moving are the keys of the listeners whose connections may leave; nil:
	// none. It changes with mu held.
	moving atomic.Pointer[map[string]bool]
	kept   atomic.Pointer[map[string]bool] // listeners that a successor serves, by key
	moved  atomic.Uint64
	// detached gets a value when there is something in leaving.
	detached chan struct{}

	mu      sync.Mutex // after that of a Conn
	set     map[*Conn]struct{}
	leaving []*Conn // detached, and not taken by Take
}

// NewRegistry makes an empty registry.
func NewRegistry(t Timeouts) *Registry {
	r := &Registry{
		changed: make(chan struct{}, 1), never: make(chan struct{}), detached: make(chan struct{}, 1),
		drain: drain{began: make(chan struct{})}, set: map[*Conn]struct{}{},
	}
	r.timeouts.Store(&t)
	return r
}

// SetTimeouts makes t count from now on, for the connections that are open and
// the requests that run too. What is over by it ends at once. It does not wait
// for anything; it takes about a microsecond for a connection.
func (r *Registry) SetTimeouts(t Timeouts) {
	if *r.timeouts.Load() == t {
		return
	}
	r.timeouts.Store(&t)
	for i, c := range r.all() {
		c.retime()
		if i%breath == 0 {
			runtime.Gosched()
		}
	}
}

// breath is how many connections are looked at before others may run.
const breath = 128

// SetLimit makes n the number of connections that may be open; 0, or less, is
// no limit. See [Conn.Over]. What is open stays open.
func (r *Registry) SetLimit(n int) { r.limit.Store(int64(n)) }

// Refused is the number of connections that were closed right after the accept,
// since SetLimit's number was exceeded by more than could be told so.
func (r *Registry) Refused() uint64 { return r.refused.Load() }

// ConnState is for the hook of this name of an [http.Server].
func (r *Registry) ConnState(nc net.Conn, state http.ConnState) {
	c := Of(nc)
	if c == nil {
		return
	}
	if state == http.StateNew {
		c.mu.Lock()
		c.above = nc // before anything is read
		c.mu.Unlock()
	}
	c.to(state)
}

type connKey struct{}

// ConnContext is for the hook of this name of an [http.Server].
func (r *Registry) ConnContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, Of(nc))
}

// FromContext returns the connection of a request of a server with the hook
// ConnContext, or nil.
func FromContext(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// Registry returns the registry that the connection is in.
func (c *Conn) Registry() *Registry { return c.registry }

// Empty reports whether no connection is open.
func (r *Registry) Empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.set) == 0
}

// Counts returns how many connections are open, by kind and state, zeros
// included. It looks at each of them: what is counted with every request would
// be counted in places that all processors share.
func (r *Registry) Counts() map[Class]int {
	n := map[Class]int{}
	for _, k := range []Kind{KindHTTP1, KindH2} {
		for _, st := range []State{StateNew, StateActive, StateIdle, StateDraining} {
			n[Class{k, st}] = 0
		}
	}
	n[Class{KindCustom, StateActive}] = 0
	n[Class{KindCustom, StateDraining}] = 0
	n[Class{KindHTTP1, StateMoved}] = 0
	for _, c := range r.all() {
		if class, open := c.class(); open {
			n[class]++
		}
	}
	return n
}

// class is what the connection is counted as, while it is open.
func (c *Conn) class() (class Class, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.classLocked()
}

func (c *Conn) classLocked() (class Class, open bool) {
	class.Kind = KindHTTP1
	if c.h2.on {
		class.Kind = KindH2
	}
	switch c.phase {
	case phaseNew:
		class.State = StateNew
	case phaseReading, phaseActive:
		class.State = StateActive
	case phaseIdle:
		class.State = StateIdle
	case phaseCustom:
		class.Kind, class.State = KindCustom, StateActive
	case phaseClosing:
		class.State = StateDraining
	case phaseMoved:
		class.State = StateMoved
		return class, true
	case phaseGone:
		return class, false
	}
	if c.registry.Draining() {
		class.State = StateDraining
	}
	return class, true
}

// remove takes a connection out; its lock is held.
func (r *Registry) remove(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.set, c)
}

// all returns the connections that are open now.
func (r *Registry) all() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Conn, 0, len(r.set))
	for c := range r.set {
		list = append(list, c)
	}
	return list
}

// overLimit is how many connections above the limit are open at once to be told
// so; what comes on top is closed unheard.
const overLimit = 64

// newConn makes a Conn that is not in the set yet.
func (r *Registry) newConn(nc net.Conn, o ListenerOptions, now time.Time) *Conn {
	c := &Conn{
		Conn: nc, registry: r, options: o, opened: now, jitter: rand.Float64(), //nolint:gosec // it is no secret
		since: now, signal: signalHeader, unread: true,
	}
	_, c.movable = nc.(syscall.Conn)
	c.movable = c.movable && o.Key != ""
	c.above = c
	c.read.start = now
	if o.H2C {
		c.hello = newPreface()
	}
	return c
}

// add takes a connection in. It returns nil where it was closed instead.
func (r *Registry) add(nc net.Conn, o ListenerOptions) *Conn {
	c := r.newConn(nc, o, time.Now())
	limit := int(r.limit.Load())
	r.mu.Lock()
	open := len(r.set)
	refuse := limit > 0 && open >= limit+overLimit
	if !refuse {
		c.over = limit > 0 && open >= limit
		r.set[c] = struct{}{}
	}
	r.mu.Unlock()
	if refuse {
		r.refused.Add(1)
		_ = nc.Close() // nobody has used it
		return nil
	}
	return c
}

// Over reports whether the connection exceeds the limit of its registry at the
// time it was accepted. Its requests are to be refused; a server does that.
func (c *Conn) Over() bool { return c.over }

// ListenerOptions say what is served on a listener.
type ListenerOptions struct {
	// Key names the listener, beyond the process: its connections may move to
	// one that has a listener with this key. Empty: they never move.
	Key string
	// H2C says that the http.Server serves HTTP/2 without TLS on it.
	H2C bool
}

// Listener returns ln with its connections taken into the registry. TLS goes on
// top of it: tls.NewListener.
func (r *Registry) Listener(ln net.Listener, o ListenerOptions) net.Listener {
	return &listener{Listener: ln, registry: r, options: o}
}

type listener struct {
	net.Listener
	registry *Registry
	options  ListenerOptions
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.registry.add(nc, l.options); c != nil {
			return c, nil
		}
	}
}
