package server

import (
	"context"
	"net"
	"time"

	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/liveconn"
)

var _ keeper.Service = (*Server)(nil)

// Handover begins a drain in favour of a successor, or changes the successor.
// Listeners that it keeps are closed at once, the others are served until
// Release. Idle HTTP/1 connections without TLS move to it where Kept allows it,
// as soon as they are idle, and their answers do not end them. All other answers
// say "Connection: close"; on HTTP/2 a GOAWAY is said, and a second later an idle
// connection is closed. What is idle and cannot move is left to its client: its
// next answer ends it, or server.timeout.idle, or a second before the drain's end
// the server does.
//
// When the drain's time is over, what is left is closed, as Run describes it. Run
// returns when all is drained, and Settle was called or its context has ended.
//
// The stream to the successor is the Server's from then on. It is closed when
// nothing is left to move, with the next Handover or Resume, and when the
// successor does not take what it is sent within 5 seconds: what it has not taken
// is served here then.
//
// Like Release, DrainBy, Resume and Settle it may be called from any goroutine
// once Run was called. It waits until Run takes note, which takes the time of an
// accept loop's end at most, or a second while connections are cut off. After Run
// it does nothing but close what it was given.
func (s *Server) Handover(h keeper.Handover) {
	if !s.tell(func(r *run) { r.handOver(h) }) {
		closeMoves(h)
	}
}

func closeMoves(h keeper.Handover) {
	if h.Moves != nil {
		_ = h.Moves.Close() // nothing was sent
	}
}

// DrainBy changes when the drain that Handover began must have ended.
func (s *Server) DrainBy(t time.Time) {
	s.tell(func(r *run) {
		if r.stage != stageServing {
			r.by, r.scan.need = t, true
		}
	})
}

// Release ends the accepting on the listeners with these keys, which the
// successor has given up. They are closed when nothing has come for 100 ms, a
// second later at most. Nothing new must come on them any more: what comes after
// the close is lost, unless another process has the socket.
func (s *Server) Release(keys []string) {
	s.tell(func(r *run) { r.release(keys) })
}

// Resume undoes a Handover: the server accepts on the listeners, and on those that
// were given up and not closed yet. Connections that the successor has taken, or
// that were told to end, are not got back. A listener whose key is served
// already is closed. Without a Handover, it adds listeners.
func (s *Server) Resume(listeners []net.Listener) {
	if !s.tell(func(r *run) { r.resume(listeners) }) {
		_ = closeAll(listeners) // nobody serves them
	}
}

// Settle says that there will be no Resume: Run may return when all is drained. It
// counts for the successors that follow, too.
func (s *Server) Settle() {
	s.tell(func(r *run) { r.settled = true })
}

// tell has Run's goroutine do something. It returns false when Run has returned.
func (s *Server) tell(f func(*run)) bool { return s.tellUntil(context.Background(), f) }

func (s *Server) tellUntil(ctx context.Context, f func(*run)) bool {
	select {
	case s.commands <- f:
		return true
	case <-s.over:
	case <-ctx.Done():
	}
	return false
}

// wake has Run's goroutine look at what has ended.
func (s *Server) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// Plain reports whether Run serves without TLS, so that connections may move
// here. It may be called before Run.
func (s *Server) Plain() bool { return !s.config(context.Background()).TLS.On() }

// Limits are the settings that a drain goes by. It may be called before Run.
func (s *Server) Limits() keeper.Limits {
	d := &s.config(context.Background()).Drain
	return keeper.Limits{Timeout: d.Timeout, Overlap: d.Overlap, Generations: d.MaxGenerations}
}

// Draining reports whether the server drains.
func (s *Server) Draining() bool { return s.registry.Draining() }

// Connections returns how many connections are open, by kind and state, zeros
// included.
func (s *Server) Connections() map[liveconn.Class]int { return s.registry.Counts() }

// Held returns how many connections are open, by kind, without zeros.
func (s *Server) Held() map[string]int {
	held := map[string]int{}
	for class, n := range s.registry.Counts() {
		if n > 0 {
			held[string(class.Kind)] += n
		}
	}
	return held
}

// List returns the open connections, the oldest first, at most limit of them; 0,
// or less, is all.
func (s *Server) List(limit int) []liveconn.Info { return s.registry.List(limit) }
