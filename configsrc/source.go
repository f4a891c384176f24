package configsrc

import (
	"context"
	"time"
)

// Source follows one place that holds configuration.
//
// One goroutine calls Next in a loop; a Source need not allow several calls at
// a time, but must allow a call after one that ended in an error or by its
// context.
type Source interface {
	// Next returns the whole configuration of the source.
	//
	//  1. With the zero Version it reads now and returns what there is.
	//  2. With any other Version it returns as soon as the content differs
	//     from what after describes, and blocks until then. A change made
	//     between two calls is found at once. A write that leaves the content
	//     as it was is no change.
	//  3. after may come from another instance of the source, another process
	//     or another day. Its Content alone decides whether there is news; its
	//     Cursor is a hint, and one that means nothing to the backend any more
	//     (a restored database, another server) must not delay news or hide it.
	//  4. While it blocks it talks to the backend no more often than the
	//     driver's documentation states.
	//  5. When ctx ends, it returns ctx.Err() within a second, and whatever it
	//     was doing at the backend is given up, not left running.
	//
	// Every error but ctx's own is an [*Error]. The caller retries all of them,
	// with a pause that grows and is jittered, so a driver does not retry by
	// itself beyond what one request needs. An Error that carries a Version
	// describes a state of the backend ("the document is there and does not
	// parse", "nothing is there"): Next with that Version then blocks until
	// the state is another one, and the caller makes that call at once.
	//
	// A Source that needs a standing connection opens it in its constructor
	// and has a Close method; after Close has returned, no goroutine, timer or
	// connection of it is alive.
	Next(ctx context.Context, after Version) (Snapshot, error)
}

// Version names a state of a source. It is comparable; the zero Version means
// "none yet".
type Version struct {
	// Content is the canonical hash of the values ([Values.Hash]). For a state
	// that is an error, it is whatever tells it from other such states.
	Content [32]byte
	// Cursor is the backend's position (an index, a release key), in the
	// driver's own notation. Only the driver reads it.
	Cursor string
}

// IsZero reports whether v is the zero Version.
func (v Version) IsZero() bool { return v == Version{} }

// Snapshot is the whole content of a source at one moment. It is immutable:
// neither the driver nor the receiver changes Values after it was returned.
type Snapshot struct {
	// Version describes exactly Values: Version.Content is Values.Hash().
	Version Version
	Values  Values
	// Label is the source's own name for this state, for people: a release
	// key, an index, a commit with its author and subject. Never a value.
	Label string
	// Published is when the change was made, where the backend tells; else zero.
	Published time.Time
	// Notified is when the driver learned that there might be news. It is the
	// time of the call where the driver read without having been told.
	Notified time.Time
	// Fetched is when the driver had read everything.
	Fetched time.Time
}
