package liveconn

import "time"

// Timeouts limit the phases of a connection and of a request. 0, and anything
// below, is no limit.
type Timeouts struct {
	// ReadHeader is for the header of a request, from its first byte on; on a
	// new connection from the accept on, or from the end of the TLS handshake,
	// which gets as much time again.
	ReadHeader time.Duration
	// Read is for the header and the body together. Where it is shorter than
	// ReadHeader, it counts for the header too.
	Read time.Duration
	// Write is for an answer, from its first byte to its last; what a handler
	// does before that does not count. On an HTTP/2 connection it also bounds
	// each single write to the network.
	Write time.Duration
	// Idle is for the wait for the next request.
	Idle time.Duration
	// Request is for a handler, from the header to its return. It ends the
	// request's context.
	Request time.Duration
}

// header is the limit of a header: the shorter one of the two that count.
func (t *Timeouts) header() time.Duration {
	if t.ReadHeader <= 0 || t.Read > 0 && t.Read < t.ReadHeader {
		return t.Read
	}
	return t.ReadHeader
}

// after is start + d, and zero, which is never, where d is no limit.
func after(start time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return start.Add(d)
}

// sooner is the earlier one of two times of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// over reports whether a deadline, of which zero is never, has come.
func over(deadline, now time.Time) bool {
	return !deadline.IsZero() && !now.Before(deadline)
}

// longAgo is a deadline that has come, whatever the clock says.
func longAgo() time.Time { return time.Unix(1, 0) }

// isLongAgo reports whether a deadline is like that one, by which net/http
// interrupts, and so spares a look at the clock.
func isLongAgo(t time.Time) bool { return t.Unix() <= 1 && !t.IsZero() }
