package liveconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// phase is what a connection is doing.
type phase uint8

const (
	phaseNew     phase = iota // accepted, nothing read yet
	phaseReading              // bytes of a request, or of a handshake, were read, and the header is not whole
	phaseActive               // a request is served
	phaseIdle                 // waits for the next request
	phaseCustom               // hijacked: its handler owns it
	phaseClosing              // it is to be closed: what still arrives is not read
	phaseGone                 // closed, and no longer in the registry
	phases
)

// signal is how often, since a connection became idle, net/http has cleared
// the read deadline: with all timeouts of the http.Server 0, this is how it
// tells where it stands in server.go. See conformance_test.go.
type signal uint8

const (
	signalNone   signal = iota
	signalIdle          // it waits for the first bytes of a request
	signalHeader        // it has them and reads the header
	signalBody          // it has the header
	signalEnd           // it has the body, and reads on only to see the client go away
)

// Conn is a connection in a [Registry]. It owns both deadlines of the
// connection below.
//
// It must not hide what net/http finds by type: see ReadFrom and CloseWrite.
type Conn struct {
	net.Conn
	registry *Registry

	mu     sync.Mutex
	phase  phase
	kind   Kind
	since  time.Time // when phase began
	signal signal
	read   side
	write  side
	dead   error // every Write fails with it
	over   bool  // beyond the registry's limit; never changes

	h2     h2
	hello  *preface // nil: HTTP/2 does not begin without TLS here, or it is decided
	above  net.Conn // what net/http knows the connection as: itself, or the TLS connection on it
	alarm  alarm
	inside requests // that are served
}

var (
	_ net.Conn      = (*Conn)(nil)
	_ io.ReaderFrom = (*Conn)(nil)
)

// Of returns the Conn that nc is, or that a TLS connection nc is on; nil if
// there is none.
func Of(nc net.Conn) *Conn {
	for {
		switch c := nc.(type) {
		case *Conn:
			return c
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
		default:
			return nil
		}
	}
}

// NetConn returns the connection below, for a handler that has hijacked this
// one and needs its options. Close must still be called on this one.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Read reads, and gives up when the live value says so.
//
// The first bytes of a request are noted: net/http calls the connection active
// only when it has the whole header. What net/http has read together with the
// request before is noted when it asks for it.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if err := c.beforeRead(); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		again, n, err := c.afterRead(p, n, err)
		if !again {
			return n, err
		}
	}
}

func (c *Conn) beforeRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseClosing {
		return io.EOF
	}
	if err := c.read.arm(c.readDeadline(), c.Conn.SetReadDeadline); err != nil {
		return err
	}
	c.read.blocked++
	return nil
}

// afterRead looks at what a Read has brought: again means that the deadline
// came too soon.
func (c *Conn) afterRead(p []byte, n int, err error) (again bool, _ int, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read.blocked--
	if c.phase == phaseClosing {
		// It was given up between the arrival of the bytes and now. A request
		// that cannot be answered must not be executed.
		return false, 0, io.EOF
	}
	if n > 0 {
		c.received(p[:n])
	}
	if err == nil || !isTimeout(err) {
		return false, n, err
	}
	c.read.stale = true
	if n > 0 {
		return false, n, nil
	}
	now := time.Now()
	if !over(c.readDeadline(), now) {
		return true, 0, nil
	}
	if c.read.mode == modePhase && c.h2.on && c.phase == phaseIdle {
		return c.idleOver(now)
	}
	return false, 0, err
}

// received notes bytes that have arrived.
func (c *Conn) received(p []byte) {
	if c.hello != nil {
		c.detect(p)
	}
	switch {
	case c.h2.on: // the streams tell
	case c.phase == phaseNew:
		c.enter(phaseReading)
	case c.phase == phaseIdle:
		now := c.enter(phaseReading)
		if c.read.mode == modePhase {
			c.read.start = now
		}
	case c.signal == signalBody:
		// A handler that first reads and then answers must not have spent
		// the answer's time on reading.
		c.write.start = time.Time{}
	}
}

// readDeadline is when a Read gives up by what counts now.
func (c *Conn) readDeadline() time.Time {
	switch c.read.mode {
	case modeUser:
		return c.read.user
	case modeNone:
		return time.Time{}
	case modePhase:
	}
	t := c.registry.timeouts.Load()
	switch {
	case c.phase == phaseCustom:
		return time.Time{}
	case c.h2.on:
		return c.h2Deadline(t)
	case c.phase == phaseIdle:
		return after(c.read.start, t.Idle)
	case c.signal >= signalBody:
		return after(c.read.start, t.Read)
	default:
		return after(c.read.start, t.header())
	}
}

// Write writes all of p, and gives up when the live value, or the user's own
// deadline, says so. After that every Write fails at once: half an answer cannot
// be gone on with, and the alert by which TLS says good-bye would wait for the
// peer once more.
func (c *Conn) Write(p []byte) (int, error) {
	for done := 0; ; {
		if err := c.beforeWrite(false); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:])
		done += n
		if !c.afterWrite(err) {
			return done, err
		}
	}
}

// ReadFrom keeps the kernel's way from a file or socket to this one.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	rf, ok := c.Conn.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	// What has left the source and not arrived is lost when it is woken, so it
	// cannot be.
	if err := c.beforeWrite(true); err != nil {
		return 0, err
	}
	n, err := rf.ReadFrom(r)
	c.afterWrite(err)
	return n, err
}

func (c *Conn) beforeWrite(exact bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	if c.write.mode == modePhase && (c.h2.on && c.write.blocked == 0 || c.write.start.IsZero()) {
		c.write.start = time.Now()
	}
	c.write.exact = exact
	if err := c.write.arm(c.writeDeadline(), c.Conn.SetWriteDeadline); err != nil {
		return err
	}
	c.write.blocked++
	return nil
}

// afterWrite looks at how a write ended: again means that the deadline came too
// soon.
func (c *Conn) afterWrite(err error) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write.blocked--
	exact := c.write.exact
	c.write.exact = false
	if err == nil || !isTimeout(err) {
		return false
	}
	c.write.stale = true
	if !exact && !over(c.writeDeadline(), time.Now()) {
		return true
	}
	if c.phase != phaseCustom {
		c.dead = err
	}
	return false
}

// writeDeadline is when a Write gives up by what counts now.
func (c *Conn) writeDeadline() time.Time {
	switch c.write.mode {
	case modeUser:
		return c.write.user
	case modeNone:
		return time.Time{}
	case modePhase:
	}
	if c.phase == phaseCustom {
		return time.Time{}
	}
	d := c.registry.timeouts.Load().Write
	if c.h2.leaving != nil && (d <= 0 || d > goAwayTimeout) {
		d = goAwayTimeout
	}
	return after(c.write.start, d)
}

// CloseWrite lets net/http end an answer so that the client can still read it
// when it has sent more than the server wanted.
func (c *Conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline is the user's own deadline, which wins over the live value
// until the request ends; zero is none. From net/http, zero tells where it
// stands.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !t.IsZero() || c.phase == phaseCustom || c.signal >= signalBody:
		c.read.set(t)
		if c.signal == signalBody {
			c.signal = signalEnd
		}
	case c.h2.on: // net/http clears it once, before it hands the connection over
	default:
		c.signal++
		c.read.mode = modePhase
		if c.signal == signalHeader && c.phase == phaseIdle {
			// A part of the request came together with the one before.
			c.read.begin(c.enter(phaseReading))
		}
	}
	if c.read.blocked == 0 {
		return nil
	}
	return c.read.arm(c.readDeadline(), c.Conn.SetReadDeadline)
}

// SetWriteDeadline is the user's own deadline, which wins over the live value
// until the request ends; zero is none.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.h2.on || !t.IsZero() {
		c.write.set(t)
	}
	if c.write.blocked == 0 {
		return nil
	}
	return c.write.arm(c.writeDeadline(), c.Conn.SetWriteDeadline)
}

// Close closes the connection. net/http reports the end of those it owns; for a
// hijacked one this is the only sign.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseCustom {
		c.enter(phaseGone)
	}
	return err
}

// to moves the connection on, as net/http says.
func (c *Conn) to(state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew: // counted when it was accepted
	case http.StateActive:
		c.waitGoAway()
		if c.move(phaseActive) && !c.h2.on {
			c.write.begin(time.Time{})
		}
	case http.StateIdle:
		if c.move(phaseIdle) {
			c.signal = signalNone
			c.read.begin(c.since)
			c.write.begin(time.Time{})
			if c.h2.on {
				// Unlike HTTP/1 it is being read all the time.
				c.rearmRead()
			}
		}
	case http.StateHijacked:
		if c.phase == phaseClosing {
			// net/http does not report it again.
			c.enter(phaseGone)
			return
		}
		c.enter(phaseCustom)
	case http.StateClosed:
		c.enter(phaseGone)
	}
}

// move enters a phase unless the connection is given up.
func (c *Conn) move(p phase) bool {
	if c.phase == phaseClosing || c.phase == phaseGone {
		return false
	}
	c.enter(p)
	return true
}

// enter changes the phase and the counts, and returns when that was.
func (c *Conn) enter(p phase) time.Time {
	if c.phase == p || c.phase == phaseGone {
		return c.since
	}
	c.registry.moved(c, c.kind, c.phase, p)
	c.phase, c.since = p, time.Now()
	if p == phaseGone {
		c.alarm.stop()
	}
	return c.since
}

// retime lets changed timeouts count for what is blocked. What is not looks at
// them by itself.
func (c *Conn) retime() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rearmRead()
	if c.write.blocked > 0 {
		_ = c.write.arm(c.writeDeadline(), c.Conn.SetWriteDeadline)
	}
	c.setAlarm(c.registry.timeouts.Load(), time.Now())
}

// giveUp makes the reader return as if the client had gone, so that net/http
// closes the connection its own way.
func (c *Conn) giveUp() {
	c.enter(phaseClosing)
	c.read.set(longAgo())
	c.rearmRead()
}

// rearmRead lets what the deadline has become count for a Read under way. A
// connection that was closed meanwhile has none to set.
func (c *Conn) rearmRead() {
	if c.read.blocked > 0 {
		_ = c.read.arm(c.readDeadline(), c.Conn.SetReadDeadline)
	}
}

// longAgo is a deadline that has come, whatever the clock says.
func longAgo() time.Time { return time.Unix(1, 0) }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Secured notes the end of the TLS handshake on nc, the connection that the TLS
// connection is on: the header's time begins, and it is known which protocol
// follows.
func (r *Registry) Secured(nc net.Conn, state tls.ConnectionState) {
	c := Of(nc)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.read.mode == modePhase {
		c.read.start = now
	}
	if state.NegotiatedProtocol == "h2" {
		c.becomeH2()
	}
}
