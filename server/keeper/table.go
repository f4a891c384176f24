package keeper

import (
	"maps"
	"time"
)

// State is what a generation is doing.
type State string

// The states. Gone is the one that nobody sees.
const (
	StateStarting  State = "starting"  // it builds its configuration
	StatePrepared  State = "prepared"  // it has everything, and waits for the commit
	StateProbation State = "probation" // it accepts; the one before can still take over again
	StateServing   State = "serving"
	StateDraining  State = "draining" // a successor accepts, or it was told to stop
	StateGone      State = "gone"
)

// Table is what the keeper knows. It is what keeper.sock answers.
type Table struct {
	KeeperPID int       `json:"keeper_pid"`
	Version   string    `json:"version"` // of the keeper's own program
	Since     time.Time `json:"since"`
	// Serving is the generation that accepts; 0: none does.
	Serving     int          `json:"serving"`
	Generations []Generation `json:"generations"`
	Listeners   []string     `json:"listeners"`
	// LastRestart is the last one that was tried.
	LastRestart *Restart `json:"last_restart,omitempty"`
	// Restarts counts those that were done, RestartSeconds is their time
	// together, and Failed counts the others, all since the keeper's start.
	Restarts       uint64  `json:"restarts"`
	RestartSeconds float64 `json:"restart_seconds"`
	Failed         uint64  `json:"restarts_failed"`
	// Trouble says why no generation serves, why the next try waits, or that one has
	// died on probation and the one before serves again.
	Trouble  string `json:"trouble,omitempty"`
	Stopping bool   `json:"stopping,omitempty"`
}

// Generation is one worker process.
type Generation struct {
	Number  int       `json:"number"`
	PID     int       `json:"pid"`
	State   State     `json:"state"`
	Since   time.Time `json:"since"` // when the state began
	Version string    `json:"version"`
	// Reason says why it was started, or why it drains.
	Reason string `json:"reason"`
	// Connections are those it holds, by kind; of a draining one, and at most a
	// second old.
	Connections map[string]int `json:"connections"`
	// Holds are the addresses that it still listens on.
	Holds []string `json:"holds"`
	// By is when a drain must have ended.
	By *time.Time `json:"by,omitempty"`
}

// Restart is how one went.
type Restart struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	// Outcome is "done", "failed", "superseded" by a newer one, or "undone": the
	// new generation died on probation.
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
	// Generation is the one that was started; 0 where it came to none.
	Generation int `json:"generation"`
	// Seconds are from the trigger to the new generation's accepting.
	Seconds float64 `json:"seconds"`
}

// The outcomes of a restart.
const (
	outcomeDone       = "done"
	outcomeFailed     = "failed"
	outcomeSuperseded = "superseded"
	outcomeUndone     = "undone"
)

// Error is what became of a restart that did not succeed, or of an address that
// could not be opened.
type Error struct {
	Text string
	// Environment says that something else than the content was to blame, so
	// that a later try may succeed.
	Environment bool
}

func (e *Error) Error() string { return e.Text }

// Retryable is how package reload asks.
func (e *Error) Retryable() bool { return e.Environment }

func cloneHeld(held map[string]int) map[string]int {
	if held == nil {
		return map[string]int{}
	}
	return maps.Clone(held)
}
