// Package server is one generation of the service: it serves HTTP on the
// listeners it is given, from the first request to a clean stop.
//
// [Listen] opens the listeners, [New] makes a [Server] on them, [Server.Run]
// serves until its context ends and then drains. The application is any
// [http.Handler]; [Engine] makes a gin engine with the service's own routes.
//
// Invariants:
//
//   - A request sees one configuration. [Options.Pin] is called once, before
//     anything of the request is looked at, and what it pinned is let go when
//     the handler has returned.
//   - No request that the server accepted is lost by a drain. A connection
//     is closed only when it has been idle for a while and nothing was read from
//     it since; what was read before the close is never executed after it.
//     [http.Server.Shutdown] is not used: it drops requests on connections
//     that were accepted and not yet read (golang/go#75591).
//   - Every wait of a drain is bounded by server.drain.timeout, which is read
//     again during the drain.
//   - Answers are not buffered, and the writer a handler gets still flushes,
//     hijacks and copies files without user space, as that of net/http does.
//   - Every connection is counted, hijacked ones included, until it is closed.
//   - Logs, problems and errors hold no setting, no query and no header.
//
// Limits of this form: TCP and HTTP/1 only. The listeners must be plain: a
// connection is wrapped, so net/http would not see that it is a TLS connection.
// The write time of a connection is not limited (see the comment at the limits
// in server.go). A stop resets the connections that the kernel has set up and
// the server has not accepted yet: nobody is there to take them over.
package server
