package liveconn

import (
	"net"
	"time"
)

// readerSize is the size of the buffer that net/http reads requests through. A
// Read into the whole of it tells that nothing is in it.
const readerSize = 4096

// Move lets idle connections leave that came from the listeners with these
// keys: from now on each of them is detached as soon as it is idle, or before
// anything was read from it. nil ends that. What was detached before stays so; it
// is to be taken with Take.
//
// A connection that is waiting to be read already is detached when a [Sweep]
// comes to it. Only HTTP/1 without TLS moves: what is known of the others is in
// this process.
func (r *Registry) Move(keys map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if keys == nil {
		r.moving.Store(nil)
		return
	}
	r.moving.Store(&keys)
}

// Moving reports whether the connection moves as soon as it is idle, so that an
// answer need not end it. It is for HTTP/1 without TLS.
func (c *Conn) Moving() bool {
	keys := c.registry.moving.Load()
	return keys != nil && c.movable && (*keys)[c.options.Key]
}

// mayMove reports whether nothing that was read from the connection lies in
// net/http when it reads into a buffer of this size; the lock is held. That is
// certain for one from which nothing was read at all, and for an idle one when
// net/http reads into its whole buffer. The size alone tells nothing, since a
// line of a header may end where the buffer does; but then the connection is not
// idle any more: it has read something, or net/http has found the first bytes of
// the request in its buffer, and has said so by clearing the deadline a second
// time. See conformance_test.go.
func (c *Conn) mayMove(size int) bool {
	if !c.movable || c.h2.on || c.above != net.Conn(c) {
		return false
	}
	switch c.phase {
	case phaseNew:
		return c.unread
	case phaseIdle:
		return c.unread || size == readerSize
	case phaseReading, phaseActive, phaseCustom, phaseClosing, phaseMoved, phaseGone:
	}
	return false
}

// detach takes the connection from net/http if it moves; the lock is held, and
// mayMove holds.
func (c *Conn) detach() bool {
	if !c.Moving() || c.phase != phaseIdle && c.phase != phaseNew {
		return false
	}
	r := c.registry
	r.mu.Lock()
	moves := c.Moving() // Move(nil) leaves nothing behind that comes later
	if moves {
		r.leaving = append(r.leaving, c)
	}
	r.mu.Unlock()
	if !moves {
		return false
	}
	c.taken, c.dead = true, net.ErrClosed
	c.alarm.stop()
	c.unread = c.phase == phaseNew
	since := c.since
	c.enter(phaseMoved)
	c.since = since
	select {
	case r.detached <- struct{}{}:
	default:
	}
	return true
}

// ask wakes the Read of an idle connection, which then is detached. It returns
// false where nothing is to be detached.
func (c *Conn) ask() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.clean || c.read.blocked == 0 || !c.Moving() {
		return false
	}
	// Should bytes come first, the next Read sets the deadline that counts.
	c.read.armed, c.read.stale = longAgo(), true
	return c.Conn.SetReadDeadline(longAgo()) == nil
}

// Sweep is one pass over the connections that are to move, in steps. One
// goroutine uses it.
type Sweep struct{ rest []*Conn }

// Sweep begins a pass over the connections that are open now.
func (r *Registry) Sweep() *Sweep { return &Sweep{r.all()} }

// Next lets up to n idle connections be detached, without waiting for that, and
// returns how many it asked; fewer than n means that the pass is over.
func (s *Sweep) Next(n int) int {
	asked := 0
	for asked < n && len(s.rest) > 0 {
		c := s.rest[0]
		s.rest = s.rest[1:]
		if c.ask() {
			asked++
		}
	}
	return asked
}

// Detached gets a value when a connection was detached.
func (r *Registry) Detached() <-chan struct{} { return r.detached }

// Leaving is how many connections wait for Take.
func (r *Registry) Leaving() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.leaving)
}

// Take returns up to n connections that were detached, which are the caller's
// from then on: it must give each of them to Moved or to Restore. They count as
// open until then. The connection that another process is to get is what NetConn
// returns.
func (r *Registry) Take(n int) []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(n, len(r.leaving))
	taken := r.leaving[:n:n]
	if r.leaving = r.leaving[n:]; len(r.leaving) == 0 {
		r.leaving = nil
	}
	return taken
}

// Moved closes this process's ends of connections that another process has, and
// counts them.
func (r *Registry) Moved(conns []*Conn) {
	for _, c := range conns {
		_ = c.Conn.Close() // closes the descriptor alone: the other process has one
		c.forget()
	}
	r.moved.Add(uint64(len(conns)))
}

// MovedCount is how many connections have left by Moved.
func (r *Registry) MovedCount() uint64 { return r.moved.Load() }

// Restore makes new Conns of connections that nobody else has taken. They are to
// be served again, by the http.Server.
func (r *Registry) Restore(conns []*Conn) []*Conn {
	restored := make([]*Conn, 0, len(conns))
	for _, c := range conns {
		restored = append(restored, r.Adopt(c.Conn, c.Origin(), c.options))
		c.forget()
	}
	return restored
}

func (c *Conn) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enter(phaseGone)
}

// Origin is what is known of a connection that comes from elsewhere.
type Origin struct {
	Opened time.Time // when it was accepted
	Since  time.Time // when it became idle, or was accepted
	New    bool      // nothing was read from it
}

// Key is that of the connection's listener.
func (c *Conn) Key() string { return c.options.Key }

// Origin is for whoever serves the connection next, after Take.
func (c *Conn) Origin() Origin {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Origin{Opened: c.opened, Since: c.since, New: c.unread}
}

// Adopt takes a connection in that another process, or this one, has accepted
// and detached. It is to be served by the http.Server as one that was accepted
// now; its time goes on from where it was. No limit keeps it out: it was open
// before.
func (r *Registry) Adopt(nc net.Conn, o Origin, lo ListenerOptions) *Conn {
	c := r.newConn(nc, lo, o.Opened)
	c.since, c.read.start = o.Since, o.Since
	if !o.New {
		c.phase = phaseIdle
	}
	// What deadlines it has is not known.
	c.read.stale, c.write.stale = true, true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set[c] = struct{}{}
	return c
}
