//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server/keeper"
)

// TestSourceGone: a generation that is started while the source cannot be read
// serves what is in force, whole, and follows the source again when it is back.
func TestSourceGone(t *testing.T) {
	t.Parallel()
	first, second := freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 1))
	s.run()
	s.settled()
	revision := s.status().Revision
	for _, gone := range []struct {
		how string
		do  func()
	}{
		{"missing", func() {
			if err := os.Remove(s.path("config.yaml")); err != nil {
				t.Fatal(err)
			}
		}},
		{"a folder", func() {
			if err := os.Mkdir(s.path("config.yaml"), 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{"broken", func() {
			if err := os.RemoveAll(s.path("config.yaml")); err != nil {
				t.Fatal(err)
			}
			s.write("config.yaml", "server: {listen: [\n")
		}},
	} {
		gone.do()
		s.eventually(gone.how+": it is seen", func() bool {
			st := s.status()
			return st.Source.Stale || st.Last.Outcome == reload.Refused
		})
		for _, way := range []string{"restart", "crash"} {
			before := s.serving()
			if way == "crash" {
				s.settled() // on probation, the one before would take over
				s.kill(s.serving().PID, syscall.SIGKILL)
			} else {
				s.svc("restart").want(t, 0, "restarted")
			}
			s.eventually(gone.how+": a new generation after a "+way, func() bool {
				table := s.table()
				return table.Serving > before.Number
			})
			if !s.has(first, 1) || !s.has(second, 1) {
				t.Errorf("%s: after a %s not the content in force", gone.how, way)
			}
			s.eventually(gone.how+": the trouble with the source is told", func() bool {
				st := s.status()
				return st.Healthy && st.Revision == revision && (st.Source.Stale && st.Source.Error != "" || st.Last.Outcome == reload.Refused)
			})
		}
	}
	s.edit(moving(first, second, 2))
	s.eventually("the source is followed again", func() bool { return s.has(first, 2) && !s.status().Source.Stale })
	s.changes()
	s.settled()
	s.stop()
}

// TestFolderGone: the working directory is removed under the service: it goes on,
// and so do restarts and the successors of crashes.
func TestFolderGone(t *testing.T) {
	t.Parallel()
	s := newSubject(t, "")
	elsewhere := t.TempDir()
	address := freeAddress(t)
	// The source and the state are where they are, whatever happens to the folder.
	s.write("dummy", "")
	config, state := filepath.Join(elsewhere, "config.yaml"), filepath.Join(elsewhere, "state")
	edit := func(n int) {
		t.Helper()
		if err := os.WriteFile(config, fmt.Appendf(nil, "server: {listen: ['%s']}\npublic: {n: %d}\n", address, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(1)
	s.env = append(s.env, "SVC_FILE="+config, "SVC_STATE_DIR="+state)
	if err := os.Symlink(state, s.path(".svc")); err != nil {
		t.Fatal(err)
	}
	work := s.path("work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	s.workIn = work
	s.run()
	s.settled()
	if err := os.RemoveAll(work); err != nil {
		t.Fatal(err)
	}
	s.svc("restart").want(t, 0, "restarted")
	s.settled()
	before := s.serving()
	s.kill(before.PID, syscall.SIGKILL)
	s.eventually("a successor", func() bool { return s.table().Serving > before.Number && s.has(address, 1) })
	edit(2)
	s.eventually("the source is followed", func() bool { return s.has(address, 2) })
	s.settled()
	s.signal(syscall.SIGTERM)
	if code := s.exited(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.logged())
	}
}

// TestRollbackOverRestarts: a rollback, its pin, and the history go on over
// restarts, crashes and stops; one that needs a restart has one.
func TestRollbackOverRestarts(t *testing.T) {
	t.Parallel()
	first, second, third := freeAddress(t), freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 1))
	s.run()
	s.settled()
	one := s.status().Revision
	s.edit(moving(first, third, 2))
	s.eventually("the restart", func() bool { return s.has(third, 2) && s.status().Last.Outcome == reload.Restarted })
	two := s.status().Revision
	s.settled()

	// Back by a restart. It is pinned then.
	s.svc("rollback", one).want(t, 0, "restarted")
	is := func(when, pinned string, address string, n int) {
		t.Helper()
		s.eventually(when, func() bool { return s.has(first, n) && s.has(address, n) })
		s.eventually(when+": the pin", func() bool { return s.status().Pinned == pinned })
	}
	is("after the rollback", one, second, 1)
	s.svc("restart").want(t, 0, "restarted")
	is("after a restart", one, second, 1)
	s.settled()
	s.kill(s.serving().PID, syscall.SIGKILL)
	is("after a crash", one, second, 1)
	s.edit(moving(first, third, 3))
	s.svc("reload").want(t, 0, "unchanged", "pinned")
	is("after an edit", one, second, 1)
	s.settled()
	s.signal(syscall.SIGKILL)
	s.exited()
	s.run()
	is("after the keeper was killed", one, second, 1)
	s.settled()

	// One that dies on probation is no pin that holds the service down.
	before := s.serving()
	asked, folder := make(chan result, 1), s.folder
	go func() { asked <- folder.svc("rollback", two) }()
	g := s.next(before.Number, keeper.StateProbation)
	s.kill(g.PID, syscall.SIGKILL)
	<-asked
	s.eventually("the one before serves", func() bool { return s.table().Serving == before.Number })
	for _, address := range []string{first, second} {
		if body, ok := s.at(address); !ok || strings.Contains(body, `"n":3`) {
			t.Errorf("after a rollback whose generation died, %s: %v %s", address, ok, body)
		}
	}
	s.eventually("the outcome", func() bool { return s.status().Last.Outcome == reload.RestartFailed })

	// Its end brings what the source has by now, with a restart.
	s.svc("rollback", "--resume").want(t, 0, "restarted")
	is("after the resume", "", third, 3)
	s.svc("rollback", two).want(t, 0, "applied")
	is("after a rollback in place", two, third, 2)
	s.svc("restart").want(t, 0, "restarted")
	is("after a restart", two, third, 2)
	s.svc("reload").want(t, 0, "pinned") // the new generation has read the source then
	s.svc("rollback", "--resume").want(t, 0, "applied")
	is("at the end", "", third, 3)
	changes := s.changes()
	if n := len(changes); changes[n-1].Revision != s.status().Revision {
		t.Errorf("the last change is %+v", changes[n-1])
	}
	s.settled()
	s.stop()
}

// TestPlanOfARestart: the plan tells that a change restarts, and how many
// connections that would drain.
func TestPlanOfARestart(t *testing.T) {
	t.Parallel()
	first, second := freeAddress(t), freeAddress(t)
	s := newSubject(t, "server: {listen: ['"+first+"']}\npublic: {n: 1}\n")
	s.run()
	answered := make(chan string, 2)
	for range 2 {
		s.echo("2s", answered)
	}
	s.eventually("the requests", func() bool { return s.status().Generations[0].Connections["http1"] == 2 })
	s.write("new.yaml", moving(first, second, 1))
	s.svc("plan", "new.yaml").want(t, 3, "restart", second, "2 http1")
	got := s.svc("plan", "new.yaml", "--output", "json")
	if got.code != 3 || !strings.Contains(strings.ReplaceAll(got.stdout, " ", ""), `"connections":{`+"\n"+`"http1":2`) && !strings.Contains(got.stdout, `"http1":2`) && !strings.Contains(got.stdout, `"http1": 2`) {
		t.Errorf("plan %d %s", got.code, got.stdout)
	}
	for range 2 {
		if got := <-answered; got != "200 OK" {
			t.Error(got)
		}
	}
	// A generation that drains has no part in it.
	s.svc("restart").want(t, 0, "restarted")
	s.svc("plan", "new.yaml").want(t, 3, "restart")
	time.Sleep(100 * time.Millisecond)
	s.svc("plan", "config.yaml").want(t, 0, "nothing would change")
	s.settled()
	s.stop()
}
