//go:build linux

package main

import (
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server/keeper"
)

// TestBusyPort: an address that is taken fails the restart, and nothing else; the
// rest of the content is applied, the reason is there to see, and when the address
// is free the restart is done.
func TestBusyPort(t *testing.T) {
	t.Parallel()
	first, second := freeAddress(t), freeAddress(t)
	var config net.ListenConfig
	taken, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	busy := taken.Addr().String()
	s := newSubject(t, moving(first, second, 1))
	s.run()
	service := newProber(t, 2*time.Millisecond, probeHTTP("tcp", first, http.MethodGet, "/v1/config"))
	before := s.serving()
	s.edit(moving(first, busy, 2))
	s.eventually("restart_failed", func() bool { return s.status().Last.Outcome == reload.RestartFailed })
	st := s.status()
	if !s.has(first, 2) || !s.has(second, 2) || s.serving().PID != before.PID || !st.Healthy || st.Last.Action != reload.ActionInPlace {
		t.Errorf("the rest is not applied where it serves: %+v", st)
	}
	for _, shown := range []string{st.Last.Reason, st.LastRestart.Error, s.svc("history").stdout, s.svc("status").stdout, s.logged()} {
		if !strings.Contains(shown, "listen") || !strings.Contains(shown, busy) || !strings.Contains(shown, "in use") {
			t.Errorf("the reason is not to be seen in %s", shown)
		}
	}
	s.svc("reload").want(t, 1, "restart_failed", busy)
	s.svc("plan").want(t, 3, "server.listen", "restart")
	// A plain restart is not held up by it.
	s.svc("restart").want(t, 0, "restarted")
	if !s.has(second, 2) {
		t.Error("a plain restart has changed the content")
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	s.eventually("the restart, when the address is free", func() bool { return s.has(busy, 2) })
	s.eventually("its entry", func() bool { return s.status().Last.Outcome == reload.Restarted })
	s.changes()
	s.settled()
	if _, ok := s.at(second); ok {
		t.Error("the old address still answers")
	}
	service.end("the service")
	s.stop()
}

// TestCrashWhileStarting: a new generation that crashes of the content is not
// tried again until there is another content, or somebody says so.
func TestCrashWhileStarting(t *testing.T) {
	t.Parallel()
	first, second, third := freeAddress(t), freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 1))
	s.run()
	before := s.serving()
	s.edit(moving(first, third, 2))
	g := s.next(before.Number, keeper.StateStarting)
	s.kill(g.PID, syscall.SIGSEGV)
	s.eventually("restart_failed", func() bool { return s.status().Last.Outcome == reload.RestartFailed })
	if st := s.status(); !strings.Contains(st.Last.Reason, "SIGSEGV") {
		t.Errorf("the reason is %q", st.Last.Reason)
	}
	if !s.has(first, 2) || !s.has(second, 2) {
		t.Error("the live part is not applied")
	}
	time.Sleep(4 * time.Second)
	if now := s.table(); now.LastRestart.Generation != g.Number || now.Serving != before.Number {
		t.Errorf("it was tried again: %+v", now.LastRestart)
	}
	s.svc("reload").want(t, 1, "restart_failed")
	// A restart may bring another program, and with it another outcome.
	s.svc("restart").want(t, 0, "restarted")
	s.eventually("the restart", func() bool { return s.has(third, 2) })

	// Again, and then another content.
	before = s.serving()
	s.edit(moving(first, second, 3))
	g = s.next(before.Number, keeper.StateStarting)
	s.kill(g.PID, syscall.SIGABRT)
	s.eventually("restart_failed again", func() bool { return s.status().Last.Outcome == reload.RestartFailed })
	s.edit(moving(first, second, 4))
	s.eventually("another content", func() bool { return s.has(first, 4) && s.has(second, 4) })
	s.changes()
	s.settled()
	s.stop()
}

// TestDeathOnProbation: when the new generation dies before its two seconds are
// over, the one before serves again, and does not try that content again.
func TestDeathOnProbation(t *testing.T) {
	t.Parallel()
	first, second, third := freeAddress(t), freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 1))
	// A drain that does not end by itself does not end in this test.
	s.env = append(s.env, "SVC_SET=server.drain.timeout=10m")
	s.run()
	s.settled()
	revision := s.status().Revision
	for i, delay := range []time.Duration{0, time.Second} {
		n := 2 + i
		before := s.serving()
		s.edit(moving(first, third, n))
		g := s.next(before.Number, keeper.StateProbation)
		if g.State != keeper.StateProbation {
			t.Fatalf("%+v was not seen on probation", g)
		}
		time.Sleep(delay)
		// Last good is not what is on probation.
		if data, err := os.ReadFile(s.path(".svc/last-good.json")); err != nil || i == 0 && !strings.Contains(string(data), second) {
			t.Errorf("last good on probation: %v %s", err, data)
		}
		s.kill(g.PID, syscall.SIGKILL)
		s.eventually("the one before serves again", func() bool {
			table := s.table()
			return table.Serving == before.Number && len(table.Generations) == 1
		})
		s.eventually("the outcome", func() bool { return s.status().Last.Outcome == reload.RestartFailed })
		st := s.status()
		if !st.Healthy || !strings.Contains(st.Last.Reason, "SIGKILL") || !slices.Contains(st.Last.Changed, "server.listen") ||
			st.LastRestart.Outcome != "undone" || st.Trouble == "" {
			t.Errorf("status %+v, last restart %+v", st, st.LastRestart)
		}
		s.svc("status").want(t, 0, "restart_failed", "undone", "SIGKILL")
		if !s.has(first, n) || !s.has(second, n) {
			t.Errorf("the live part is not applied: %+v", s.status().Last)
		}
		s.eventually("the end of the new address", func() bool { _, ok := s.at(third); return !ok })
		time.Sleep(3 * time.Second)
		if now := s.table(); now.LastRestart.Generation != g.Number {
			t.Errorf("it was tried again: %+v", now.LastRestart)
		}
	}
	s.edit(moving(first, third, 9))
	s.eventually("another content", func() bool { return s.has(first, 9) && s.has(third, 9) })
	s.settled()
	if st := s.status(); st.Last.Outcome != reload.Restarted || st.Trouble != "" {
		t.Errorf("status %+v", st)
	}
	if _, ok := s.at(second); ok {
		t.Error("the address that was given up twice and taken back still answers")
	}
	changes := s.changes()
	if changes[0].Revision != revision {
		t.Errorf("the first change is %+v", changes[0])
	}
	s.stop()
}

// TestLastGoodAfterProbation: a cold start after everything was killed while a
// new content was on probation has the content before it as last good.
func TestLastGoodAfterProbation(t *testing.T) {
	t.Parallel()
	first, second := freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 1))
	s.run()
	s.settled()
	before := s.serving()
	s.edit(moving(first, freeAddress(t), 2))
	g := s.next(before.Number, keeper.StateProbation)
	s.signal(syscall.SIGSTOP) // the keeper sees nothing of what follows
	s.kill(g.PID, syscall.SIGKILL)
	s.kill(before.PID, syscall.SIGKILL)
	s.signal(syscall.SIGKILL)
	s.exited()
	if err := os.Remove(s.path("config.yaml")); err != nil {
		t.Fatal(err)
	}
	s.run()
	if st := s.status(); !s.has(second, 1) || st.Fallback == "" || !st.Source.Stale {
		t.Errorf("status %+v", st)
	}
	s.changes()
	s.stop()
}
