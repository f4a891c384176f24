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
	phaseMoved                // taken from net/http, on its way to another process
	phaseGone                 // closed, and no longer in the registry
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
	options  ListenerOptions // of the listener that it came from
	over     bool            // beyond the registry's limit
	movable  bool            // another process can take it, as far as that depends on the listener
	opened   time.Time       // accepted, by whichever process
	jitter   float64         // from 0 to 1: when in a drain it is to leave

	above net.Conn // what net/http knows it as: itself, or the TLS connection on it

	mu     sync.Mutex // guards what follows
	phase  phase
	since  time.Time // when phase began
	signal signal
	read   side
	write  side
	dead   error // every Write fails with it
	// handshake says that the next bytes are the end of one.
	handshake bool
	// unread says that nothing was read from it by this Conn.
	unread bool
	// clean says that the Read under way is the first one of a request of which
	// nothing was read: see mayMove.
	clean bool
	// taken says that net/http has the connection below no longer.
	taken bool

	h2     h2
	hello  *preface // nil: HTTP/2 does not begin without TLS here, or it is decided
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

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close closes the connection. net/http reports the end of those it owns; for a
// hijacked one this is the only sign.
func (c *Conn) Close() error {
	c.mu.Lock()
	taken := c.taken
	c.mu.Unlock()
	if taken {
		return nil
	}
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
	if c.taken {
		return // net/http has seen its end, and it has not ended
	}
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
		// Its owner may use the connection below: none of our deadlines is left
		// there. An error means that it is closed.
		c.read.exact, c.write.exact = true, true
		_ = c.armRead()
		_ = c.armWrite()
	case http.StateClosed:
		c.enter(phaseGone)
	}
}

// move enters a phase unless the connection is given up.
func (c *Conn) move(p phase) bool {
	if c.phase == phaseClosing || c.phase == phaseMoved || c.phase == phaseGone {
		return false
	}
	c.enter(p)
	return true
}

// enter changes the phase, and returns when it began.
func (c *Conn) enter(p phase) time.Time {
	if c.phase == p || c.phase == phaseGone {
		return c.since
	}
	c.phase, c.since = p, time.Now()
	if p == phaseGone {
		c.registry.remove(c)
		c.alarm.stop()
	}
	c.registry.Wake()
	return c.since
}

// retime lets changed timeouts count for what is blocked. What is not looks at
// them by itself.
func (c *Conn) retime() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rearmRead()
	if c.write.blocked > 0 {
		_ = c.armWrite() // it is closed, if this fails
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
	if c.phase == phaseReading {
		// Nothing of a request was read yet. With TLS 1.3 the client's last
		// message of the handshake is still to come, and is none either.
		c.enter(phaseNew)
		c.handshake = state.Version == tls.VersionTLS13
	}
	if state.NegotiatedProtocol == "h2" {
		c.h2.on = true
	}
}
