// Package liveconn makes the timeouts of an [http.Server] follow a configuration
// on connections that are open and requests that run.
//
// [http.Server] copies its timeout fields into deadlines at fixed points, and
// the fields must not be changed while it serves. So they stay 0, and a [Conn],
// which a [Registry] makes of every accepted connection, owns the deadlines. TLS
// goes on top of it.
//
// # How
//
// Each side of a connection, reading and writing, is in a phase, which has a
// start, and the phase has one of the [Timeouts]. The deadline is the start plus
// the value that is in force at the time it is looked at. It is set only when an
// operation is about to block, or is blocked, and would be woken too late. One
// that wakes too soon, because the value has grown or the phase has moved on,
// looks again and goes on. So a longer value touches nothing, a shorter one what
// is blocked, and a busy connection sets fewer deadlines than net/http does by
// itself.
//
// Where net/http stands in a request it tells in two ways: by the hook ConnState,
// and by clearing the read deadline at certain points. The tests of this package
// named Conformance hold net/http to what is used of it, for each Go version.
//
// A request's own time is a context, [Request]. All requests of a connection
// share one timer, which is moved only when it would ring too late.
//
// # Invariants
//
//   - Every deadline is the one by the value in force when it comes, also when
//     that was changed during the phase, to a longer one, a shorter one or none.
//   - A deadline that a handler sets itself ([http.ResponseController]), and none
//     at all, wins until its request has ended. What a handler has hijacked has
//     its own deadlines only, and its request no time.
//   - A change waits for nothing and closes nothing that is not over by it.
//   - A connection is in the registry from the accept to its Close, hijacked or
//     not. Counts are those of the registry.
//   - The write of a file still goes from the kernel to the kernel (ReadFrom).
//   - What is given up is never executed: bytes that arrive after the decision
//     are not handed on.
//
// # HTTP/2
//
// A connection is never interrupted while streams are open: that would end them
// all, with nothing said to the client. The time of a body and of an answer is
// that of its stream, by the deadlines that [http.ResponseController] sets; they
// are live as long as the handler runs. Timeouts.Write also bounds each single
// write to the network.
//
// An idle connection gets one GOAWAY that refuses no stream yet, stays open for
// 5 seconds for what is on its way, and is closed when it is idle after that. A
// client that wants to send in this very moment loses nothing. The GOAWAY is
// written between two frames: net/http calls a connection idle a little before
// it has flushed its buffer, so ours waits until that has happened and nothing
// was written for 50 ms.
//
// # Moves
//
// A connection of HTTP/1 without TLS can be taken from net/http when nothing that
// was read of it is left there ([Registry.Move]): when it is new, or idle and
// net/http reads into its whole buffer. It is told the end of the connection then,
// which it takes without a word, and does not close what is below. Bytes that
// arrive meanwhile stay in the kernel, for whoever reads next. So a connection
// is detached whole, or goes on here.
//
// # Drain
//
// The registry also knows of a drain, which can be undone: handlers that hold
// a connection ask [Conn.Draining] and [Conn.Leave].
//
// # What does not follow
//
// net/http lets nobody change, and so these are fixed: 10 seconds for the
// preface of HTTP/2 and 2 for its SETTINGS; 5 seconds for the good-bye of TLS;
// half a second for the rest of a body that is not wanted. Half a HEADERS frame
// on an HTTP/2 connection is not told from an idle one, or from the streams that
// are open beside it. The rest of an HTTP/2 answer that is written after its
// handler has returned has the value that was in force at the return.
//
// Up to three bytes of a request that came together with the request before it
// lie in a buffer of net/http, which waits for the fourth: such a connection
// counts as idle, and does not move. Under TLS the bytes of a handshake count as the start of a
// header until its parameters are known, and so do those of a key update.
package liveconn
