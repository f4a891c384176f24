package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// rawSocket is a socket as another program may make it: blocking, and open on
// exec.
func rawSocket(tb testing.TB, family, kind int, sa unix.Sockaddr, edit ...func(fd int) error) int {
	tb.Helper()
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = unix.Close(fd) })
	for _, f := range edit {
		if err := f(fd); err != nil {
			tb.Fatal(err)
		}
	}
	if sa != nil {
		if err := unix.Bind(fd, sa); err != nil {
			tb.Fatal(err)
		}
	}
	return fd
}

func TestInherit(t *testing.T) {
	dir := t.TempDir()
	path, name := filepath.Join(dir, "svc.sock"), "@svc-inherit-"+strconv.Itoa(os.Getpid())
	only6 := func(on int) func(fd int) error {
		return func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, on) }
	}
	loopback := [16]byte{15: 1}
	for _, tt := range []struct {
		name string
		fd   int
		want Address // without the port
	}{
		{
			"IPv4",
			rawSocket(t, unix.AF_INET, unix.SOCK_STREAM, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
			Address{"tcp4", "127.0.0.1:0", 0},
		},
		{"IPv6", rawSocket(t, unix.AF_INET6, unix.SOCK_STREAM, &unix.SockaddrInet6{Addr: loopback}), Address{"tcp6", "[::1]:0", 0}},
		{"both", rawSocket(t, unix.AF_INET6, unix.SOCK_STREAM, &unix.SockaddrInet6{}, only6(0)), Address{"tcp", "[::]:0", 0}},
		{"all of IPv6", rawSocket(t, unix.AF_INET6, unix.SOCK_STREAM, &unix.SockaddrInet6{}, only6(1)), Address{"tcp6", "[::]:0", 0}},
		{"path", rawSocket(t, unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: path}), Address{"unix", path, 0}},
		{"name", rawSocket(t, unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: name}), Address{"unix", name, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := unix.Listen(tt.fd, 10); err != nil {
				t.Fatal(err)
			}
			s, err := Inherit(tt.fd)
			if err != nil {
				t.Fatal(err)
			}
			if !flag(t, tt.fd, unix.F_GETFD, unix.FD_CLOEXEC) || !flag(t, tt.fd, unix.F_GETFL, unix.O_NONBLOCK) {
				t.Error("it stays open on exec, or blocks")
			}
			ln := listenerOf(t, s)
			if want := tt.want.withPort(ln.Addr()); s.Address() != want || s.Bound() != want || !s.Is(resolvedAs(t, want)) {
				t.Errorf("address %v, want %v", s.Address(), want)
			}
			dial(t, ln.Addr())
			accept(t, ln)
			if err := s.Unlink(); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the service manager's file is gone: %v", err)
	}
}

// resolvedAs is what a configuration would say for a: IPv6 alone only beside IPv4.
func resolvedAs(t *testing.T, a Address) Address {
	t.Helper()
	addrs := []string{a.written()}
	if a.Network == networkIPv6 && a.Target[:4] == "[::]" {
		addrs = append(addrs, "0.0.0.0"+a.Target[4:])
	}
	as, err := Resolve(t.Context(), addrs)
	if err != nil {
		t.Fatal(err)
	}
	return as[0]
}

func TestInheritRefuses(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(p[0]), unix.Close(p[1]) })
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	packets := rawSocket(t, unix.AF_UNIX, unix.SOCK_SEQPACKET, &unix.SockaddrUnix{Name: "@svc-packets-" + strconv.Itoa(os.Getpid())})
	if err := unix.Listen(packets, 10); err != nil {
		t.Fatal(err)
	}
	connected := dial(t, listenOn(t, "127.0.0.1:0").Addr()).(*net.TCPConn)
	raw, err := connected.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var connectedFD int
	if err := raw.Control(func(fd uintptr) { connectedFD = int(fd) }); err != nil {
		t.Fatal(err)
	}
	for name, fd := range map[string]int{
		"a pipe":                 p[0],
		"no descriptor":          -1,
		"UDP":                    rawSocket(t, unix.AF_INET, unix.SOCK_DGRAM, loopback),
		"TCP that is not bound":  rawSocket(t, unix.AF_INET, unix.SOCK_STREAM, nil),
		"TCP that only is bound": rawSocket(t, unix.AF_INET, unix.SOCK_STREAM, loopback),
		"a connection":           connectedFD,
		"packets":                packets,
		"netlink":                rawSocket(t, unix.AF_NETLINK, unix.SOCK_RAW, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	} {
		_, err := Inherit(fd)
		wantError(t, err, "listen on an inherited socket: ")
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil && fd >= 0 {
			t.Errorf("%s is no longer open: %v", name, err)
		}
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// MPTCP takes no filter. Where the kernel does not have it, there is nothing that
// could be passed on either.
func TestInheritRefusesMPTCP(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	_, err = Inherit(fd)
	wantError(t, err, "listen on an inherited socket: it is not of plain TCP")
}
