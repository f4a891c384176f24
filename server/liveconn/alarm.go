package liveconn

import (
	"net/http"
	"time"
)

// alarm is the one timer of a connection, for the requests on it. Like a
// deadline it is moved only when it would come too late, so that most requests
// do not touch it. The connection's lock guards it.
type alarm struct {
	timer *time.Timer
	due   time.Time // zero: it is not set
}

// wakeAt makes the alarm come at due at the latest; zero is never.
func (c *Conn) wakeAt(due, now time.Time) {
	a := &c.alarm
	if due.IsZero() || !a.due.IsZero() && !due.Before(a.due) {
		return
	}
	a.due = due
	if a.timer == nil {
		a.timer = time.AfterFunc(due.Sub(now), c.ring)
		return
	}
	a.timer.Reset(due.Sub(now))
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// due is when something of the request is over by t; zero is never.
func (r *Request) due(t *Timeouts) time.Time {
	request, read, write := r.dues(t)
	return sooner(sooner(request, read), write)
}

// dues are the ends of the request's time, and on HTTP/2 of its body's and its
// answer's; zero is never, or already told.
func (r *Request) dues(t *Timeouts) (request, read, write time.Time) {
	if !r.late && r.conn.phase != phaseCustom {
		request = after(r.began, t.Request)
	}
	if r.body && !r.readOwn {
		read = after(r.began, t.Read)
	}
	if !r.answer.IsZero() && !r.writeOwn {
		write = after(r.answer, t.Write)
	}
	return request, read, write
}

// setAlarm sets the alarm for the requests on the connection.
func (c *Conn) setAlarm(t *Timeouts, now time.Time) {
	for r := c.inside.first; r != nil; r = r.next {
		c.wakeAt(r.due(t), now)
	}
}

// end is what is over of a request.
type end struct {
	request             *Request
	handler, body, sent bool
}

// ring ends what is over, and sets the alarm again for the rest.
func (c *Conn) ring() {
	now := time.Now()
	c.mu.Lock()
	c.alarm.due = time.Time{}
	t := c.registry.timeouts.Load()
	var ends []end
	for r := c.inside.first; r != nil; r = r.next {
		request, read, write := r.dues(t)
		e := end{r, over(request, now), over(read, now), over(write, now)}
		if e.handler || e.body || e.sent {
			r.late = r.late || e.handler
			r.readOwn = r.readOwn || e.body // it needs to be told once
			r.writeOwn = r.writeOwn || e.sent
			ends = append(ends, e)
		}
	}
	if c.phase != phaseGone {
		c.setAlarm(t, now)
	}
	c.mu.Unlock()
	for _, e := range ends {
		e.tell()
	}
}

// tell makes the end known to whoever works for the request.
func (e end) tell() {
	r := e.request
	if e.handler && r.Context.Err() == nil { // a context does not change its mind
		r.timedOut.Store(true)
		r.cancel()
	}
	if !e.body && !e.sent {
		return
	}
	// This may wait for the serving loop of the HTTP/2 connection, and that
	// for the connection's lock, which is not held here.
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended.Load() {
		return // net/http panics when the deadline of such a stream is set
	}
	// An error means that the stream is closed already.
	rc := http.NewResponseController(r.writer)
	if e.body {
		_ = rc.SetReadDeadline(longAgo())
	}
	if e.sent {
		_ = rc.SetWriteDeadline(longAgo())
	}
}
