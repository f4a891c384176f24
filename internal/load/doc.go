// Package load is clients that notice what a restart of a server does to their
// requests: fresh connections, busy ones, and ones that idle and then send, over
// TCP or a unix socket, with or without TLS, by HTTP/1.1 or HTTP/2. It needs an
// address and a server that answers as [Handler] does, in any number of processes.
//
// Invariants:
//
//   - No request is sent twice, by nobody: HTTP/1.1 is written to the connection
//     here, and an HTTP/2 request goes to one connection, with a body that cannot be
//     read again. Whatever keeps the answer from coming is a failure, a 503 and a
//     GOAWAY that came too late included.
//   - A client takes another connection without counting a failure only where any
//     client may: the server said so in an answer (Connection: close, GOAWAY), or has
//     closed the connection before the request was sent. Both are counted too.
//   - A connection is read from at all times, so that its end, and an answer that
//     nobody has asked for, are seen when they come.
//   - Who has executed what is written down by the servers, see [Record], and
//     compared with what was answered once they have ended: see [Load.Executions].
//   - Clients send as fast as they get answers, but for those that idle.
package load
