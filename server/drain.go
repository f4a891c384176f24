package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrDrainTimeout is returned by [Server.Run] when server.drain.timeout was over
// before all requests had ended.
var ErrDrainTimeout = errors.New("server.drain.timeout is over")

const (
	// maxLinger is how long an idle connection stays open in a drain. A client
	// that is about to use it sends a request within that time, mostly, and is
	// told by the answer not to use it again; one that sends a request in the
	// moment of the close cannot know whether it was executed.
	maxLinger = time.Second
	// drainCheck is how soon a changed server.drain.timeout counts.
	drainCheck = 500 * time.Millisecond
	// cutGrace is what handlers get to return in when their connections were
	// closed under them.
	cutGrace = time.Second
	// maxNamed is how many cut off requests an error names.
	maxNamed = 3
)

// drain waits until every connection is closed and every handler has returned.
// The accept loops are over.
func (s *Server) drain(ctx context.Context) error {
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if s.stopped() {
			return s.cutOff(nil)
		}
		now := time.Now()
		limit := s.config(ctx).Drain.Timeout
		// Half the limit leaves the closed ones time to be gone.
		next := s.registry.CloseIdle(now, began, min(maxLinger, limit/2))
		if s.finished() {
			return nil
		}
		left := limit - now.Sub(began)
		if left <= 0 {
			return s.cutOff(ErrDrainTimeout)
		}
		wait := min(left, drainCheck)
		if !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		timer.Reset(wait)
		select {
		case <-s.stop:
		case <-s.registry.Changed():
		case <-timer.C:
		}
	}
}

// finished reports whether nothing is served any more. The requests are looked
// at last: one begins only on a connection that is in the set.
func (s *Server) finished() bool {
	return s.registry.Empty() && s.requests.Load() == 0
}

// cutOff closes everything and returns what that cut off, as an error; nil when
// it was nothing.
func (s *Server) cutOff(cause error) error {
	began := time.Now()
	cuts := s.registry.CloseAll()
	timer := time.NewTimer(cutGrace)
	defer timer.Stop()
	for late := false; !late && !s.finished(); {
		select {
		case <-s.registry.Changed():
		case <-timer.C:
			late = true
		}
	}
	running := s.requests.Load()
	if len(cuts) == 0 && running == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d cut off", len(cuts))
	for i, c := range cuts {
		if i == maxNamed {
			fmt.Fprintf(&b, ", and %d more", len(cuts)-i)
			break
		}
		sep := ": "
		if i > 0 {
			sep = ", "
		}
		b.WriteString(sep + c.Describe(began))
	}
	if running > 0 {
		fmt.Fprintf(&b, "; handlers still running: %d", running)
	}
	if cause == nil {
		return fmt.Errorf("stop server: %s", b.String())
	}
	return fmt.Errorf("drain server: %w: %s", cause, b.String())
}
