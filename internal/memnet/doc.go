// Package memnet is a network in memory for tests: a [Listener] whose
// connections are pipes ([net.Pipe]). No production code imports it.
//
// Invariants:
//
//   - Made inside a bubble of testing/synctest, all that waits in it or in its
//     connections, deadlines included, waits durably, so that the virtual clock
//     goes on. A socket would hold it up.
//   - There is no backlog: a connection is dialed when it is accepted.
//   - It has no goroutine, and nothing to wait for after Close.
//
// Limits: a pipe has no buffer, so a Write ends when the other side has read all
// of it, and there is no half-close. All addresses are "pipe".
package memnet
