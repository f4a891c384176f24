package liveconn

import (
	"fmt"
	"slices"
	"time"
)

// Drain begins the drain: from now on the counts say so, and Changed gets
// values. It closes nothing.
func (r *Registry) Drain() { r.draining.Store(true) }

// Draining reports whether Drain was called.
func (r *Registry) Draining() bool { return r.draining.Load() }

// Changed gets a value when, during the drain, a connection has moved on or
// Wake was called.
func (r *Registry) Changed() <-chan struct{} { return r.changed }

// Wake makes Changed ready while the registry drains.
func (r *Registry) Wake() {
	if !r.draining.Load() {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// CloseIdle closes what may be closed without losing a request: what has been
// idle for linger, counted from the start of the drain. An HTTP/2 connection
// gets a GOAWAY first, and linger after that. It does not wait for the end of
// anything. It returns when it should be called again; zero is never.
//
// A connection that has sent a part of a header is left to the header's
// timeout.
func (r *Registry) CloseIdle(now, drainBegan time.Time, linger time.Duration) time.Time {
	var next time.Time
	for _, c := range r.all() {
		next = sooner(next, c.closeIdle(now, drainBegan, linger))
	}
	return next
}

func (c *Conn) closeIdle(now, drainBegan time.Time, linger time.Duration) time.Time {
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
	}
	if due := since.Add(linger); due.After(now) {
		return due
	}
	c.giveUp()
	return time.Time{}
}

// CloseAll closes every connection and returns what that cut off, the oldest
// first.
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
		case phaseNew, phaseIdle, phaseClosing, phaseGone:
			return nil
		}
		cuts = append(cuts, Cut{What: what, Began: c.since})
	}
	for i := range cuts {
		cuts[i].Peer = c.RemoteAddr().String()
	}
	return cuts
}

// Cut is something that was under way on a connection when it was closed.
type Cut struct {
	What  string // a request's method and path, or words
	Peer  string
	Began time.Time
}

// Describe is the cut in words.
func (c Cut) Describe(now time.Time) string {
	return fmt.Sprintf("%s from %s after %s", c.What, c.Peer, now.Sub(c.Began).Round(time.Millisecond))
}
