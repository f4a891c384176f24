// Package admin is the operator's listener: a small HTTP API over whatever a
// [Backend] offers, and the client for it.
//
// It knows nothing of how a configuration is followed or served; the wiring
// gives it funcs whose results it writes as JSON. Errors are
// application/problem+json (RFC 9457). Every change is a POST.
//
// # Two ways in
//
// A unix socket ([ListenUnix], [Serve]) that only the owner of the state folder
// can open. It asks for no credentials.
//
// TCP ([ServeTCP]), where [Config] sets addresses. What is configured is asked
// for, of every request and before its path is looked at: a bearer token, a
// client certificate that verifies against the CAs of this moment, or both.
// Where neither is in force, or what the section names could not be loaded,
// everything is refused: a listener never goes on without its credentials.
//
// # What is refused
//
// The checks come in this order:
//
//  1. The target must be a path, and the Host header an IP address, localhost,
//     a name of admin.hosts, of a listen address or of the certificate in
//     force: 403. This and the credentials are for TCP alone.
//  2. A request from a page of another site: an Origin that is not this one
//     (null, and more than one, too), Sec-Fetch-Site other than same-origin or
//     none, Sec-Fetch-Mode no-cors or websocket, any Upgrade: 403. CONNECT and
//     TRACE: 405.
//  3. A client whose attempts failed too often, 10 at once and then one in 6
//     seconds: 429 with Retry-After, whatever it shows. A client is an IPv4
//     address or an IPv6 /64; 1024 are remembered. Successful requests do not
//     count. The client's address is that of the connection: clients behind
//     one proxy share a count.
//  4. Credentials: 401, with the same words for every reason. The reason and
//     the client's address go to the log.
//  5. A path that is not in its canonical form ("//", "..", "%2F"): 404.
//
// What net/http refuses before there is a request (a header of more than
// 64 KiB, two Host headers, plain HTTP on a TLS connection) is answered by it,
// in plain text.
//
// # Limits
//
//   - A proxy that ends TLS in front of a plaintext listener makes the origin
//     of a page look like another one. Requests without Origin pass.
//   - A token on a plaintext connection can be read on its way. [NewClient]
//     sends none so, except to loopback; the listener cannot tell what others
//     send.
//   - HTTP/1.1 alone is served; 256 connections a listener; 5 seconds for a
//     TLS handshake or a header, 30 seconds for a request, 3 minutes for the
//     answer, 1 minute idle.
//   - Profiles are those of runtime/pprof under /debug/pprof/, without cmdline
//     (a command line may hold secrets), symbol, and the difference of two
//     moments (seconds= of a named profile). One CPU profile, of 120 seconds at
//     the most, and one trace, of 30, are recorded at a time: 409 otherwise.
package admin
