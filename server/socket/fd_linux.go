package socket

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what sun_path holds, without the NUL behind it (unix(7)).
const maxSocketPath = 107

// Listener returns a listener on fd, a duplicate of the socket of a. It takes fd
// over, also when there is an error. The socket's O_NONBLOCK, which all its
// duplicates share, is not cleared at any moment.
//
// Beside the methods of [net.Listener] the result has Key() string, the key of its
// address with the actual port; SetDeadline and SyscallConn as *[net.TCPListener]
// has; and Unwrap() net.Listener, which returns that or a *[net.UnixListener]. The
// connections are those that [net.ListenConfig.Listen] would accept, with the same
// keep-alive settings. Close ends an Accept that waits, closes only this
// duplicate, and does not remove the file of a unix socket.
func Listener(fd int, a Address) (net.Listener, error) {
	if err := prepare(fd); err != nil {
		if fd >= 0 {
			err = errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
		}
		return nil, failure("accept", a, err)
	}
	// NewFile finds that the descriptor does not block, and so FileListener, which
	// asks it for its number, does not make it block, as it would one that another
	// part of the standard library has opened.
	f := os.NewFile(uintptr(fd), "listener")
	ln, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		if ln != nil {
			err = errors.Join(err, ln.Close())
		}
		return nil, failure("accept", a, err)
	}
	return newListener(ln, a, nil), nil
}

// prepare makes sure that fd is a stream socket that listens, is closed on exec
// and does not block.
func prepare(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if kind != unix.SOCK_STREAM || listens == 0 {
		return errors.New("it is no stream socket that listens")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}

// duplicate returns another descriptor of a socket of package net, closed on exec.
// The File method of package net would do, but makes the socket block as soon as
// somebody asks the file for its number.
func duplicate(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(from uintptr) {
		// From 3 up: the first three mean something else to who gets them.
		fd, dupErr = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3)
	})
	return fd, errors.Join(err, os.NewSyscallError("fcntl", dupErr))
}

// addressOf is the address that fd is bound to.
func addressOf(fd int) (Address, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return Address{}, os.NewSyscallError("getsockname", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrUnix:
		if name.Name == "" {
			return Address{}, errors.New("it has no address")
		}
		target, err := absolute(name.Name)
		return Address{Network: networkUnix, Target: target}, err
	case *unix.SockaddrInet4:
		return tcpAddress(fd, netip.AddrFrom4(name.Addr), name.Port)
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(name.Addr)
		if name.ZoneId != 0 {
			ip = ip.WithZone(zone(int(name.ZoneId)))
		}
		return tcpAddress(fd, ip, name.Port)
	}
	return Address{}, errors.New("it is neither TCP nor a unix socket")
}

func tcpAddress(fd int, ip netip.Addr, port int) (Address, error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return Address{}, os.NewSyscallError("getsockopt", err)
	}
	if protocol != unix.IPPROTO_TCP {
		return Address{}, errors.New("it is not of plain TCP")
	}
	a := internet(ip, uint16(port)) //nolint:gosec // the kernel says so
	if a.Network == networkBoth {
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return Address{}, os.NewSyscallError("getsockopt", err)
		}
		if only != 0 {
			a.Network = networkIPv6
		}
	}
	return a, nil
}

// zone is the name of an interface, which is how addresses are written.
func zone(index int) string {
	if ifi, err := net.InterfaceByIndex(index); err == nil {
		return ifi.Name
	}
	return strconv.Itoa(index)
}

// withReusePort sets SO_REUSEPORT on a socket that is about to be bound.
func withReusePort(_, _ string, c syscall.RawConn) error {
	var optErr error
	err := c.Control(func(fd uintptr) { optErr = setOption(int(fd), unix.SO_REUSEPORT, 1) })
	return errors.Join(err, optErr)
}

func setOption(fd, name, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, name, value))
}

// withMode gives a unix socket that is about to be bound the mode that its file
// is to have: Linux makes the file with it, without what the umask forbids.
func withMode(mode os.FileMode) control {
	return func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		err := c.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), uint32(mode.Perm())) })
		return errors.Join(err, os.NewSyscallError("fchmod", modeErr))
	}
}
