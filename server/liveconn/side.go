package liveconn

import "time"

// mode says who decides about the deadline of one side of a connection.
type mode uint8

const (
	modePhase mode = iota // we: the start of the phase + the live value
	modeNone              // nobody: no deadline
	modeUser              // whoever set one from above; it always wins
)

// side is the deadline of reading, or of writing. The connection's lock guards
// it.
//
// The deadline of the connection below, armed, is not set whenever the wanted
// one changes. It is set when an operation is about to block, or is blocked,
// and only when it would come too late. One that comes too soon wakes the
// operation, which then looks again. So a request on a busy connection sets
// none at all, most of the time.
type side struct {
	mode    mode
	start   time.Time // of the phase; zero: it has not begun
	user    time.Time // in modeUser
	armed   time.Time // of the connection below; zero: none
	stale   bool      // armed has come: every operation fails until it is set again
	blocked int       // operations that may be blocked in the connection below
	// exact says that an operation under way cannot be woken and go on, so
	// that armed must be the wanted deadline.
	exact bool
}

// set is a deadline from above; zero is none.
func (s *side) set(t time.Time) {
	if t.IsZero() {
		s.mode, s.user = modeNone, t
		return
	}
	s.mode, s.user = modeUser, t
}

// begin starts a phase.
func (s *side) begin(start time.Time) { s.mode, s.start = modePhase, start }

// arm sets the deadline of the connection below where it would come too late
// for want, or is past.
func (s *side) arm(want time.Time, set func(time.Time) error) error {
	if !s.stale && (s.armed.Equal(want) || !s.exact && !s.armed.IsZero() && (want.IsZero() || s.armed.Before(want))) {
		return nil
	}
	if err := set(want); err != nil {
		return err
	}
	s.armed = want
	s.stale = isLongAgo(want)
	return nil
}
