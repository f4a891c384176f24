//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// supervised is the service under a supervisord of its own.
type supervised struct {
	*running // whose cmd is supervisord
}

const supervisorConfig = `[supervisord]
nodaemon=true
logfile=%[1]s/supervisord.log
pidfile=%[1]s/supervisord.pid
childlogdir=%[1]s

[unix_http_server]
file=%[1]s/supervisor.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://%[1]s/supervisor.sock

[program:svc]
command=%[2]s run
directory=%[1]s
environment=%[3]s="1"
startsecs=1
stopwaitsecs=40
autorestart=true
redirect_stderr=true
stdout_logfile=%[1]s/svc.log
`

func newSupervised(t *testing.T, config string) *supervised {
	t.Helper()
	program, err := exec.LookPath("supervisord")
	needReal(t, err == nil, "supervisord, which tools/deps installs")
	f := newFolder(t, config)
	f.write("supervisord.conf", fmt.Sprintf(supervisorConfig, f.dir, os.Args[0], runAsMain))
	cmd := exec.CommandContext(context.Background(), program, "--configuration", f.path("supervisord.conf"))
	cmd.Dir, cmd.Env = f.dir, os.Environ()
	s := &supervised{f.launched(cmd)}
	// Before it is killed at last, which would leave its programs behind.
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		s.exited()
		if log := s.text("svc.log"); t.Failed() || strings.Contains(log, "DATA RACE") {
			t.Errorf("supervisord:\n%s\nthe service:\n%s", s.text("supervisord.log"), log)
		}
	})
	s.up()
	return s
}

func (s *supervised) text(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Error(err)
	}
	return string(data)
}

// ctl is supervisorctl. Its exit code tells of the program's state.
func (s *supervised) ctl(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "supervisorctl", append([]string{"--configuration", s.path("supervisord.conf")}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// pid is the process that supervisord takes for the service.
func (s *supervised) pid() int {
	s.t.Helper()
	pid, err := strconv.Atoi(s.ctl("pid", "svc"))
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// spawned is how often supervisord has started it.
func (s *supervised) spawned() int {
	s.t.Helper()
	return strings.Count(s.text("supervisord.log"), "spawned: 'svc'")
}

// said waits for a line of the service.
func (s *supervised) said(text string) {
	s.t.Helper()
	s.until(text, func() bool { return strings.Contains(s.text("svc.log"), text) })
}

// slow sends a request that takes a while, and returns what waits for its
// answer: its status, or why there is none.
func (s *supervised) slow(delay time.Duration) func() string {
	s.t.Helper()
	answered := make(chan string, 1)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+"/v1/echo?delay="+delay.String(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		_ = resp.Body.Close()
		answered <- resp.Status
	}()
	s.until("a request under way", func() bool { return s.held() > 0 })
	return func() string { return <-answered }
}

// held is how many connections clients have.
func (s *supervised) held() (open int) {
	s.t.Helper()
	for _, g := range s.known().Generations {
		for kind, n := range g.Connections {
			if kind != "idle" {
				open += n
			}
		}
	}
	return open
}

// TestSupervisord: for supervisord the service is one process that never changes,
// whatever its workers do.
func TestSupervisord(t *testing.T) {
	t.Parallel()
	s := newSupervised(t, "server: {listen: ['"+freeAddress(t)+"']}\n")
	pid := s.pid()
	if known := s.known(); known.KeeperPID != pid {
		t.Errorf("supervisord started %d, the keeper is %d", pid, known.KeeperPID)
	}
	s.until("RUNNING", func() bool { return strings.Contains(s.ctl("status", "svc"), "RUNNING") })

	s.ctl("signal", "HUP", "svc")
	s.said(`"msg":"re-read on signal","generation":1,"outcome":"unchanged"`)

	l := newLoad(t, s.url, nil)
	for next := 2; next <= 4; next++ {
		s.ctl("signal", "USR2", "svc")
		s.until("a restart", func() bool { return s.known().Serving == next })
	}
	l.end()
	if failed := l.failures.Load(); failed > 0 || l.requests.Load() == 0 {
		t.Errorf("%d of %d requests failed, the first: %s", failed, l.requests.Load(), *l.firstFailure.Load())
	}

	// The worker's crash is nothing to supervisord.
	for _, g := range s.known().Generations {
		if err := unix.Kill(g.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	s.until("a successor", func() bool { return s.known().Serving > 4 })
	if code, _ := s.get("/v1/config"); code != http.StatusOK {
		t.Errorf("after a crash it answers with %d", code)
	}
	if now := s.pid(); now != pid || s.spawned() != 1 {
		t.Errorf("process %d is %d now, started %d times", pid, now, s.spawned())
	}

	// A stop finishes what is under way.
	wait := s.slow(2 * time.Second)
	if got := s.ctl("stop", "svc"); got != "svc: stopped" {
		t.Errorf("stop: %s", got)
	}
	if got := wait(); got != "200 OK" {
		t.Errorf("a request under way at the stop was answered with %s", got)
	}
	if got := s.ctl("status", "svc"); !strings.Contains(got, "STOPPED") || !strings.Contains(s.text("supervisord.log"), "stopped: svc (exit status 0)") {
		t.Errorf("status: %s", got)
	}
	s.svc("status").want(t, 1, "no service answers")

	if got := s.ctl("start", "svc"); got != "svc: started" {
		t.Errorf("start: %s", got)
	}
	if code, _ := s.get("/v1/config"); code != http.StatusOK {
		t.Errorf("after a stop and a start it answers with %d", code)
	}
}

// TestSupervisordKilledKeeper: supervisord starts another keeper while the
// workers of the one that was killed still finish what they have begun.
func TestSupervisordKilledKeeper(t *testing.T) {
	t.Parallel()
	s := newSupervised(t, "server: {listen: ['"+freeAddress(t)+"'], timeout: {request: 60s}}\n")
	pid := s.pid()
	s.svc("restart").want(t, 0, "restarted")
	wait := s.slow(4 * time.Second)
	orphans := s.known().Generations
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("another keeper", func() bool { return s.spawned() == 2 })
	s.up()
	if now := s.known().KeeperPID; now == pid || now != s.pid() {
		t.Errorf("the keeper is %d, it was %d", now, pid)
	}
	if code, _ := s.get("/v1/config"); code != http.StatusOK {
		t.Errorf("answers with %d", code)
	}
	alive := slices.DeleteFunc(slices.Clone(orphans), func(g keeper.Generation) bool { return !lives(t, g.PID) })
	if len(alive) == 0 {
		t.Error("the old workers have ended with a request under way")
	}
	if got := wait(); got != "200 OK" {
		t.Errorf("a request under way when the keeper was killed was answered with %s", got)
	}
	s.until("the end of the old workers", func() bool {
		return !slices.ContainsFunc(orphans, func(g keeper.Generation) bool { return lives(t, g.PID) })
	})
	s.svc("restart").want(t, 0, "restarted")
}
