package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/hotsvc/svc/server/socket"
)

const (
	// releaseQuiet is how long nothing must come on a socket that was released
	// before it is closed: handshakes that had begun end within it, mostly.
	releaseQuiet = 100 * time.Millisecond
	// releaseLimit bounds that.
	releaseLimit = time.Second
)

// accepting is a listener that is served. Run's goroutine uses it, but for
// Accept.
type accepting struct {
	net.Listener

	key      string
	accepted atomic.Uint64
	closing  bool          // by Run
	done     chan struct{} // closed when the accept loop is over; err is set then
	err      error

	released time.Time // zero: not
	quiet    time.Time // nothing came since
	seen     uint64    // accepted by then
}

// Accept counts.
func (a *accepting) Accept() (net.Conn, error) {
	nc, err := a.Listener.Accept()
	if err == nil {
		a.accepted.Add(1)
	}
	return nc, err
}

func (a *accepting) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// accept serves a listener.
func (r *run) accept(ln net.Listener) {
	a := &accepting{Listener: ln, key: socket.KeyOf(ln), done: make(chan struct{})}
	o := r.options
	o.Key = a.key
	serving := r.server.registry.Listener(a, o)
	if r.tls != nil {
		serving = tls.NewListener(serving, r.tls)
	}
	r.accepting = append(r.accepting, a)
	go func() { // shut waits for it
		err := r.http.Serve(serving)
		a.err = fmt.Errorf("accept on %s: %w", addressOf(ln), err)
		close(a.done)
		r.server.wake()
	}()
}

// shut closes the listeners that are chosen, and waits for the end of their accept
// loops: one that was accepted but is not in the registry yet would be lost.
func (r *run) shut(chosen func(*accepting) bool) {
	var rest, closing []*accepting
	var listeners []net.Listener
	for _, a := range r.accepting {
		if !chosen(a) {
			rest = append(rest, a)
			continue
		}
		a.closing = true
		closing, listeners = append(closing, a), append(listeners, a.Listener)
	}
	r.note(closeAll(listeners))
	for _, a := range closing {
		<-a.done
	}
	r.accepting = rest
}

func every(*accepting) bool { return true }

// broken returns why an accept loop has ended that nobody has ended.
func (r *run) broken() error {
	for _, a := range r.accepting {
		if a.over() && !a.closing {
			a.closing = true
			return a.err
		}
	}
	return nil
}

// shutReleased closes what was released, and on which nothing comes any more. It
// returns when to look again; zero is never.
func (r *run) shutReleased(now time.Time) time.Time {
	var next time.Time
	over := map[*accepting]bool{}
	for _, a := range r.accepting {
		if a.released.IsZero() {
			continue
		}
		if n := a.accepted.Load(); n != a.seen {
			a.seen, a.quiet = n, now
		}
		due := a.quiet.Add(releaseQuiet)
		if limit := a.released.Add(releaseLimit); limit.Before(due) {
			due = limit
		}
		if over[a] = !due.After(now); !over[a] {
			next = sooner(next, due)
		}
	}
	if len(over) > 0 {
		r.shut(func(a *accepting) bool { return over[a] })
	}
	return next
}
