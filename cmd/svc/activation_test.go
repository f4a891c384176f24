//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// TestListenFDs: a socket that the service manager has opened is used where the
// configuration names its address, and stays open whatever becomes of the service.
func TestListenFDs(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			testListenFDs(t, network)
		})
	}
}

// activated is the service manager's socket.
type activated struct {
	t     *testing.T
	l     net.Listener
	file  *os.File
	name  string // in server.listen
	inode string // as a link in /proc/PID/fd shows it
}

func newActivated(t *testing.T, network string) *activated {
	t.Helper()
	a := &activated{t: t}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // nor does systemd, unless it is told to
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	var err error
	if a.l, err = config.Listen(t.Context(), network, address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.l.Close() })
	if a.file, err = a.l.(interface{ File() (*os.File, error) }).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.file.Close() })
	if a.inode, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", a.file.Fd())); err != nil {
		t.Fatal(err)
	}
	if a.name = a.l.Addr().String(); network == "unix" {
		a.name = "unix:" + a.name
	}
	return a
}

// ask sends a request, and returns what waits for the answer's first line.
func (a *activated) ask() func() string {
	a.t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(a.t.Context(), a.l.Addr().Network(), a.l.Addr().String())
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET /v1/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")); err != nil {
		a.t.Fatal(err)
	}
	return func() string {
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		line := make([]byte, len("HTTP/1.1 200"))
		n, err := conn.Read(line)
		if err != nil {
			return err.Error()
		}
		return string(line[:n])
	}
}

// answers fails unless a request is answered.
func (a *activated) answers(what string, wait func() string) {
	a.t.Helper()
	if got := wait(); got != "HTTP/1.1 200" {
		a.t.Errorf("%s: %q", what, got)
	}
}

// in reports whether a process has the socket.
func (a *activated) in(pid int) bool { return a.descriptor(pid) != "" }

// descriptor is the socket's number in a process; "": it does not have it.
func (a *activated) descriptor(pid int) string {
	a.t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == a.inode {
			return filepath.Base(link)
		}
	}
	return ""
}

// nonblocking reads it off /proc: to ask the test's own file would change it.
func (a *activated) nonblocking(pid int) bool {
	a.t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, a.descriptor(pid)))
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseInt(strings.TrimSpace(octal), 8, 64)
			return err == nil && flags&unix.O_NONBLOCK != 0
		}
	}
	return false
}

func testListenFDs(t *testing.T, network string) {
	t.Helper()
	a := newActivated(t, network)
	queued := a.ask() // before the start
	named := "server: {listen: ['" + a.name + "'], drain: {overlap: 100ms}}\n"
	f := newFolder(t, named)
	f.env = []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=service"}
	r := f.launch(asManager, os.Args[0], a.file)
	r.up()
	serving := func() int {
		k := r.known()
		i := slices.IndexFunc(k.Generations, func(g keeper.Generation) bool { return g.Number == k.Serving })
		return k.Generations[i].PID
	}
	a.answers("what came before the start", queued)
	if st := r.status(); !slices.Equal(st.Listeners[:1], []string{a.name}) || !a.in(serving()) || !a.in(r.cmd.Process.Pid) {
		t.Errorf("it is served by another socket: %+v", st)
	}
	r.environmentIsClean()
	if !a.nonblocking(r.cmd.Process.Pid) {
		t.Error("the socket blocks, which may hold up whoever accepts")
	}

	f.svc("restart").want(t, 0, "restarted")
	a.answers("after a restart", a.ask())
	if r.known().Serving != 2 || !a.in(serving()) {
		t.Errorf("after a restart it is served by another socket: %+v", r.known())
	}
	r.environmentIsClean()

	// Nothing of it is for a worker to keep once the address is given up.
	f.edit("server: {listen: ['127.0.0.1:0'], drain: {overlap: 100ms}}\n")
	r.until("no worker has it", func() bool {
		return r.known().Serving == 3 && !slices.ContainsFunc(r.workers(), a.in)
	})
	if !a.in(r.cmd.Process.Pid) {
		t.Error("the keeper has closed it")
	}
	queued = a.ask()
	f.edit(named)
	a.answers("what came while nobody served it", queued)
	a.answers("again", a.ask())

	// A crash, and a stop, leave it open.
	r.until("the end of probation", func() bool {
		return slices.ContainsFunc(r.known().Generations, func(g keeper.Generation) bool { return g.Number == 4 && g.State == keeper.StateServing })
	})
	if err := unix.Kill(serving(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.answers("after a crash", a.ask())
	r.signal(unix.SIGTERM)
	if code := r.exited(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	queued = a.ask()
	conn, err := a.l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("HTTP/1.1 200")); err != nil {
		t.Error(err)
	}
	a.answers("after the stop", queued)
	_ = conn.Close()

	// And the next start has it again.
	queued = a.ask()
	r = f.launch(asManager, os.Args[0], a.file)
	a.answers("after the next start", queued)
	r.up()
}
