package server

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The child is nobody, so that the test means the same when root runs it.
func TestListenWithoutRight(t *testing.T) {
	const addr = "127.0.0.1:80"
	got := runChild(t, addr, func(cmd *exec.Cmd) {
		attr := &syscall.SysProcAttr{}
		if os.Getuid() == 0 {
			attr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		}
		cmd.SysProcAttr = attr
	})
	const refusal = "listen on " + addr + ": this user may not open the port; use a port from 1024 up, or allow it: "
	// A machine may let everybody open port 80.
	if want := unprivilegedPortStart(t) > 80; strings.HasPrefix(got, refusal) != want {
		t.Errorf("the child says %q; is it to be refused: %v", got, want)
	}
}

func unprivilegedPortStart(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// runChild runs the test binary as a child that listens on addr.
func runChild(t *testing.T, addr string, edit func(*exec.Cmd)) string {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	// By descriptor: the other user need not be able to reach the path.
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = append(os.Environ(), listenEnv+"="+addr)
	cmd.Dir = "/"
	edit(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run the child: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// Who may connect to a unix socket, Linux decides by its mode.
func TestSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "svc.sock")
	listenAll(t, "unix:"+path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode != fs.ModeSocket|0o660 {
		t.Errorf("mode %v", mode)
	}
}

// An abstract socket has no file.
func TestAbstractSocket(t *testing.T) {
	name := "@svc-" + strconv.Itoa(os.Getpid())
	startOn(t, listenAll(t, "unix:"+name), Options{Handler: handler(hello)})
	if a := get(t, overSocket(t, name), "http://svc/"); a.body != "hello" {
		t.Errorf("answer %s %q", a.Status, a.body)
	}
	_, err := Listen(t.Context(), []string{"unix:" + name})
	wantError(t, err, "listen on unix:"+name+": another program listens on this address")
}
