package liveconn

import (
	"bytes"
	"io"
	"time"
)

const (
	// goAwayTimeout bounds the write of our GOAWAY. New streams wait for it.
	goAwayTimeout = time.Second
	// goAwayGrace is how long an idle connection stays open after a GOAWAY, for
	// requests that were on their way.
	goAwayGrace = 5 * time.Second
	// goAwayLull is how long nothing must have been written before our GOAWAY:
	// net/http calls a connection idle before it has flushed its buffer, which
	// may begin in the middle of a frame, or with its first SETTINGS.
	goAwayLull = 50 * time.Millisecond
	// goAwayUnflushed is the same where nothing was written since it is idle,
	// which is so when the client has reset the last stream.
	goAwayUnflushed = time.Second
)

// h2 is what a connection knows when it speaks HTTP/2.
type h2 struct {
	on bool
	// leave asks for a GOAWAY as soon as the connection is idle.
	leave bool
	// leaving is not nil while our GOAWAY is written, and closed then.
	leaving chan struct{}
	left    time.Time // when it was written; zero: not yet
	retry   time.Time // it is not tried before
	wrote   time.Time // when the last write ended
}

// preface looks for the start of an HTTP/2 connection without TLS (RFC 9113
// section 3.4).
type preface struct{ rest []byte }

func newPreface() *preface { return &preface{[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")} }

// detect compares what a new connection sends with the preface.
func (c *Conn) detect(p []byte) {
	n := min(len(p), len(c.hello.rest))
	if !bytes.Equal(p[:n], c.hello.rest[:n]) {
		c.hello = nil
		return
	}
	if c.hello.rest = c.hello.rest[n:]; len(c.hello.rest) == 0 {
		c.hello = nil
		c.h2.on = true
	}
}

// h2Deadline is when a Read gives up. There is none while streams are open: it
// would end them all, with nothing said to the client.
func (c *Conn) h2Deadline(t *Timeouts) time.Time {
	switch c.phase {
	case phaseIdle:
		idle := after(c.read.start, t.Idle)
		switch {
		case !c.h2.left.IsZero():
			return later(c.h2.left, c.since).Add(goAwayGrace)
		case c.h2.leave:
			return later(c.read.start, c.h2.retry)
		case idle.IsZero():
			return idle
		}
		return later(idle, c.h2.retry)
	case phaseNew, phaseReading:
		return after(c.read.start, t.header())
	case phaseActive, phaseCustom, phaseClosing, phaseMoved, phaseGone:
	}
	return time.Time{}
}

// idleOver is called when a Read of an HTTP/2 connection has no time left. An
// idle connection is told first: a client that gets a GOAWAY sends what it was
// about to send elsewhere, and what is on its way here is served.
func (c *Conn) idleOver(now time.Time) (again bool, _ int, _ error) {
	if !c.h2.left.IsZero() {
		return false, 0, io.EOF
	}
	quiet := c.h2.wrote.Add(goAwayLull)
	if !c.h2.wrote.After(c.since) {
		quiet = c.since.Add(goAwayUnflushed)
	}
	if c.write.blocked > 0 || now.Before(quiet) {
		c.h2.retry = now.Add(goAwayLull)
		return true, 0, nil
	}
	done := make(chan struct{})
	c.h2.leaving = done
	c.mu.Unlock()
	err := c.sayGoAway()
	c.mu.Lock()
	c.h2.leaving = nil
	close(done)
	if err != nil {
		return false, 0, io.EOF
	}
	c.h2.left = time.Now()
	return true, 0, nil
}

// sayGoAway writes a GOAWAY that refuses no stream yet (RFC 9113 section 6.8):
// the last stream identifier is the highest there is. net/http has no such call
// for one connection. No stream is open and to waits for the end of this, so no
// frame of net/http can be cut in two by it.
func (c *Conn) sayGoAway() error {
	_, err := c.above.Write([]byte{
		0, 0, 8, // length
		7, 0, // GOAWAY, no flags
		0, 0, 0, 0, // of the connection
		0x7f, 0xff, 0xff, 0xff, // last stream
		0, 0, 0, 0, // NO_ERROR
	})
	return err
}

// waitGoAway waits until no GOAWAY of ours is being written, which takes
// goAwayTimeout at most.
func (c *Conn) waitGoAway() {
	for c.h2.leaving != nil {
		done := c.h2.leaving
		c.mu.Unlock()
		<-done
		c.mu.Lock()
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
