package liveconn

import (
	"io"
	"time"
)

// Read reads, and gives up when the live value says so.
//
// The first bytes of a request are noted: net/http calls the connection active
// only when it has the whole header. What net/http has read together with the
// request before is noted when it asks for it.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if err := c.beforeRead(len(p)); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		again, n, err := c.afterRead(p, n, err)
		if !again {
			return n, err
		}
	}
}

// beforeRead is told the size of the buffer.
func (c *Conn) beforeRead(size int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseClosing || c.taken {
		return io.EOF
	}
	if c.clean = c.mayMove(size); c.clean && c.detach() {
		return io.EOF
	}
	if err := c.armRead(); err != nil {
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
	clean := c.clean
	c.clean = false
	if c.phase == phaseClosing {
		// It was given up between the arrival of the bytes and now. A request
		// that cannot be answered must not be executed.
		return false, 0, io.EOF
	}
	if n > 0 {
		c.unread = false
		c.received(p[:n])
	}
	if err == nil || !isTimeout(err) {
		return false, n, err
	}
	c.read.stale = true
	if n > 0 {
		return false, n, nil
	}
	if clean && c.detach() {
		// The end is what net/http takes without an answer, on a new connection
		// too.
		return false, 0, io.EOF
	}
	deadline := c.readDeadline()
	if isLongAgo(deadline) {
		return false, 0, err // interrupted
	}
	now := time.Now()
	if !over(deadline, now) {
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
	case c.handshake:
		c.handshake = false
	case c.phase == phaseNew:
		c.enter(phaseReading)
	case c.phase == phaseIdle:
		now := c.enter(phaseReading)
		if c.read.mode == modePhase {
			c.read.start = now
		}
	case c.signal != signalEnd && c.write.blocked == 0:
		// A handler that first reads and then answers must not have spent
		// the answer's time on reading, nor a TLS handshake its own on the
		// client's. A write under way keeps its time.
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

// SetReadDeadline is the user's own deadline, which wins over the live value
// until the request ends; zero is none. From net/http, zero tells where it
// stands.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !t.IsZero() || c.phase == phaseCustom || c.signal >= signalBody:
		c.read.set(t)
		if c.signal == signalBody && t.IsZero() {
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
	if c.read.blocked == 0 && c.phase != phaseCustom {
		return nil
	}
	return c.armRead()
}

// armRead sets the deadline of the connection below as far as it must be.
func (c *Conn) armRead() error { return c.read.arm(c.readDeadline(), c.Conn.SetReadDeadline) }

// rearmRead lets what the deadline has become count for a Read under way. A
// connection that was closed meanwhile has none to set.
func (c *Conn) rearmRead() {
	if c.read.blocked > 0 {
		_ = c.armRead()
	}
}
