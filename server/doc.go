// Package server is one generation of the service: it serves HTTP on the
// listeners it is given, from the first request to a clean stop.
//
// [New] makes a [Server], [Listen] opens listeners, [Server.Run] serves on them
// until its context ends and then drains; [Server.Apply] makes changed settings
// count. Where a keeper runs generations beside each other
// ([github.com/hotsvc/svc/server/keeper]), [Server.Handover] leaves the work to a
// successor, [Server.Resume] takes it back, and [Server.Adopt] goes on with the
// connections of a predecessor. The application is any [http.Handler]; [Engine] makes a gin
// engine with the service's own routes.
//
// It speaks HTTP/1.1 and, with TLS or where server.h2c allows it, HTTP/2, over
// TCP and unix sockets. TLS is 1.2 and up, with or without client certificates;
// what a handshake uses comes from Options.Certificates each time, so certificates
// and authorities change in place. The timeouts are those of package
// [github.com/hotsvc/svc/server/liveconn]: a change counts for connections that
// are open and requests that run.
//
// Invariants:
//
//   - A request sees one configuration. [Options.Pin] is called once, before
//     anything of the request is looked at, and what it pinned is let go when
//     the handler has returned.
//   - What a limit refuses is answered as application/problem+json, with
//     Retry-After where another try may help, and nothing of the application has
//     run. Whatever becomes of a request, its place is free again.
//   - A request whose end a proxy may see elsewhere than the server does is
//     refused, or is the last on its connection (RFC 9112 section 11.2). net/http
//     does not tell all of them apart, so each HTTP/1.1 request with a chunked body,
//     and each of HTTP/1.0, is answered with "Connection: close".
//   - A client's address is what the nearest peer that is not trusted had. What
//     such a peer has written itself is never believed.
//   - No request that the server accepted is lost by a drain. A connection
//     is closed only when it has been idle for a while and nothing was read from
//     it since; what was read before the close is never executed after it.
//     [http.Server.Shutdown] is not used: it drops requests on connections
//     that were accepted and not yet read (golang/go#75591).
//   - A handover costs a client of HTTP/1 without TLS nothing, not even its
//     connection: as soon as it is idle it moves to the successor, by the rules of
//     liveconn, where that accepts on the same socket without TLS. At any moment one
//     process reads it, and a successor that dies before it has taken a connection
//     has not lost it.
//   - On HTTP/2 a drain ends no stream. A client is told by GOAWAY to go
//     elsewhere, and streams that it refuses were not executed.
//   - Every wait of a drain is bounded by server.drain.timeout, which is read
//     again during the drain, or after a handover by what the keeper says.
//     What is cut off then is counted by kind and named.
//   - Answers are not buffered, and the writer a handler gets still flushes,
//     hijacks and copies files without user space, as that of net/http does.
//   - Every connection is counted, hijacked ones included, until it is closed.
//   - Logs, problems and errors hold no setting, no query and no header. What a
//     client does to a connection is logged at level debug at most, so that nobody
//     can fill the log; it is counted.
//
// Limits: server.listen, server.tls.mode, server.h2c and server.max_header_bytes
// are read once, by Run. server.limit.rps and .concurrency are those of one Server,
// not of a fleet. A line that ends with LF alone and a folded header line are
// taken as RFC 9112 lets a server take them. No HTTP/3, no PROXY protocol, no
// Forwarded header (RFC 7239).
//
// A stop resets the connections that the kernel has set up and the server has
// not accepted yet, unless another process has the socket.
//
// Not moved in a handover: what is encrypted or HTTP/2, whose state is in this
// process, a request that is half read, and what a handler has hijacked.
// An idle one of the first is closed a second before the end of the drain, if its
// client has not used it until then; a request sent in that moment is lost. A client
// that has sent half a header holds the old process up until server.timeout.read_header
// is over. Connections that a successor has taken and not answered are lost when it
// is killed.
package server
