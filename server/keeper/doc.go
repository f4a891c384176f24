// Package keeper restarts a service without anybody noticing.
//
// The process that is started as the service is the keeper, and stays it: its
// process id never changes. It holds the listening sockets and starts the worker,
// the same program again, which serves. For a restart it starts another worker,
// a new generation, from the program as it is on disk by then, hands it the
// configuration and the sockets, and when the new one says that everything is
// there, has it accept, and the old one finish what it has begun. [Run] is the
// whole of it; a [Worker] is what the program sees.
//
// # Invariants
//
//   - A listening socket is open as long as any generation is to accept on it: its
//     queue outlives a worker that crashes.
//   - Before the new generation accepts, nothing has changed for the old one, and
//     whatever goes wrong with the new one ends there. What was opened for it is
//     closed; an address that is in use is never closed or removed.
//   - The old generation goes on accepting until the new one has said that it
//     does. For a moment both do.
//   - Until probation is over the old generation lives, and takes over again when
//     the new one dies.
//   - One generation is started at a time, and two restarts wait at most: one that
//     brings a content and one that brings none.
//   - While no generation serves and none is started, the next start is planned.
//   - No socket that a generation is to accept on is given up, and none lets
//     nobody in, from the moment that the one that is started has asked for it.
//   - The keeper does not end before its workers. When it is killed, they see the
//     end of their socket pair, and drain and end.
//   - Between the processes there are no signals but those that end one that is
//     stuck.
//   - A worker inherits stdin, stdout, stderr, its end of the pair and a memory file
//     that the runtime writes a crash to; nothing else that the keeper was started
//     with, no signal mask, no variable of the service manager. What it starts
//     itself inherits nothing of that.
//
// # States
//
// Of one generation:
//
//	state      entered when                       leaves to, when
//	starting   the process was started            prepared: it says so
//	                                              gone: it dies; StartTimeout is over (abort,
//	                                              then kill); it was superseded or taken back
//	prepared   it has built everything and has    probation: it says that it accepts
//	           its sockets; commit is sent        gone: it dies; 5 s are over
//	probation  it accepts                         serving: 2 s are over, or the next one accepts
//	                                              gone: it dies; the one before resumes
//	serving    probation is over, or the          draining: the next one accepts; stop
//	           successor died on its own          gone: it dies; a successor is started at once,
//	                                              then after 0.1 s, twice that, ... at most 10 s;
//	                                              5 s are over after the death of its successor
//	                                              and it has not said that it accepts again
//	                                              (abort, then kill)
//	draining   a successor accepts, or stop       gone: it has ended; server.drain.timeout and
//	                                              5 s are over (abort, then kill)
//	                                              serving: the successor died on probation
//	gone       the process has ended and all
//	           that it said was heard
//
// One that closes its end of the pair and does not end within 5 s is killed, and
// so is one that says what is no message or takes none. Whoever else has its end
// of the pair is not waited for.
//
// Of a socket that the new generation has no use for: it is served for
// server.drain.overlap more, and not less than probation; then no new connection is
// let in for 50 ms, while handshakes under way end; then the generations that
// hold it take what is queued and close it, and with the last of them so does
// the keeper. When a generation names it again before that, it stays; while that
// one is being started the end waits. A unix socket whose path somebody has
// removed or replaced counts as given up: the next restart opens the path anew,
// or fails while somebody else listens there.
//
// # Restarts
//
// One that brings a content (the configuration has changed) supersedes what is
// being started, as long as that was not told to accept, and comes next. One that
// brings none (signal, command) waits for what is being started, and all who ask
// meanwhile share it; it starts with the content in force by then. It is done with
// one that brings a content and begins after it was asked for; where that fails or
// is taken back, it follows. So nothing that an operator has asked for is lost to
// a change of the configuration. One without a content begins anew, three times at
// most, when the content in force changes while it is under way.
//
// A failed one is told to who asked, with whether the environment was to blame (a
// busy port, no memory, a time that was over) or the content: see [Error].
//
// # Limits
//
// Linux only: elsewhere, and with Options.Direct, the work is done in the process
// that was started, and nobody restarts it.
//
// The keeper itself is as old as its start. A new version of it comes with a stop
// and a start of the service. Until then it starts workers of any version that
// speaks the same protocol; others it refuses, and the old worker goes on.
//
// Idle connections that have moved to a generation which dies on probation are
// lost with it.
package keeper
