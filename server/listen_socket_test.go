package server

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listenAll opens listeners that the test closes in the end.
func listenAll(t *testing.T, addrs ...string) []net.Listener {
	t.Helper()
	listeners, err := Listen(t.Context(), addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, ln := range listeners {
			_ = ln.Close()
		}
	})
	return listeners
}

// overSocket is an HTTP client to a unix socket, whatever the URL says.
func overSocket(t *testing.T, path string) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestSocketServes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	s := startOn(t, listenAll(t, "unix:"+path), Options{Handler: handler(hello)})
	c := overSocket(t, path)
	for range 3 {
		if a := get(t, c, "http://svc/"); a.body != "hello" {
			t.Errorf("answer %s %q", a.Status, a.body)
		}
	}
	if d := cmp.Diff([]string{"unix:" + path}, s.Addrs()); d != "" {
		t.Errorf("addresses (-want +got):\n%s", d)
	}
	s.stop()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// abandon leaves a socket that nobody listens on.
func abandon(t *testing.T, path string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
}

func TestSocketThatNobodyListensOnIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	abandon(t, path)
	s := startOn(t, listenAll(t, "unix:"+path), Options{Handler: handler(hello)})
	if a := get(t, overSocket(t, path), "http://svc/"); a.body != "hello" {
		t.Errorf("answer %s %q", a.Status, a.body)
	}
	s.stop()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

func TestSocketInUseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	startOn(t, listenAll(t, "unix:"+path), Options{Handler: handler(hello)})
	_, err := Listen(t.Context(), []string{"unix:" + path})
	wantError(t, err, "listen on unix:"+path+": another program listens on this address; choose another, or stop it: ")
	if a := get(t, overSocket(t, path), "http://svc/"); a.body != "hello" {
		t.Errorf("the first one answers %s %q", a.Status, a.body)
	}
}

func TestWhatIsNoSocketIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	file, folder, link := filepath.Join(dir, "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "link")
	abandon(t, filepath.Join(dir, "stale"))
	if err := errors.Join(os.WriteFile(file, []byte("data"), 0o600), os.Mkdir(folder, 0o700),
		os.Symlink(filepath.Join(dir, "stale"), link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, folder, link} {
		_, err := Listen(t.Context(), []string{"unix:" + path})
		wantError(t, err, "listen on unix:"+path+": there is something at the path that is no socket; remove it, or choose another path: ")
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "data" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestSocketInAFolderThatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nothing", "svc.sock")
	_, err := Listen(t.Context(), []string{"unix:" + path})
	wantError(t, err, "listen on unix:"+path+": ")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v hides its cause", err)
	}
}

// All or none holds for sockets too: no file stays behind.
func TestSocketIsRemovedWhenAnotherAddressFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	taken := listenAll(t, "127.0.0.1:0")
	if _, err := Listen(t.Context(), []string{"unix:" + path, taken[0].Addr().String()}); err == nil {
		t.Fatal("a taken port is opened")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestSeveralListeners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	listeners := listenAll(t, "127.0.0.1:0", "unix:"+path, "[::1]:0", "127.0.0.1:0")
	s := startOn(t, listeners, Options{Handler: handler(hello)})
	eventually(t, "listeners", func() bool { return len(s.Addrs()) == len(listeners) })
	addrs := s.Addrs()
	if addrs[1] != "unix:"+path || !strings.HasPrefix(addrs[2], "[::1]:") || addrs[0] == addrs[3] {
		t.Errorf("addresses %v", addrs)
	}
	// The form in which they are told can be configured.
	cfg := Default()
	cfg.Listen = addrs
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	for _, i := range []int{0, 2, 3} {
		if a := get(t, client(t), "http://"+addrs[i]+"/"); a.body != "hello" {
			t.Errorf("%s: %s", addrs[i], a.Status)
		}
	}
	if a := get(t, overSocket(t, path), "http://svc/"); a.body != "hello" {
		t.Errorf("%s: %s", addrs[1], a.Status)
	}
	s.stop()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// All of IPv4 and all of IPv6 on one port, in any order.
func TestBothFamiliesOnOnePort(t *testing.T) {
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		free := listenAll(t, "127.0.0.1:0")
		_, port, err := net.SplitHostPort(free[0].Addr().String())
		if err == nil {
			err = free[0].Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		both := []string{"0.0.0.0:" + port, "[::]:" + port}
		listeners := listenAll(t, both[order[0]], both[order[1]])
		startOn(t, listeners, Options{Handler: handler(hello)})
		for _, host := range []string{"127.0.0.1", "::1"} {
			if a := get(t, client(t), "http://"+net.JoinHostPort(host, port)+"/"); a.body != "hello" {
				t.Errorf("%s: %s", host, a.Status)
			}
		}
	}
}

// [::] by itself is all of both.
func TestIPv6AloneServesIPv4(t *testing.T) {
	for _, addr := range []string{"[::]:0", ":0"} {
		listeners := listenAll(t, addr)
		startOn(t, listeners, Options{Handler: handler(hello)})
		_, port, err := net.SplitHostPort(listeners[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"127.0.0.1", "::1"} {
			if a := get(t, client(t), "http://"+net.JoinHostPort(host, port)+"/"); a.body != "hello" {
				t.Errorf("%s by %s: %s", host, addr, a.Status)
			}
		}
	}
}

func TestIPv4AloneIsIPv4(t *testing.T) {
	listeners := listenAll(t, "0.0.0.0:0")
	startOn(t, listeners, Options{Handler: handler(hello)})
	if ip := listeners[0].Addr().(*net.TCPAddr).IP; ip.String() != "0.0.0.0" {
		t.Errorf("it listens on %s", listeners[0].Addr())
	}
}
