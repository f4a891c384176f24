package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// openOn opens a socket until the test ends.
func openOn(tb testing.TB, addr string) *Socket {
	tb.Helper()
	return openAt(tb, resolved(tb, addr))
}

func openAt(tb testing.TB, a Address) *Socket {
	tb.Helper()
	s, err := Open(tb.Context(), a, 0o660)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// listenerOf is a listener on a duplicate, as another process would have it.
func listenerOf(tb testing.TB, s *Socket) net.Listener {
	tb.Helper()
	ln, err := Listener(duplicateOf(tb, s), s.Address())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	return ln
}

func duplicateOf(tb testing.TB, s *Socket) int {
	tb.Helper()
	fd, err := unix.FcntlInt(uintptr(s.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		tb.Fatal(err)
	}
	return fd
}

func flag(tb testing.TB, fd, get, flag int) bool {
	tb.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), get, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return flags&flag != 0
}

// everyKind is one address of each kind, to be opened.
func everyKind(tb testing.TB) map[string]string {
	tb.Helper()
	return map[string]string{
		"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0", "both": ":0",
		"path": "unix:" + filepath.Join(tb.TempDir(), "svc.sock"), "name": "unix:@svc-" + strconv.Itoa(os.Getpid()),
	}
}

// A connection that the kernel has set up waits for whoever accepts next, and one
// who ends does not disturb another.
func TestQueueStaysWithTheSocket(t *testing.T) {
	for name, addr := range everyKind(t) {
		t.Run(name, func(t *testing.T) {
			s := openOn(t, addr)
			first := listenerOf(t, s)
			waiting := make(chan error, 1)
			other := listenerOf(t, s)
			go func() {
				_, err := other.Accept()
				waiting <- err
			}()
			if err := other.Close(); err != nil {
				t.Error(err)
			}
			if err := <-waiting; !errors.Is(err, net.ErrClosed) {
				t.Errorf("the accept that was waiting ends with %v", err)
			}
			nc := dial(t, first.Addr())
			if err := first.Close(); err != nil {
				t.Error(err)
			}
			if _, err := nc.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			var b [1]byte
			if _, err := accept(t, listenerOf(t, s)).Read(b[:]); err != nil || b[0] != 'x' {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
}

func TestFlagsOfTheDescriptor(t *testing.T) {
	for name, addr := range everyKind(t) {
		t.Run(name, func(t *testing.T) {
			s := openOn(t, addr)
			if s.FD() < 3 {
				t.Errorf("descriptor %d", s.FD())
			}
			if !flag(t, s.FD(), unix.F_GETFD, unix.FD_CLOEXEC) || !flag(t, s.FD(), unix.F_GETFL, unix.O_NONBLOCK) {
				t.Error("it stays open on exec, or blocks")
			}
			var fd uintptr
			raw, err := listenerOf(t, s).(deadliner).SyscallConn()
			if err == nil {
				err = raw.Control(func(n uintptr) { fd = n })
			}
			if err != nil {
				t.Fatal(err)
			}
			if !flag(t, int(fd), unix.F_GETFD, unix.FD_CLOEXEC) {
				t.Error("the listener stays open on exec")
			}
			if s.Address().Network == networkUnix {
				return
			}
			for option, want := range map[int]int{unix.SO_REUSEADDR: 1, unix.SO_REUSEPORT: 0, unix.SO_PROTOCOL: unix.IPPROTO_TCP} {
				if got, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, option); got != want || err != nil {
					t.Errorf("socket option %d is %d, %v; want %d", option, got, err, want)
				}
			}
		})
	}
}

// The keys of the listener and of the socket agree, and the socket is found by the
// address it was asked for and by the port it got.
func TestIdentity(t *testing.T) {
	for name, addr := range everyKind(t) {
		t.Run(name, func(t *testing.T) {
			a := resolved(t, addr)
			s := openAt(t, a)
			key := s.Bound().String()
			if got := KeyOf(listenerOf(t, s)); got != key {
				t.Errorf("the listener's key is %s, the socket's %s", got, key)
			}
			if s.Address() != a || !s.Is(a) || !s.Is(s.Bound()) || !s.Is(resolved(t, s.Addr())) {
				t.Errorf("asked for by %v and by %s it is another socket", a, s.Addr())
			}
			if a.Network != networkUnix && (s.Bound().anyPort() || s.Is(Address{a.Network, a.Target, 2})) {
				t.Errorf("it is on %v, and also the second one", s.Bound())
			}
		})
	}
	only6 := openAt(t, Address{"tcp6", "[::]:0", 1})
	if got := KeyOf(listenerOf(t, only6)); got != only6.Bound().String() || got == only6.Addr() {
		t.Errorf("the key of IPv6 alone is %s, that of the socket %s", got, only6.Bound())
	}
}

// While others accept on duplicates, the flag that they share is never off.
func TestNeverBlocks(t *testing.T) {
	for name, addr := range everyKind(t) {
		t.Run(name, func(t *testing.T) {
			s := openOn(t, addr)
			stop, seen := make(chan struct{}), make(chan int)
			go func() {
				blocking := 0
				for {
					select {
					case <-stop:
						seen <- blocking
						return
					default:
					}
					if flags, err := unix.FcntlInt(uintptr(s.FD()), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
						blocking++
					}
				}
			}()
			for range 500 {
				ln, err := Listener(duplicateOf(t, s), s.Address())
				if err != nil {
					t.Error(err)
					break
				}
				if err := ln.Close(); err != nil {
					t.Error(err)
				}
			}
			close(stop)
			if n := <-seen; n != 0 {
				t.Errorf("it was seen blocking %d times", n)
			}
		})
	}
}

// What is accepted has the settings of what package net accepts.
func TestAcceptedAsByNet(t *testing.T) {
	settings := func(ln net.Listener) []int {
		t.Helper()
		dial(t, ln.Addr())
		nc := accept(t, ln).(*net.TCPConn)
		raw, err := nc.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var values []int
		err = raw.Control(func(fd uintptr) {
			for _, o := range [][2]int{
				{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
				{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
				{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
				{unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
				{unix.IPPROTO_TCP, unix.TCP_NODELAY},
			} {
				v, err := unix.GetsockoptInt(int(fd), o[0], o[1])
				if err != nil {
					t.Error(err)
				}
				values = append(values, v)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if d := cmp.Diff(settings(ln), settings(listenerOf(t, openOn(t, "127.0.0.1:0")))); d != "" {
		t.Errorf("keep-alive on, idle, interval, count, no delay (-net +ours):\n%s", d)
	}
}

func TestListenerTakesOnlyWhatListens(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(p[1]) }()
	a := Address{"tcp4", "127.0.0.1:80", 0}
	_, err := Listener(p[0], a)
	wantError(t, err, "accept on 127.0.0.1:80: getsockopt: ")
	if _, err := unix.FcntlInt(uintptr(p[0]), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the descriptor is still open: %v", err)
	}
	_, err = Listener(-1, a)
	wantError(t, err, "accept on 127.0.0.1:80: ")
}

// An open that fails leaves no descriptor and no file behind.
func TestFailedOpenLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	tcp, path := openOn(t, "127.0.0.1:0"), openOn(t, "unix:"+filepath.Join(dir, "svc.sock"))
	before := openFiles(t)
	for _, a := range []Address{tcp.Bound(), path.Address(), {"unix", filepath.Join(dir, "nothing", "s"), 0}, {}} {
		if s, err := Open(t.Context(), a, 0o660); err == nil {
			t.Errorf("%v is open", s.Address())
		} else if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("a %T: %v", err, err)
		}
	}
	_, err := Open(t.Context(), tcp.Bound(), 0)
	wantError(t, err, "listen on "+tcp.Addr()+": another program listens on this address; choose another, or stop it: bind: ")
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The file has its mode whatever the umask is, from its first moment on: nothing
// but the bind has set it.
func TestModeOfTheFile(t *testing.T) {
	for umask, want := range map[int]fs.FileMode{0: 0o660, 0o77: 0o660} {
		path := filepath.Join(t.TempDir(), "svc.sock")
		old := unix.Umask(umask)
		s, err := Open(t.Context(), resolved(t, "unix:"+path), want)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != fs.ModeSocket|want {
			t.Errorf("under umask %o the mode is %v", umask, got)
		}
		// What the bind alone has made of it.
		if got, want := s.file.info.Mode().Perm(), want&^fs.FileMode(umask); got != want {
			t.Errorf("under umask %o the bind made it %v, want %v", umask, got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnlink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "svc.sock")
	s := openOn(t, "unix:"+path)
	ln := listenerOf(t, s)
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the end of a listener has removed the file: %v", err)
	}
	other := openOn(t, "unix:"+filepath.Join(dir, "other.sock"))
	if err := os.Rename(filepath.Join(dir, "other.sock"), path); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlink(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the file of another was removed: %v", err)
	}
	if err := other.Unlink(); err != nil { // it is elsewhere now
		t.Error(err)
	}
	if err := os.Rename(path, filepath.Join(dir, "other.sock")); err != nil {
		t.Fatal(err)
	}
	if err := other.Unlink(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

// After Close its number and the name of its file may be another's.
func TestClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	for _, addr := range []string{"127.0.0.1:0", "unix:" + path} {
		s := openOn(t, addr)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for name, f := range map[string]func() error{
			"Close": s.Close, "Unlink": s.Unlink, "Refuse": s.Refuse, "Admit": s.Admit, "ReusePort": s.ReusePort,
		} {
			if err := f(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s.FD() != -1 {
			t.Errorf("descriptor %d", s.FD())
		}
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
	// Nobody listens on it any more, so it is replaced.
	s := openOn(t, "unix:"+path)
	dial(t, &net.UnixAddr{Net: "unix", Name: path})
	accept(t, listenerOf(t, s))
}
