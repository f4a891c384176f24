//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// word is one datagram to the service manager.
type word struct {
	at     time.Time
	pid    int32 // of the sender, from the kernel
	fields map[string]string
}

// serviceManager hears what a service tells its manager (sd_notify(3)).
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
	mu   sync.Mutex // guards heard
	all  []word
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	m := &serviceManager{t: t, path: filepath.Join(t.TempDir(), "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	raw, err := m.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}); err != nil || optErr != nil {
		t.Fatal(err, optErr)
	}
	return m
}

// listen hears from now on.
func (m *serviceManager) listen() {
	var listening sync.WaitGroup
	listening.Go(func() {
		data, oob := make([]byte, 4096), make([]byte, 4096)
		for {
			n, oobn, _, _, err := m.conn.ReadMsgUnix(data, oob)
			if err != nil {
				return // the test has ended
			}
			m.hear(string(data[:n]), oob[:oobn])
		}
	})
	m.t.Cleanup(func() {
		_ = m.conn.Close()
		listening.Wait()
	})
}

func (m *serviceManager) hear(text string, oob []byte) {
	one := word{at: time.Now(), fields: map[string]string{}}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err == nil && len(controls) == 1 {
		if credentials, err := unix.ParseUnixCredentials(&controls[0]); err == nil {
			one.pid = credentials.Pid
		}
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		one.fields[name] = value
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, one)
}

func (m *serviceManager) heard() []word {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

// count is how many were heard by now.
func (m *serviceManager) count() int { return len(m.heard()) }

// find returns the first one after the first from that has a field, and how many
// there were until then.
func (m *serviceManager) find(from int, field string) (word, int, bool) {
	all := m.heard()
	for i := from; i < len(all); i++ {
		if _, ok := all[i].fields[field]; ok {
			return all[i], i + 1, true
		}
	}
	return word{}, len(all), false
}

// next waits for one after the first from that has a field.
func (m *serviceManager) next(r *running, from int, field string) (word, int) {
	m.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if one, n, ok := m.find(from, field); ok {
			return one, n
		}
	}
	m.t.Fatalf("%s was not told; heard %v\n%s", field, m.heard(), r.log)
	return word{}, 0
}

// launch runs the service by a shell that does something before in the process
// that becomes the service, as a service manager does. It does not wait for it.
func (f *folder) launch(before, program string, files ...*os.File) *running {
	f.t.Helper()
	cmd := f.shell(before, program)
	cmd.ExtraFiles = files
	return f.launched(cmd)
}

func (f *folder) shell(before, program string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", before+`; exec "$0" run`, program)
	cmd.Dir = f.dir
	cmd.Env = append(append(os.Environ(), f.env...), runAsMain+"=1")
	return cmd
}

func (f *folder) launched(cmd *exec.Cmd) *running {
	f.t.Helper()
	r := &running{folder: f, cmd: cmd, log: &lockedBuffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = r.log, r.log
	// A worker that outlives a killed keeper has them too.
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(r.done)
	}()
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-r.done
		if log := r.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
			f.t.Errorf("the service's log: %s", log)
		}
	})
	return r
}

// up waits for the service.
func (r *running) up() {
	r.t.Helper()
	if got := r.svc("status", "--wait", "--timeout", "15s"); got.code != 0 {
		r.t.Fatalf("the service did not start: %s\n%s", got.stderr, r.log)
	}
	r.url = "http://" + r.status().Listeners[0]
}

// known is what the keeper knows, whoever serves.
func (r *running) known() keeper.Table {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	table, err := keeper.Ask(ctx, r.path(".svc"))
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log)
	}
	return table
}

// asManager is what only the process that becomes the service can set.
const asManager = `export WATCHDOG_PID=$$ LISTEN_PID=$$`

// ofManager are the variables that speak to the keeper alone.
var ofManager = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// environmentIsClean fails when a worker has a variable of the service manager.
func (r *running) environmentIsClean() {
	r.t.Helper()
	for _, g := range r.known().Generations {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", g.PID))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if !strings.Contains(string(data), "SVC_WORKER=1") {
			r.t.Errorf("process %d is no worker", g.PID)
		}
		for variable := range strings.SplitSeq(string(data), "\x00") {
			if name, _, _ := strings.Cut(variable, "="); slices.Contains(ofManager, name) {
				r.t.Errorf("generation %d was started with %s", g.Number, name)
			}
		}
	}
}

// onlyTheKeeper fails when anything else has told something.
func (m *serviceManager) onlyTheKeeper(r *running) {
	m.t.Helper()
	for _, one := range m.heard() {
		if int(one.pid) != r.cmd.Process.Pid {
			m.t.Errorf("process %d told %v, the keeper is %d", one.pid, one.fields, r.cmd.Process.Pid)
		}
	}
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}
