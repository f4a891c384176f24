package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
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

// finished reports whether nothing is served any more. The requests are looked
// at last: one begins only on a connection that is in the set.
func (s *Server) finished() bool {
	return s.registry.Empty() && s.requests.Load() == 0
}

// cutOff closes everything, and notes what that cut off.
func (r *run) cutOff(cause error) {
	r.ended = true
	r.shut(every)
	r.stopMoving(nil)
	for _, a := range r.adopting {
		a.cancel()
		<-a.done
	}
	r.note(r.server.cutOff(cause))
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
	b.WriteString(byKind(cuts))
	if running > 0 {
		fmt.Fprintf(&b, "; handlers still running: %d", running)
	}
	if cause == nil {
		return fmt.Errorf("stop server: %s", b.String())
	}
	return fmt.Errorf("drain server: %w: %s", cause, b.String())
}

// byKind counts what was cut off by the kind of the connection.
func byKind(cuts []liveconn.Cut) string {
	counts := map[liveconn.Kind]int{}
	for _, c := range cuts {
		counts[c.Kind]++
	}
	text := ""
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		sep := ", "
		if text == "" {
			sep = "; by kind: "
		}
		text += fmt.Sprintf("%s%s %d", sep, kind, counts[kind])
	}
	return text
}
