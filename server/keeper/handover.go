package keeper

import (
	"context"
	"net"
	"time"
)

// Handover tells a worker how to leave its work to its successor.
type Handover struct {
	// Successor is the generation that accepts now.
	Successor int
	// Kept are the sockets that the successor accepts on, by their keys. The
	// value tells whether it does so without TLS, so that idle connections may
	// move to it. What is not in it was given up: the worker goes on accepting
	// there until it is told to release it.
	Kept map[string]bool
	// Moves is where idle connections go; nil: nowhere. Whoever gets the
	// Handover closes it.
	Moves *net.UnixConn
	// By is when the drain must have ended.
	By time.Time
}

// Service is what a worker serves with; [github.com/hotsvc/svc/server.Server] is
// one. Run is called once; the other methods are called while it runs, from
// another goroutine, and must not wait for it.
type Service interface {
	// Run serves on the listeners until ctx ends and everything is drained, or
	// a drain that Handover began is over and Settle was called. It closes the
	// listeners.
	Run(ctx context.Context, listeners []net.Listener) error
	// Handover begins a drain. Called again, it names another successor: its
	// Kept counts from then on, and its Moves replaces the one before, which is
	// closed at once.
	Handover(Handover)
	// DrainBy changes when the drain must have ended.
	DrainBy(time.Time)
	// Release ends the accepting on sockets that were given up: what is queued
	// there is accepted, then they are closed. Nothing new comes any more.
	Release(keys []string)
	// Resume ends the drain: the successor has died. The listeners are for
	// what was closed.
	Resume(listeners []net.Listener)
	// Settle says that there will be no Resume.
	Settle()
	// Adopt serves the connections that a predecessor moves, until the stream
	// ends, which it waits for. It closes the stream.
	Adopt(ctx context.Context, from *net.UnixConn) error
	// Held counts the open connections by kind.
	Held() map[string]int
	// Plain reports whether it serves without TLS.
	Plain() bool
	// Limits are the settings that the drain goes by now.
	Limits() Limits
	// Close ends Run at once, and cuts off what is under way.
	Close() error
}

// Limits are the settings of a drain.
type Limits struct {
	// Timeout bounds a drain.
	Timeout time.Duration `json:"timeout"`
	// Overlap is how long an address that was given up is still served.
	Overlap time.Duration `json:"overlap"`
	// Generations is how many old generations may drain at once.
	Generations int `json:"generations"`
}

// DefaultLimits count for a worker that has not said its own.
func DefaultLimits() Limits {
	return Limits{Timeout: 30 * time.Second, Overlap: 5 * time.Second, Generations: 4}
}
