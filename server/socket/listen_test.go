package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestErrorOfAPortWithoutRight(t *testing.T) {
	err := explain("h:80", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", errAccess)})
	wantError(t, err, "listen on h:80: this user may not open the port; "+portHint+": bind: ")
	if !errors.Is(err, errAccess) {
		t.Errorf("error %v hides its cause", err)
	}
}

func TestListenErrorIsTyped(t *testing.T) {
	taken := listenOn(t, "127.0.0.1:0")
	_, err := Listen(t.Context(), resolved(t, taken.Addr().String()), 0)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Addr != taken.Addr().String() || !errors.Is(e, errAddrInUse) {
		t.Errorf("error %#v", err)
	}
	for _, a := range []Address{{}, {Network: "udp", Target: "127.0.0.1:0"}, {Network: "unix"}, {Network: "tcp", Target: "x"}} {
		if ln, err := Listen(t.Context(), a, 0); err == nil {
			t.Errorf("%#v is listened on", a)
			_ = ln.Close()
		}
	}
}

func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0", "unix:" + path} {
		ln := listenOn(t, addr)
		want := ln.Addr().String()
		if ln.Addr().Network() == "unix" {
			want = "unix:" + path
		}
		if got := KeyOf(ln); got != want {
			t.Errorf("the key of %s is %q, want %q", addr, got, want)
		}
		// Asked by the actual port, it is the same key.
		if got := resolved(t, want).String(); got != want {
			t.Errorf("the key of %s asked again is %q, want %q", addr, got, want)
		}
		// A listener of somebody else tells its address.
		if got := KeyOf(struct{ net.Listener }{ln}); got != want {
			t.Errorf("the key of a foreign listener on %s is %q, want %q", addr, got, want)
		}
	}
}

// The listener below is there for who needs its methods.
func TestUnwrap(t *testing.T) {
	type unwrapper interface{ Unwrap() net.Listener }
	if ln, ok := listenOn(t, "127.0.0.1:0").(unwrapper).Unwrap().(*net.TCPListener); !ok {
		t.Errorf("a %T", ln)
	}
	if ln, ok := listenOn(t, "unix:"+filepath.Join(t.TempDir(), "s")).(unwrapper).Unwrap().(*net.UnixListener); !ok {
		t.Errorf("a %T", ln)
	}
}

func TestCloseRemovesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	ln := listenOn(t, "unix:"+path)
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	listenOn(t, "unix:"+path)
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second close has removed the next one's file: %v", err)
	}
}

func TestCloseLeavesAnothersFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "svc.sock")
	first := listenOn(t, "unix:"+path)
	second := listenOn(t, "unix:"+filepath.Join(dir, "other.sock"))
	if err := os.Rename(second.Addr().String(), path); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	dial(t, &net.UnixAddr{Net: "unix", Name: path})
	accept(t, second)
}

// The file has gone already: nothing is left to do.
func TestCloseWithoutTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	ln := listenOn(t, "unix:"+path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}
