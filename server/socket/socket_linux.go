package socket

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Socket is a socket that listens and on which nobody accepts here: who is to
// accept gets a duplicate of its descriptor. It is for one goroutine at a time.
//
// A Socket that is dropped without [Socket.Close] stays open.
type Socket struct {
	fd    int // -1: closed
	asked Address
	bound Address
	file  *file // of a unix socket that was opened here
	deaf  *deaf // nil: it admits new connections
}

// Open binds to a and listens. mode is that of the file of a unix socket, and
// counts for nothing else; the file never has a wider one, not for a moment. A
// unix socket that nobody listens on any more is replaced, and what is no socket
// is not touched.
//
// It sets SO_REUSEADDR, as package net does, and not SO_REUSEPORT. ctx bounds the
// look whether somebody listens on a unix socket, which takes a second at most;
// nothing else blocks. The error is an [*Error].
func Open(ctx context.Context, a Address, mode os.FileMode) (*Socket, error) {
	return openSocket(ctx, a, mode, nil)
}

// OpenBeside is [Open] on an address that covers one that is listened on, or is
// covered by it, after [Socket.ReusePort] on the socket there. It sets SO_REUSEPORT
// on its own as well.
func OpenBeside(ctx context.Context, a Address, mode os.FileMode) (*Socket, error) {
	if a.Network == networkUnix {
		return openSocket(ctx, a, mode, nil)
	}
	return openSocket(ctx, a, mode, withReusePort)
}

func openSocket(ctx context.Context, a Address, mode os.FileMode, before control) (*Socket, error) {
	ln, f, err := open(ctx, a, mode, before)
	if err != nil {
		return nil, explain(a.written(), err)
	}
	fd, err := duplicate(ln.(deadliner))
	if err != nil && f != nil {
		err = errors.Join(err, f.remove())
	}
	// The duplicate keeps the socket open.
	if err = errors.Join(err, ln.Close()); err != nil {
		return nil, explain(a.written(), err)
	}
	return &Socket{fd: fd, asked: a, bound: a.withPort(ln.Addr()), file: f}, nil
}

// Inherit takes over fd, which a service manager has opened and passed on
// (sd_listen_fds(3)), and sets close-on-exec and O_NONBLOCK. It must be a TCP or
// unix stream socket that listens. Where there is an error, fd stays the
// caller's.
//
// Its address is the one that it is bound to. The file of a unix socket belongs
// to the service manager, which expects to find it after this process has ended,
// so [Socket.Unlink] does nothing.
func Inherit(fd int) (*Socket, error) {
	a, err := addressOf(fd)
	if err == nil {
		err = prepare(fd)
	}
	if err != nil {
		return nil, &Error{Addr: "an inherited socket", Err: err}
	}
	return &Socket{fd: fd, asked: a, bound: a}, nil
}

// FD returns the descriptor, which stays the Socket's: duplicate it, by fcntl or
// by sending it, and do not close it. It is -1 after Close.
func (s *Socket) FD() int { return s.fd }

// Address returns the address that the socket was opened by.
func (s *Socket) Address() Address { return s.asked }

// Bound returns the address with the port that the kernel has chosen in place of
// port 0. Its String is the key of every listener on this socket.
func (s *Socket) Bound() Address { return s.bound }

// Addr returns the actual address as server.listen writes it.
func (s *Socket) Addr() string { return s.bound.written() }

// Is reports whether a asks for this socket: by the address that it was opened
// by, or by the port that the kernel has chosen for it.
func (s *Socket) Is(a Address) bool { return a == s.asked || a == s.bound }

// ReusePort lets an address that covers this one, or is covered by it, be opened
// by [OpenBeside]. It does nothing on a unix socket.
//
// From then on any program of the same user may take a share of what comes for
// this address, if it sets SO_REUSEPORT too.
func (s *Socket) ReusePort() error {
	const operation = "share the port"
	if err := s.open(operation); err != nil || s.asked.Network == networkUnix {
		return err
	}
	if err := setOption(s.fd, unix.SO_REUSEPORT, 1); err != nil {
		return failure(operation, s.bound, err)
	}
	return nil
}

// Unlink removes the file of a unix socket that was opened here, if it is still
// the one that was bound. It must come before Close: only an open socket keeps
// others from its place. It does nothing where there is no such file.
func (s *Socket) Unlink() error {
	if err := s.open("remove the file"); err != nil || s.file == nil {
		return err
	}
	if err := s.file.remove(); err != nil {
		return failure("end listening", s.bound, err)
	}
	return nil
}

// Close closes the descriptor. Duplicates stay as they are, and with them what is
// queued. It does not remove the file of a unix socket.
func (s *Socket) Close() error {
	if err := s.open("end listening"); err != nil {
		return err
	}
	err := os.NewSyscallError("close", unix.Close(s.fd))
	s.fd = -1
	if err != nil {
		return failure("end listening", s.bound, err)
	}
	return nil
}

// open returns an error when the socket is closed: its number may be another
// file's by now.
func (s *Socket) open(operation string) error {
	if s.fd < 0 {
		return failure(operation, s.bound, net.ErrClosed)
	}
	return nil
}
