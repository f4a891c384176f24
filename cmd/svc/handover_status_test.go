//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/server/keeper"
)

// TestStatusInEachSituation: status answers whatever becomes of the service, and
// says what to know.
func TestStatusInEachSituation(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	s := newSubject(t, "server: {listen: ['"+address+"'], timeout: {request: 0}}\npublic: {n: 1}\n")
	s.program = s.path("program")
	if err := copyProgram(s.program); err != nil {
		t.Fatal(err)
	}

	// None runs.
	s.svc("status").want(t, 1, "no service answers", "svc run")
	s.svc("status", "--wait", "--timeout", "300ms").want(t, 1, "no service answers")
	s.svc("restart").want(t, 1, "no keeper answers", "svc run")
	waited, folder := make(chan result, 1), s.folder
	go func() { waited <- folder.svc("status", "--wait", "--timeout", "18s") }()
	s.run()
	(<-waited).want(t, 0, "healthy")

	// One drains.
	answered := make(chan string, 1)
	s.echo("4s", answered)
	s.eventually("the request", func() bool { return s.status().Generations[0].Connections["http1"] == 1 })
	old := s.serving()
	s.svc("restart").want(t, 0, "restarted")
	s.eventually("what it holds", func() bool {
		st := s.status()
		return len(st.Generations) == 2 && st.Generations[0].Connections["http1"] == 1
	})
	s.svc("status").want(t, 0, "draining", "1 http1", "generation 2 took over: svc restart", "ends by")
	if st := s.status(); st.Generations[0].PID != old.PID || st.Generations[0].By == nil || st.Generation != 2 {
		t.Errorf("status %+v", st)
	}
	if got := <-answered; got != "200 OK" {
		t.Error(got)
	}
	s.settled()

	// The one that serves is stuck.
	g := s.serving()
	s.kill(g.PID, syscall.SIGSTOP)
	s.svc("status").want(t, 1, "not healthy", "does not answer")
	var st status
	if got := s.svc("status", "--output", "json"); json.Unmarshal([]byte(got.stdout), &st) != nil || st.Generation != g.Number || len(st.Generations) != 1 {
		t.Errorf("status of a stuck one: %s", got.stdout)
	}
	// A restart needs nothing of it.
	s.svc("restart").want(t, 0, "restarted")
	s.svc("status").want(t, 0, "healthy")
	s.kill(g.PID, syscall.SIGCONT)
	s.settled()

	// The keeper is stuck: the worker answers.
	s.signal(syscall.SIGSTOP)
	s.svc("status").want(t, 0, "healthy")
	s.signal(syscall.SIGCONT)

	// No worker, and none can be started.
	if err := os.Rename(s.program, s.program+".away"); err != nil {
		t.Fatal(err)
	}
	s.write("program", "no program\n")
	s.svc("restart").want(t, 1, "restart_failed", s.program)
	s.svc("status").want(t, 0, "healthy", "failed", s.program)
	s.kill(s.serving().PID, syscall.SIGKILL)
	s.eventually("a failed start", func() bool { table := s.table(); return table.Serving == 0 && table.Trouble != "" })
	s.svc("status").want(t, 1, "not healthy", "trouble", s.program)
	s.svc("history").want(t, 1, "does not answer", "svc status")
	s.svc("restart").want(t, 1, "restart_failed", s.program)
	go func() { waited <- folder.svc("status", "--wait", "--timeout", "19s") }()
	if err := os.Rename(s.program+".away", s.program); err != nil {
		t.Fatal(err)
	}
	(<-waited).want(t, 0, "healthy")
	s.svc("status").want(t, 0, "healthy")
	if st := s.status(); st.Trouble != "" {
		t.Errorf("trouble %q", st.Trouble)
	}
	s.settled()

	// It stops.
	s.echo("3s", answered)
	s.eventually("the request", func() bool { return s.status().Generations[0].Connections["http1"] == 1 })
	s.signal(syscall.SIGTERM)
	s.eventually("it is stopping", func() bool { table, err := s.ask(); return err == nil && table.Stopping })
	s.svc("status").want(t, 1, "not healthy", "draining", "stopping")
	s.svc("restart").want(t, 1, "restart_failed", "stopping")
	if got := <-answered; got != "200 OK" {
		t.Error(got)
	}
	if code := s.exited(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.logged())
	}
	s.nothingLeft()
	s.svc("status").want(t, 1, "no service answers")
}

// TestRestartOverTCP: the operator's listener on TCP does what the command asks,
// and says why not.
func TestRestartOverTCP(t *testing.T) {
	t.Parallel()
	const token = "canary-restart-0123456789"
	address, operator := freeAddress(t), freeAddress(t)
	s := newSubject(t, "server: {listen: ['"+address+"']}\nadmin: {listen: ['"+operator+"'], token: "+token+"}\n")
	s.program = s.path("program")
	if err := copyProgram(s.program); err != nil {
		t.Fatal(err)
	}
	s.svc("restart", "--admin", operator).want(t, 1, "no service answers", operator)
	s.run()
	s.settled()
	s.svc("restart", "--admin", operator).want(t, 1, "SVC_ADMIN_TOKEN")
	plain := s.env
	s.env = append(slices.Clone(plain), "SVC_ADMIN_TOKEN="+token)
	s.svc("restart", "--admin", operator).want(t, 0, "restarted")
	if st := s.status(); st.LastRestart == nil || st.LastRestart.Reason != "admin API" || st.Generation != 2 {
		t.Errorf("status %+v", st.LastRestart)
	}
	s.svc("restart", "--admin", operator, "--output", "json").want(t, 0, `"outcome": "restarted"`)
	if err := os.Rename(s.program, s.program+".away"); err != nil {
		t.Fatal(err)
	}
	s.svc("restart", "--admin", operator).want(t, 1, "restart_failed", s.program)
	s.svc("restart", "--admin", operator, "--output", "json").want(t, 1, `"outcome": "restart_failed"`, s.program)
	s.svc("status", "--admin", operator).want(t, 0, "healthy", "failed")
	if err := os.Rename(s.program+".away", s.program); err != nil {
		t.Fatal(err)
	}
	s.svc("restart", "--admin", operator).want(t, 0, "restarted")
	s.env = plain
	s.settled()
	s.stop()
}

// TestAPIShapes: the answers have the fields that the contract names.
func TestAPIShapes(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	s := newSubject(t, "server: {listen: ['"+address+"']}\npublic: {n: 1}\n")
	s.run()
	var d net.Dialer
	idle, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close() }()
	answered := make(chan string, 1)
	s.echo("2s", answered)
	s.eventually("connections", func() bool { return s.status().Generations[0].Connections["http1"] == 2 })

	var restart map[string]any
	s.api(http.MethodPost, "/api/v1/restart", http.StatusOK, &restart)
	if diff := cmp.Diff(map[string]any{"outcome": "restarted", "reason": ""}, restart); diff != "" {
		t.Errorf("restart: %s", diff)
	}
	var generations []map[string]any
	s.api(http.MethodGet, "/api/v1/generations", http.StatusOK, &generations)
	if len(generations) != 2 {
		t.Fatalf("generations %v", generations)
	}
	for _, g := range generations {
		for _, name := range []string{"number", "pid", "state", "since", "connections"} {
			if g[name] == nil {
				t.Errorf("a generation has no %s: %v", name, g)
			}
		}
	}
	if generations[0]["state"] != "draining" || generations[1]["state"] != "probation" {
		t.Errorf("generations %v", generations)
	}
	// The one that is idle has moved; the one under way has not.
	var connections struct {
		Counts      []map[string]any `json:"counts"`
		Connections []map[string]any `json:"connections"`
	}
	s.eventually("the idle connection", func() bool {
		s.api(http.MethodGet, "/api/v1/connections", http.StatusOK, &connections)
		return len(connections.Connections) == 1
	})
	c := connections.Connections[0]
	if c["kind"] != "http1" || c["state"] != "new" || c["listener"] != address || c["peer"] != idle.LocalAddr().String() || c["opened"] == "" || c["since"] == "" {
		t.Errorf("connection %v", c)
	}
	kinds, states := map[any]bool{}, map[any]bool{}
	for _, count := range connections.Counts {
		kinds[count["kind"]], states[count["state"]] = true, true
	}
	for kind := range kinds {
		if !slices.Contains([]any{"http1", "h2", "ws", "sse", "poll", "custom"}, kind) {
			t.Errorf("connection kind %v", kind)
		}
	}
	for state := range states {
		if !slices.Contains([]any{"new", "active", "idle", "draining", "moved"}, state) {
			t.Errorf("connection state %v", state)
		}
	}
	var st map[string]any
	s.api(http.MethodGet, "/api/v1/status", http.StatusOK, &st)
	for _, name := range []string{"healthy", "version", "keeper_pid", "source", "revision", "pinned", "generation", "last", "generations", "listeners"} {
		if _, there := st[name]; !there {
			t.Errorf("status has no %s: %v", name, slices.Sorted(maps.Keys(st)))
		}
	}
	if got := <-answered; got != "200 OK" {
		t.Error(got)
	}
	var problem map[string]any
	s.api(http.MethodGet, "/api/v1/restart", http.StatusMethodNotAllowed, &problem)
	s.settled()
	s.stop()
}

// api asks on the operator's socket.
func (s *subject) api(method, path string, code int, out any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://admin"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	var d net.Dialer
	c, err := d.DialContext(s.t.Context(), "unix", s.path(".svc/admin.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := req.Write(c); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != code {
		s.t.Fatalf("%s: %v %s %s", path, err, resp.Status, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		s.t.Fatalf("%s: %v in %s", path, err, body)
	}
}

// TestStopAtAnyTime: a stop during a start, a handover, and twice, ends in order,
// with nothing left behind.
func TestStopAtAnyTime(t *testing.T) {
	t.Parallel()
	first, second := freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 1))
	ended := func(when string, codes ...int) {
		t.Helper()
		if code := s.exited(); !slices.Contains(codes, code) {
			t.Errorf("%s: exit code %d\n%s", when, code, s.logged())
		}
		s.nothingLeft()
	}
	// During the start, at several moments. Before the signal is caught it ends the
	// process, as any.
	for _, delay := range []time.Duration{0, 20, 60, 150, 300} {
		s.launchOnly()
		time.Sleep(delay * time.Millisecond)
		s.signal(syscall.SIGTERM)
		ended("during the start", 0, -1)
	}
	// Its worker has not even begun.
	s.launchOnly()
	s.eventually("a worker", func() bool {
		table, err := s.ask()
		if err != nil || len(table.Generations) == 0 {
			return false
		}
		s.kill(table.Generations[0].PID, syscall.SIGSTOP)
		return true
	})
	s.signal(syscall.SIGTERM)
	ended("with a stuck worker", 0, 1)

	for _, phase := range []keeper.State{keeper.StateStarting, keeper.StateProbation} {
		s.run()
		before := s.serving()
		s.signal(syscall.SIGUSR2)
		s.next(before.Number, phase)
		s.signal(syscall.SIGTERM)
		ended("during a restart: "+string(phase), 0)
	}
	// A restart by the config, which waits for its outcome.
	s.run()
	before := s.serving()
	s.edit(moving(first, freeAddress(t), 2))
	s.next(before.Number, keeper.StateStarting)
	s.signal(syscall.SIGTERM)
	ended("during a change", 0)

	// Twice, with a request under way in two generations.
	s.run()
	answered := make(chan string, 2)
	s.echo("10m", answered)
	s.eventually("a request", func() bool { return s.status().Generations[0].Connections["http1"] == 1 })
	s.svc("restart").want(t, 0, "restarted")
	s.echo("10m", answered)
	s.eventually("another", func() bool {
		g, ok := youngest(s.table(), keeper.StateProbation, keeper.StateServing)
		return ok && g.Connections["http1"] == 1
	})
	s.signal(syscall.SIGTERM)
	s.eventually("it is stopping", func() bool { table, err := s.ask(); return err == nil && table.Stopping })
	s.signal(syscall.SIGTERM)
	ended("twice", 1)
	for range 2 {
		<-answered
	}

	// And it starts again.
	s.run()
	if _, ok := s.at(first); !ok {
		t.Error("the service does not start again")
	}
	if left, err := filepath.Glob(s.path(".svc/*.sock")); err != nil || len(left) != 2 {
		t.Errorf("sockets %v %v", left, err)
	}
	s.settled()
	s.stop()
}
