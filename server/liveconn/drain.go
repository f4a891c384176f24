package liveconn

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// drain is what is known of a drain.
type drain struct {
	on     atomic.Bool
	mu     sync.Mutex    // guards what follows
	began  chan struct{} // closed when it has begun
	since  time.Time
	by     time.Time // zero: not known
	spread time.Duration
}

// Drain begins the drain: from now on the counts say so, handlers that asked are
// told, and Changed gets values. It closes nothing. It ends at by, when what is
// left is to be closed; handlers that hold connections are to let them go within
// spread. Called again it changes the two.
func (r *Registry) Drain(by time.Time, spread time.Duration) {
	d := &r.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	d.by, d.spread = by, spread
	if d.on.CompareAndSwap(false, true) {
		d.since = time.Now()
		close(d.began)
	}
}

// Resume ends the drain without an end of the connections. A client that was told
// to leave by then still does.
func (r *Registry) Resume() {
	d := &r.drain
	d.mu.Lock()
	if d.on.CompareAndSwap(true, false) {
		d.began = make(chan struct{})
		d.by = time.Time{}
	}
	d.mu.Unlock()
	for _, c := range r.all() {
		c.mu.Lock()
		if c.h2.left.IsZero() {
			c.h2.leave = false
		}
		c.mu.Unlock()
	}
}

// Draining reports whether the registry drains.
func (r *Registry) Draining() bool { return r.drain.on.Load() }

// Kept names the listeners that a successor serves, by their keys: for their
// clients a drain is no end of the service. nil: there is no successor.
func (r *Registry) Kept(keys map[string]bool) { r.kept.Store(&keys) }

// Served reports whether the service goes on where the connection came from: in
// this process, or in a successor.
func (c *Conn) Served() bool {
	if !c.registry.Draining() {
		return true
	}
	kept := c.registry.kept.Load()
	if kept == nil {
		return false
	}
	_, served := (*kept)[c.options.Key]
	return served
}

// Draining returns a channel that is closed while the server drains. It is for
// handlers that hold a connection for long, hijacked or not. A drain can be
// undone, when a successor has died that was to take over: a handler that has
// not ended by then asks again, and gets a channel for the next drain.
func (c *Conn) Draining() <-chan struct{} {
	d := &c.registry.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.began
}

// Leave returns, while the server drains, when the handler is to let the
// connection go, and when it is closed at the latest; both are zero while it does
// not drain. The first is another time for each connection, spread over
// server.drain.spread, so that not all clients come back in one moment, and the
// same at each call unless the settings change. It is up to the handler; the
// second is not.
func (c *Conn) Leave() (at, by time.Time) {
	d := &c.registry.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.on.Load() {
		return at, by
	}
	at = d.since.Add(time.Duration(c.jitter * float64(d.spread)))
	if !d.by.IsZero() && at.After(d.by) {
		at = d.by
	}
	return at, d.by
}

// Changed gets a value when, during the drain, a connection has moved on or
// Wake was called.
func (r *Registry) Changed() <-chan struct{} { return r.changed }

// Wake makes Changed ready while the registry drains.
func (r *Registry) Wake() {
	if !r.Draining() {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// CloseIdle closes what may be closed without losing a request: what has been
// idle for linger, counted from the start of the drain, and on HTTP/1 not before
// keep. An HTTP/2 connection gets a GOAWAY first, and linger after that. It does
// not wait for the end of anything. It returns when it should be called again;
// zero is never.
//
// A connection that has sent a part of a header is left to the header's
// timeout.
func (r *Registry) CloseIdle(now, drainBegan time.Time, linger time.Duration, keep time.Time) time.Time {
	var next time.Time
	for i, c := range r.all() {
		next = sooner(next, c.closeIdle(now, drainBegan, linger, keep))
		if i%breath == 0 {
			runtime.Gosched()
		}
	}
	return next
}

func (c *Conn) closeIdle(now, drainBegan time.Time, linger time.Duration, keep time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseIdle {
		return time.Time{}
	}
	since := later(c.since, drainBegan)
	if c.h2.on {
		if c.h2.left.IsZero() {
			c.h2.leave = true
			c.rearmRead()
			return now.Add(max(linger, time.Millisecond))
		}
		since = later(since, c.h2.left)
		keep = time.Time{}
	}
	if due := later(since.Add(linger), keep); due.After(now) {
		return due
	}
	c.giveUp()
	return time.Time{}
}

// CloseAll closes every connection, but those that are on their way to another
// process, and returns what that cut off, the oldest first.
func (r *Registry) CloseAll() []Cut {
	var cuts []Cut
	for _, c := range r.all() {
		cuts = append(cuts, c.cutOff()...)
	}
	slices.SortFunc(cuts, func(a, b Cut) int { return a.Began.Compare(b.Began) })
	return cuts
}

func (c *Conn) cutOff() []Cut {
	c.mu.Lock()
	if c.taken {
		c.mu.Unlock()
		return nil // it belongs to whoever moves it
	}
	cuts := c.lost()
	if c.phase != phaseCustom {
		c.enter(phaseClosing)
	}
	c.mu.Unlock()
	_ = c.Close() // outside the lock, which it takes
	return cuts
}

// lost is what closing the connection now cuts off.
func (c *Conn) lost() []Cut {
	var cuts []Cut
	for r := c.inside.first; r != nil; r = r.next {
		cut := Cut{What: r.method + " " + r.path, Began: r.began}
		if c.phase == phaseCustom {
			cut.What += " (hijacked)"
		}
		cuts = append(cuts, cut)
	}
	if cuts == nil {
		what := ""
		switch c.phase {
		case phaseReading:
			what = "half a request"
		case phaseActive:
			what = "the end of an answer"
		case phaseCustom:
			what = "hijacked connection"
		case phaseNew, phaseIdle, phaseClosing, phaseMoved, phaseGone:
			return nil
		}
		cuts = append(cuts, Cut{What: what, Began: c.since})
	}
	class, _ := c.classLocked()
	for i := range cuts {
		cuts[i].Peer, cuts[i].Kind = c.RemoteAddr().String(), class.Kind
	}
	return cuts
}

// Cut is something that was under way on a connection when it was closed.
type Cut struct {
	What  string // a request's method and path, or words
	Kind  Kind   // of the connection
	Peer  string
	Began time.Time
}

// Describe is the cut in words.
func (c Cut) Describe(now time.Time) string {
	return fmt.Sprintf("%s from %s after %s", c.What, c.Peer, now.Sub(c.Began).Round(time.Millisecond))
}
