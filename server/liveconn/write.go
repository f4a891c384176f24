package liveconn

import (
	"io"
	"time"
)

// Write writes all of p, and gives up when the live value, or the user's own
// deadline, says so. After that every Write fails at once: half an answer cannot
// be gone on with, and the alert by which TLS says good-bye would wait for the
// peer once more.
func (c *Conn) Write(p []byte) (int, error) {
	for done, again := 0, false; ; again = true {
		if err := c.beforeWrite(false, again); err != nil {
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
	if err := c.beforeWrite(true, false); err != nil {
		return 0, err
	}
	n, err := rf.ReadFrom(r)
	c.afterWrite(err)
	return n, err
}

func (c *Conn) beforeWrite(exact, again bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	if c.write.mode == modePhase && (c.h2.on && !again && c.write.blocked == 0 || c.write.start.IsZero()) {
		c.write.start = time.Now()
	}
	c.write.exact = exact || c.phase == phaseCustom
	if err := c.armWrite(); err != nil {
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
	c.write.exact = c.phase == phaseCustom
	if c.h2.on {
		c.h2.wrote = time.Now()
	}
	if err == nil || !isTimeout(err) {
		return false
	}
	now := time.Now()
	if exact && !over(c.write.armed, now) {
		return false // it is the source that has timed out
	}
	c.write.stale = true
	if !exact && !over(c.writeDeadline(), now) {
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
	c.mu.Lock()
	taken := c.taken
	c.mu.Unlock()
	if taken {
		return nil
	}
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// SetWriteDeadline is the user's own deadline, which wins over the live value
// until the request ends; zero is none.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.h2.on || !t.IsZero() {
		c.write.set(t)
	}
	if c.write.blocked == 0 && c.phase != phaseCustom {
		return nil
	}
	return c.armWrite()
}

// armWrite sets the deadline of the connection below as far as it must be.
func (c *Conn) armWrite() error { return c.write.arm(c.writeDeadline(), c.Conn.SetWriteDeadline) }
