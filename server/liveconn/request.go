package liveconn

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Request is a request that is served, and its context: it ends when the
// request has used up Timeouts.Request, also when that was changed after it
// began, when the handler has returned, or when the client has gone.
//
// The zero value is ready for Begin. It must not be copied after that.
//
// It is made for a request that needs none of this: while nobody asks for Done,
// nothing is allocated, and one timer serves all requests of a connection.
//
// It has no Deadline of its own. A context promises that successive calls of
// Deadline return the same, and [context.WithTimeout] relies on that: under a
// parent with an earlier deadline it makes no timer, so a child would outlive
// its own limit when the parent's is moved. Use [Deadline] to pass on the limit
// that counts now.
type Request struct {
	//nolint:containedctx // it is one: the values, and the end of net/http's request
	context.Context

	conn         *Conn
	method, path string
	began        time.Time

	// The connection's lock guards these.
	prev, next *Request
	late       bool      // told that the time is over
	body       bool      // on HTTP/2: it has a body
	answer     time.Time // on HTTP/2: its first write; zero: none yet
	readOwn    bool      // the handler has set a read deadline of its own
	writeOwn   bool

	timedOut atomic.Bool
	ended    atomic.Bool
	inner    atomic.Pointer[inner]

	writer http.ResponseWriter // on HTTP/2; not used after the end

	// mu is held while the writer is used, and with a writer while ended
	// changes, so that neither happens during the other. It guards what follows.
	mu     sync.Mutex
	expire func()      // ends inner with what Err says; nil: no inner
	leave  func() bool // takes inner off net/http's context
}

// inner is the context that Done needs. Its own cancel is not used: it could not
// say why.
type inner struct {
	context.Context //nolint:containedctx // it is one
	cancel          context.CancelFunc
}

// requests is a list of them.
type requests struct{ first *Request }

func (l *requests) add(r *Request) {
	if r.next = l.first; r.next != nil {
		r.next.prev = r
	}
	l.first = r
}

func (l *requests) remove(r *Request) {
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}

// Begin starts the request's time. ctx is what values come from; it is made from
// the context of hr, whose connection is in a registry. w is what net/http has
// given. Every Begin needs one End, in the handler.
func (r *Request) Begin(ctx context.Context, c *Conn, w http.ResponseWriter, hr *http.Request, now time.Time) {
	r.Context, r.conn, r.method, r.path, r.began = ctx, c, hr.Method, hr.URL.Path, now
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.h2.on { // PRI of HTTP/2 may reach a handler on HTTP/1
		r.writer = w
		r.body = hr.ContentLength != 0
	}
	c.inside.add(r)
	c.wakeAt(r.due(c.registry.timeouts.Load()), now)
}

// End is the return of the handler. It ends the context.
func (r *Request) End() {
	c := r.conn
	c.mu.Lock()
	c.inside.remove(r)
	begun, own := r.answer, r.writeOwn
	c.mu.Unlock()

	if r.writer == nil {
		r.ended.Store(true)
		// Whoever makes it after this sees that the request has ended.
		if r.inner.Load() != nil {
			r.cancel()
		}
		return
	}
	r.mu.Lock()
	r.ended.Store(true)
	if !own {
		r.limitRest(begun)
	}
	r.mu.Unlock()
	r.cancel()
}

// cancel ends the inner context, if there is one, with what Err says now.
func (r *Request) cancel() {
	r.mu.Lock()
	expire, leave := r.expire, r.leave
	r.expire, r.leave = nil, nil
	r.mu.Unlock()
	if expire != nil {
		leave()
		expire()
	}
}

// limitRest limits what net/http still has to write of an HTTP/2 answer. This
// deadline is no longer live.
func (r *Request) limitRest(begun time.Time) {
	if begun.IsZero() {
		begun = time.Now()
	}
	if end := after(begun, r.conn.registry.timeouts.Load().Write); !end.IsZero() {
		// Without effect where the stream is closed already.
		_ = http.NewResponseController(r.writer).SetWriteDeadline(end)
	}
}

// Answer is called before the header of the answer is written: on HTTP/2 its time
// starts. On HTTP/1 the first write starts it.
func (r *Request) Answer() {
	if r.writer == nil {
		return
	}
	c := r.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.h2.left.IsZero() && r.writer.Header().Get("Connection") == "close" {
		// net/http writes a GOAWAY for this, which names the last stream. A
		// second one must not name a higher one (RFC 9113 section 6.8).
		c.h2.left = time.Now()
	}
	if r.answer.IsZero() {
		now := time.Now()
		r.answer = now
		c.wakeAt(r.due(c.registry.timeouts.Load()), now)
	}
}

// Interim is called after a header that is not yet the answer, such as that of
// 103 (RFC 9110 section 15.2), was written: the answer's time has not started.
func (r *Request) Interim() {
	c := r.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.write.mode == modePhase && c.write.blocked == 0 {
		c.write.start = time.Time{}
	}
}

// OwnReadDeadline notes that the handler has set a read deadline, which wins.
func (r *Request) OwnReadDeadline() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.readOwn = true
}

// OwnWriteDeadline notes that the handler has set a write deadline, which wins.
func (r *Request) OwnWriteDeadline() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.writeOwn = true
}

// TimedOut reports whether the request has used up its time.
func (r *Request) TimedOut() bool { return r.timedOut.Load() }

// Conn returns the request's connection.
func (r *Request) Conn() *Conn { return r.conn }

type requestKey struct{}

// Deadline returns when the request of ctx has used up its time by the timeouts
// that count now. ok is false when there is no limit, and when ctx is not that
// of a request.
func Deadline(ctx context.Context) (deadline time.Time, ok bool) {
	r, _ := ctx.Value(requestKey{}).(*Request)
	if r == nil {
		return time.Time{}, false
	}
	deadline = after(r.began, r.conn.registry.timeouts.Load().Request)
	return deadline, !deadline.IsZero()
}

// Value is that of a context.
func (r *Request) Value(key any) any {
	if key == (requestKey{}) {
		return r
	}
	if in := r.inner.Load(); in != nil {
		return in.Value(key)
	}
	return r.Context.Value(key)
}

// Err is that of a context: context.DeadlineExceeded when the time was over,
// context.Canceled when the handler has returned or the client has gone.
func (r *Request) Err() error {
	if in := r.inner.Load(); in != nil {
		return in.Err()
	}
	return (*source)(r).Err()
}

// Done is that of a context.
func (r *Request) Done() <-chan struct{} {
	in := r.inner.Load()
	if in == nil {
		in = r.makeInner()
	}
	return in.Done()
}

// makeInner makes a context of the standard library's own kind, so that what is
// derived from this one costs no goroutine however it is wrapped.
func (r *Request) makeInner() *inner {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.inner.Load(); in != nil {
		return in
	}
	ctx, cancel := context.WithCancel((*source)(r)) //nolint:gosec // it ends with its parent, by End at the latest
	in := &inner{ctx, cancel}
	r.inner.Store(in)
	if r.ended.Load() || r.timedOut.Load() {
		r.expire()
	}
	return in
}

// source is the parent of a request's inner context: it tells the end of the
// request.
type source Request

func (s *source) Deadline() (time.Time, bool) { return s.Context.Deadline() }
func (s *source) Value(key any) any           { return s.Context.Value(key) }

// Done is asked for by the standard library before it calls AfterFunc, and by
// nobody else.
func (s *source) Done() <-chan struct{} { return s.conn.registry.never }

func (s *source) Err() error {
	switch {
	case s.timedOut.Load():
		return context.DeadlineExceeded
	case s.ended.Load():
		return context.Canceled
	default:
		return s.Context.Err()
	}
}

// AfterFunc is called once, for makeInner, with the lock held.
func (s *source) AfterFunc(f func()) (stop func() bool) {
	s.expire, s.leave = f, context.AfterFunc(s.Context, f)
	return s.leave
}
