package server

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is the protocol of a connection.
type Kind string

// The kinds.
const (
	KindHTTP1  Kind = "http1"
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
)

// Class is what connections are counted by.
type Class struct {
	Kind  Kind
	State State
}

// connections is every open connection of a server. The counts are kept beside
// the set, so that a change of phase takes no lock that connections share.
type connections struct {
	counts   [phases]atomic.Int64
	draining atomic.Bool
	// changed gets a value when a connection or request has moved on during
	// the drain. The drain looks at everything then, so one place is enough.
	changed chan struct{}

	mu  sync.Mutex
	set map[*conn]struct{}
}

func newConnections() *connections {
	return &connections{changed: make(chan struct{}, 1), set: map[*conn]struct{}{}}
}

func (s *connections) add(nc net.Conn) *conn {
	c := &conn{Conn: nc, set: s, phase: phaseNew, since: time.Now()}
	s.mu.Lock()
	s.set[c] = struct{}{}
	s.mu.Unlock()
	s.counts[phaseNew].Add(1)
	return c
}

// moved counts a change of phase; c.mu is held.
func (s *connections) moved(c *conn, from, to phase) {
	if to == phaseGone {
		s.mu.Lock()
		delete(s.set, c)
		s.mu.Unlock()
	} else {
		s.counts[to].Add(1)
	}
	s.counts[from].Add(-1)
	s.wake()
}

func (s *connections) wake() {
	if !s.draining.Load() {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// hook is the ConnState of the http.Server.
func (s *connections) hook(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateNew: // counted by Accept
	case http.StateActive:
		c.to(phaseActive)
	case http.StateIdle:
		c.to(phaseIdle)
	case http.StateHijacked:
		c.to(phaseCustom)
	case http.StateClosed:
		c.to(phaseGone)
	}
}

// empty does not add up the counts: one that moves meanwhile could be missed.
func (s *connections) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.set) == 0
}

// classes are the counts by what users know.
func (s *connections) classes() map[Class]int {
	n := map[Class]int{}
	count := func(k Kind, st State, ps ...phase) {
		if s.draining.Load() {
			st = StateDraining
		}
		for _, p := range ps {
			n[Class{k, st}] += int(s.counts[p].Load())
		}
	}
	count(KindHTTP1, StateNew, phaseNew)
	count(KindHTTP1, StateActive, phaseActive, phaseReading)
	count(KindHTTP1, StateIdle, phaseIdle)
	count(KindHTTP1, StateDraining, phaseClosing)
	count(KindCustom, StateActive, phaseCustom)
	return n
}

// all returns the connections that are open now.
func (s *connections) all() []*conn {
	s.mu.Lock()
	list := make([]*conn, 0, len(s.set))
	for c := range s.set {
		list = append(list, c)
	}
	s.mu.Unlock()
	return list
}

// closeIdle closes what may be closed without losing a request: what has been
// idle for linger, and what began to send a request and did not go on within
// readHeaderTimeout. It returns when the next one is due; zero if none will be.
func (s *connections) closeIdle(now, drainBegan time.Time, linger time.Duration) time.Time {
	var next time.Time
	for _, c := range s.all() {
		due := c.closeIfDue(now, drainBegan, linger)
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}

// closeAll closes every connection and returns what it cut off, the oldest
// request first.
func (s *connections) closeAll() []cut {
	var cuts []cut
	for _, c := range s.all() {
		c.mu.Lock()
		k := cut{
			method: c.method, path: c.path, peer: c.RemoteAddr().String(),
			phase: c.phase, began: c.began,
		}
		if c.method == "" {
			k.began = c.since
		}
		if c.phase != phaseCustom {
			c.enter(phaseClosing)
		}
		c.mu.Unlock()
		if k.lost() {
			cuts = append(cuts, k)
		}
		_ = c.Close()
	}
	slices.SortFunc(cuts, func(a, b cut) int { return a.began.Compare(b.began) })
	return cuts
}

type connKey struct{}

// connContext is the ConnContext of the http.Server.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

// connOf returns the connection of a request that a Server serves, or nil.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// isDraining reports whether the Server that serves the request of ctx drains.
func isDraining(ctx context.Context) bool {
	c := connOf(ctx)
	return c != nil && c.set.draining.Load()
}
