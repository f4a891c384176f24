package reload

import (
	"encoding/hex"
	"strings"
	"time"
)

// Outcome is what became of a change.
type Outcome string

const (
	Applied         Outcome = "applied"          // in force, whole
	Unchanged       Outcome = "unchanged"        // the content is the one in force
	Refused         Outcome = "refused"          // the content is no good; waits for other content
	Failed          Outcome = "failed"           // the environment is no good; tried again
	Restarted       Outcome = "restarted"        // a new process took over with it
	RestartFailed   Outcome = "restart_failed"   // it needs a restart, which did not succeed; its live part may be in force
	RestartRequired Outcome = "restart_required" // it needs a restart, which nobody here can do; its live part may be in force
)

// Good reports whether the content is in force as a whole.
func (o Outcome) Good() bool {
	return o == Applied || o == Unchanged || o == Restarted
}

// Action is what was done to bring a change into force.
type Action string

const (
	ActionNone    Action = "none"
	ActionInPlace Action = "in_place"
	ActionRestart Action = "restart"
)

// Trigger is what led to a history entry.
type Trigger string

const (
	TriggerStart    Trigger = "start"
	TriggerChange   Trigger = "change"
	TriggerReload   Trigger = "reload"
	TriggerRollback Trigger = "rollback"
	TriggerResume   Trigger = "resume"
	TriggerRetry    Trigger = "retry"
)

// Entry is one change and what became of it. It holds no values.
type Entry struct {
	// ID numbers the entries of a state folder, from 1.
	ID int64     `json:"id"`
	At time.Time `json:"at"`
	// Revision names the content that was tried; InForce the content that is
	// in force after it, where that is another one.
	Revision string  `json:"revision,omitempty"`
	InForce  string  `json:"in_force,omitempty"`
	Trigger  Trigger `json:"trigger"`
	Outcome  Outcome `json:"outcome"`
	Action   Action  `json:"action"`
	Reason   string  `json:"reason"`
	// Changed are the settings whose values differ from those in force before,
	// also where the change was refused. A list counts as one setting. There
	// are 500 at the most; ChangedMore counts the others.
	Changed     []string `json:"changed"`
	ChangedMore int      `json:"changed_more,omitempty"`
	// Restart are those settings that need a restart, 500 at the most.
	Restart []string `json:"restart,omitempty"`
	// Sources has each source's own name for its state: release key, index, commit.
	Sources map[string]string `json:"sources,omitempty"`
	// StagesMS tells when each stage was reached, in milliseconds since the
	// first of them that is known: published, notified, fetched, built, applied.
	StagesMS map[string]float64 `json:"stages_ms"`
}

const (
	maxChanged = 500
	maxReason  = 16 << 10
)

// bound keeps an entry small, however large the content: it is written down,
// and shown to people.
func (e Entry) bound() Entry {
	if extra := len(e.Changed) - maxChanged; extra > 0 {
		e.Changed, e.ChangedMore = e.Changed[:maxChanged], extra
	}
	if len(e.Restart) > maxChanged {
		e.Restart = e.Restart[:maxChanged]
	}
	if len(e.Reason) > maxReason {
		e.Reason = strings.ToValidUTF8(e.Reason[:maxReason], "") + " ..."
	}
	if e.StagesMS == nil {
		e.StagesMS = map[string]float64{}
	}
	return e
}

// The stages of a change, in order.
const (
	stagePublished = "published"
	stageNotified  = "notified"
	stageFetched   = "fetched"
	stageBuilt     = "built"
	stageApplied   = "applied"
)

// stages collects when each stage was reached.
type stages struct {
	published, notified, fetched, built, applied time.Time
}

func (s stages) list() []stage {
	return []stage{
		{stagePublished, s.published},
		{stageNotified, s.notified},
		{stageFetched, s.fetched},
		{stageBuilt, s.built},
		{stageApplied, s.applied},
	}
}

type stage struct {
	name string
	at   time.Time
}

func (s stages) milliseconds() map[string]float64 {
	var first time.Time
	out := map[string]float64{}
	for _, st := range s.list() {
		if st.at.IsZero() {
			continue
		}
		if first.IsZero() {
			first = st.at
		}
		// Backends have clocks of their own; a stage before the first counts as with it.
		out[st.name] = max(0, float64(st.at.Sub(first).Microseconds())/1000)
	}
	return out
}

func revisionID(hash [32]byte) string { return hex.EncodeToString(hash[:6]) }
