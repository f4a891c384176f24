// Package socket opens the sockets that the service listens on, and lets them
// pass from one process to another while connections come in.
//
// [Resolve] turns what server.listen says into an [Address] each, in which nothing
// is left to look up: equal addresses are the same place, however they were
// written, in this process and in the next. [Listen] opens one for a process that
// stands alone. [Open] opens a [Socket], which belongs to nobody's accept loop: its
// descriptor is duplicated to whoever is to accept on it, and becomes a listener
// there by [Listener]. [Inherit] makes a Socket of one that a service manager has
// opened.
//
// Invariants:
//
//   - The queue belongs to the socket, not to a process: as long as one duplicate
//     is open, a connection that the kernel has set up waits for the next accept.
//   - O_NONBLOCK is a flag of the socket, not of the descriptor. It is set before
//     anybody else can have a duplicate and is never cleared: an accept in another
//     process would block in the kernel.
//   - Every descriptor is closed on exec.
//   - The file of a unix socket is removed only where it is still the one that was
//     bound, and never by the end of a listener on a duplicate.
//   - A socket is plain TCP: one of MPTCP takes no filter, and cannot be handed over
//     as a TCP one.
//
// # Addresses that overlap
//
// 127.0.0.1:80 and 0.0.0.0:80 can be listened on side by side only with
// SO_REUSEPORT on both sockets. It may be set on the older one late, when it
// already listens, so it is not set before it is needed: [Socket.ReusePort], then
// [OpenBeside]. Linux asks that both were opened by the same user. A new connection
// goes to the more specific socket.
//
// When one of them is to be closed, connections that the kernel has set up would
// be reset, and so would those whose handshake is under way. [Socket.Refuse] turns
// new connections away from it, to the other one, so that it can be accepted on
// until nothing comes any more.
//
// # Limits
//
// A Socket is for one goroutine at a time. Handing sockets over is for Linux;
// elsewhere there is [Listen] alone, and the rest answers [errors.ErrUnsupported].
//
// Which file a unix socket has made is looked up right after the bind. Somebody
// with the right to write to the folder who puts another socket there in between
// is believed.
package socket
