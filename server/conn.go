package server

import (
	"io"
	"net"
	"sync"
	"time"
)

// phase is what a connection is doing, as far as the drain must know.
type phase int

const (
	phaseNew     phase = iota // accepted, nothing read yet
	phaseReading              // was new or idle, and bytes of a request were read since
	phaseActive               // a request is being served
	phaseIdle                 // waits for the next request
	phaseCustom               // hijacked: its handler owns it
	phaseClosing              // the drain closes it
	phaseGone                 // closed, and no longer in the set
	phases
)

// conn is a served connection. It knows its phase, because net/http tells it to
// nobody when it matters, and stays counted when it is hijacked.
//
// It must not hide what net/http finds by type: see ReadFrom and CloseWrite.
type conn struct {
	net.Conn
	set *connections

	mu    sync.Mutex
	phase phase
	since time.Time // when phase began
	// The request being served; method is empty between requests.
	method, path string
	began        time.Time
}

var (
	_ net.Conn      = (*conn)(nil)
	_ io.ReaderFrom = (*conn)(nil)
)

// Read notes the first bytes of a request. net/http calls the connection active
// only when it has the whole header. It does not see a part of a request that
// net/http has read together with the request before it: such a connection counts
// as idle until more of it arrives.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.received() {
		// The drain has closed the connection between the arrival of the bytes
		// and now. A request that cannot be answered must not be executed.
		return 0, io.EOF
	}
	return n, err
}

// received reports whether bytes that have arrived may be used.
func (c *conn) received() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseNew || c.phase == phaseIdle {
		c.enter(phaseReading)
	}
	return c.phase != phaseClosing
}

// Close closes the connection. net/http reports the end of those it owns; for a
// hijacked one this is the only sign.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseCustom {
		c.enter(phaseGone)
	}
	return err
}

// ReadFrom keeps the kernel's way from a file or socket to this one.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := c.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite lets net/http end an answer so that the client can still read it
// when it has sent more than the server wanted.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// NetConn returns the connection below, for a handler that has hijacked this
// one and needs its options. Close must still be called on this one.
func (c *conn) NetConn() net.Conn { return c.Conn }

// to moves the connection on, as net/http says.
func (c *conn) to(p phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseClosing && p != phaseGone {
		if p != phaseCustom {
			return
		}
		// Hijacked after it was closed: net/http does not report it again.
		p = phaseGone
	}
	c.enter(p)
}

// enter changes the phase and the counts; c.mu is held.
func (c *conn) enter(p phase) {
	if c.phase == p || c.phase == phaseGone {
		return
	}
	c.set.moved(c, c.phase, p)
	c.phase, c.since = p, time.Now()
}

// begin and end bracket the time in which a handler serves a request.
func (c *conn) begin(method, path string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.method, c.path, c.began = method, path, now
}

func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.method, c.path = "", ""
}

// closeIfDue closes the connection, or returns when it will be due.
func (c *conn) closeIfDue(now, drainBegan time.Time, linger time.Duration) time.Time {
	c.mu.Lock()
	var due time.Time
	switch c.phase {
	case phaseIdle:
		due = later(c.since, drainBegan).Add(linger)
	case phaseReading:
		due = c.since.Add(readHeaderTimeout)
	case phaseNew, phaseActive, phaseCustom, phaseClosing, phaseGone, phases:
	}
	if due.IsZero() || due.After(now) {
		c.mu.Unlock()
		return due
	}
	c.enter(phaseClosing)
	c.mu.Unlock()
	// Outside the lock: Close takes it. That the peer was faster is no error.
	_ = c.Conn.Close()
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// listener wraps what it accepts.
type listener struct {
	net.Listener
	set *connections
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.set.add(nc), nil
}
