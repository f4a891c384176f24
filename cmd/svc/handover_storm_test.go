//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server/keeper"
)

// restartAsked asks the keeper for a restart in another goroutine. The result
// comes when it is over.
func (s *subject) restartAsked() chan error {
	result, dir := make(chan error, 1), s.path(".svc")
	go func() { result <- keeper.AskRestart(s.t.Context(), dir) }()
	return result
}

// TestTriggerStorm: however a restart is asked for, and how often, the last
// config runs, there are few restarts, and nobody finds the service or its
// operator's socket closed.
func TestTriggerStorm(t *testing.T) {
	t.Parallel()
	first, second, third := freeAddress(t), freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 0))
	s.run()
	service := newProber(t, 2*time.Millisecond, probeHTTP("tcp", first, http.MethodGet, "/v1/config"))
	socket := s.path(".svc/admin.sock")
	operator := newProber(t, 5*time.Millisecond, probeHTTP("unix", socket, http.MethodGet, "/api/v1/status"))
	reader := newProber(t, 20*time.Millisecond, probeHTTP("unix", socket, http.MethodPost, "/api/v1/reload"))

	// Two at once, by two ways: they share one, or come one after the other.
	asked := s.restartAsked()
	s.signal(syscall.SIGUSR2)
	if err := <-asked; err != nil {
		t.Errorf("svc restart beside USR2: %v", err)
	}
	s.settled()
	if table := s.table(); table.Restarts < 1 || table.Restarts > 2 || table.Failed != 0 {
		t.Errorf("two triggers at once: %d restarts, %d failed", table.Restarts, table.Failed)
	}

	// A request that its generation has not answered a second after it has handed
	// over is cut, so none may have to wait for a restart.
	for range 5 {
		if err := <-s.restartAsked(); err != nil {
			t.Errorf("svc restart: %v", err)
		}
	}
	reader.end("POST /api/v1/reload")

	var results []chan error
	n := 0
	for i := range 100 {
		switch i % 4 {
		case 0:
			s.signal(syscall.SIGHUP)
		case 1:
			s.signal(syscall.SIGUSR2)
		case 2:
			results = append(results, s.restartAsked())
		case 3:
			n++
			s.edit(moving(first, []string{second, third}[n%2], n))
		}
		time.Sleep(10 * time.Millisecond)
	}
	before := s.table()
	s.edit(moving(first, third, 1000))
	s.eventually("the last config", func() bool { return s.has(first, 1000) && s.has(third, 1000) })
	for _, result := range results {
		if err := <-result; err != nil {
			t.Errorf("svc restart: %v", err)
		}
	}
	after := s.settled()
	// One was under way, and of each kind one waited; the last content is one more.
	if more := after.Restarts - before.Restarts; more > 4 {
		t.Errorf("%d restarts after the last trigger", more)
	}
	t.Logf("%d restarts by 100 triggers, %d more after them, %d did not come to accept", before.Restarts, after.Restarts-before.Restarts, after.Failed)
	if _, ok := s.at(second); ok {
		t.Errorf("%s still answers", second)
	}
	changes := s.changes()
	if last := changes[len(changes)-1]; last.Revision != s.status().Revision {
		t.Errorf("the last change is %+v, in force is %s", last, s.status().Revision)
	}
	service.end("the service")
	operator.end("GET /api/v1/status")
	s.stop()
}

// TestFlap: a config that flaps is followed with few restarts, and the service is
// up meanwhile.
func TestFlap(t *testing.T) {
	t.Parallel()
	first, second, third := freeAddress(t), freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 0))
	s.run()
	service := newProber(t, 2*time.Millisecond, probeHTTP("tcp", first, http.MethodGet, "/v1/config"))
	n := 0
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		n++
		s.edit(moving(first, []string{second, third}[n%2], n%2))
	}
	last := n + 1
	s.edit(moving(first, []string{second, third}[last%2], last%2))
	s.eventually("the last config", func() bool {
		return s.has(first, last%2) && s.has([]string{second, third}[last%2], last%2)
	})
	table := s.settled()
	// What flaps is looked at once in three seconds, and the last one of it once
	// more; a restart that is superseded is followed by a pause.
	if n := table.Restarts + table.Failed; n > 16 {
		t.Errorf("%d restarts, %d failed, by %d edits", table.Restarts, table.Failed, n)
	}
	t.Logf("%d restarts, %d failed", table.Restarts, table.Failed)
	if !s.has(first, last%2) {
		t.Error("the last config does not stay")
	}
	s.changes()
	service.end("the service")
	s.stop()
}

// TestRevertWhileRestarting: a config that is taken back while its restart is
// under way has no effect, in each phase of the new generation; where it has
// begun to accept, there is another restart back.
func TestRevertWhileRestarting(t *testing.T) {
	t.Parallel()
	first, second, third := freeAddress(t), freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 1))
	s.run()
	s.settled()
	service := newProber(t, 2*time.Millisecond, probeHTTP("tcp", first, http.MethodGet, "/v1/config"))
	back := func() {
		t.Helper()
		s.edit(moving(first, second, 1))
	}
	// is fails unless the first config is in force, and the other one's address
	// is closed.
	is := func(when string) {
		t.Helper()
		s.eventually(when+": the first config", func() bool { return s.has(first, 1) && s.has(second, 1) })
		s.settled()
		if _, ok := s.at(third); ok {
			t.Errorf("%s: the new address answers", when)
		}
	}

	for _, phase := range []struct {
		name string
		has  func(keeper.Generation) bool
	}{
		{"before its sockets", func(g keeper.Generation) bool { return g.State == keeper.StateStarting }},
		{"with its sockets", func(g keeper.Generation) bool { return g.State == keeper.StateStarting && len(g.Holds) >= 2 }},
	} {
		before, changes := s.serving(), s.changes()
		s.edit(moving(first, third, 2))
		var stopped keeper.Generation
		for stopped.Number == 0 {
			g := s.next(before.Number, keeper.StateStarting, keeper.StatePrepared, keeper.StateProbation, keeper.StateServing)
			if phase.has(g) {
				s.kill(g.PID, syscall.SIGSTOP)
				stopped = g
				break
			}
			if g.State != keeper.StateStarting {
				break // it was faster
			}
		}
		back()
		if stopped.Number == 0 {
			is(phase.name)
			continue
		}
		s.eventually(phase.name+": the end of the new generation", func() bool {
			g, ok := youngest(s.table(), keeper.StateStarting, keeper.StatePrepared, keeper.StateProbation)
			if ok && g.State != keeper.StateStarting { // it has got further than was seen
				s.kill(g.PID, syscall.SIGCONT)
			}
			return !ok
		})
		is(phase.name)
		table := s.table()
		if table.LastRestart.Outcome == "superseded" {
			if now := s.serving(); now.PID != before.PID {
				t.Errorf("%s: generation %d serves", phase.name, now.Number)
			}
			if now := s.changes(); len(now) != len(changes) {
				t.Errorf("%s: the history has %d entries more: %+v", phase.name, len(now)-len(changes), now[len(changes):])
			}
		}
		t.Logf("%s: %s", phase.name, table.LastRestart.Outcome)
	}

	// Stopped at a time that nobody knows.
	for range 3 {
		before := s.serving()
		s.edit(moving(first, third, 2))
		g := s.next(before.Number, keeper.StateStarting)
		time.Sleep(rand.N(60 * time.Millisecond))
		s.kill(g.PID, syscall.SIGSTOP)
		back()
		time.Sleep(500 * time.Millisecond) // the edit is noticed
		s.kill(g.PID, syscall.SIGCONT)
		is(fmt.Sprintf("generation %d, stopped at any time", g.Number))
		t.Logf("stopped at any time: %s", s.table().LastRestart.Outcome)
	}

	// On probation.
	before := s.serving()
	s.edit(moving(first, third, 2))
	g := s.next(before.Number, keeper.StateProbation)
	back()
	s.eventually("probation: the restart back", func() bool { return s.serving().Number > g.Number })
	is("probation")
	changes := s.changes()
	for _, e := range changes[len(changes)-2:] {
		if e.Outcome != reload.Restarted {
			t.Errorf("a restart and one back: %+v", e)
		}
	}

	// A restart that waits behind one that is taken back is done.
	before = s.serving()
	s.edit(moving(first, third, 2))
	g = s.next(before.Number, keeper.StateStarting, keeper.StatePrepared, keeper.StateProbation)
	s.kill(g.PID, syscall.SIGSTOP)
	asked := s.restartAsked()
	back()
	time.Sleep(500 * time.Millisecond)
	s.kill(g.PID, syscall.SIGCONT)
	var result error
	var once sync.Once
	s.eventually("the restart that waited", func() bool {
		select {
		case err := <-asked:
			once.Do(func() { result = err })
			return true
		default:
			return false
		}
	})
	if result != nil {
		t.Errorf("the restart that waited: %v", result)
	}
	if s.serving().PID == before.PID {
		t.Error("the restart that waited was not done")
	}
	is("one that waited")
	service.end("the service")
	s.stop()
}
