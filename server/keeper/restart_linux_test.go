package keeper_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

func TestRestartGoesOn(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	pid := k.table().KeeperPID
	var times []time.Duration
	for i := range 20 {
		began := time.Now()
		k.restart()
		times = append(times, time.Since(began))
		k.serves(i + 2)
	}
	slices.Sort(times)
	t.Logf("restart: p50 %v, longest %v", times[len(times)/2], times[len(times)-1])
	table := k.table()
	if table.KeeperPID != pid || pid != k.cmd.Process.Pid || table.Restarts != 20 || table.Failed != 0 {
		t.Errorf("table: %+v", table)
	}
	k.sane(before)
	if code := k.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A generation that fails before it accepts changes nothing, and says why.
func TestFailedRestartChangesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ phase, do, reason string }{
		{"start", "exit 0", "exited with code 0"},
		{"start", "exit 1", "exited with code 1"},
		{"listened", "panic", "it panicked, see its stderr"},
		{"prepare", "segv", "SIGSEGV"},
		{"listened", "kill", "killed"},
		{"run", "exit 1", "exited with code 1"},
		{"start", "error", "the content is refused"},
		{"listened", "retryable", "the disk is full"},
		{"start", "hang", "not ready within"},
		{"run", "hang", ""},
		{"start", "stop", "not ready within"},
		{"listened", "stop", "not ready within"},
		{"prepare", "stop", "not ready within"},
		{"start", "garbage", "no message"},
		{"listened", "empty", "no message"},
		{"prepare", "leave", "control socket"},
		{"listened", "fork", "exited with code 3"},
		{"start", "flood", "did not take messages"},
	} {
		t.Run(c.phase+" "+c.do, func(t *testing.T) {
			t.Parallel()
			k := keep(t)
			k.alone()
			before := k.fds()
			port := freeAddr(t)
			k.behave(behaviour{Listen: []string{k.addr, port}, Phase: c.phase, Do: c.do})
			began := time.Now()
			err := keeper.AskRestart(t.Context(), k.dir)
			if c.reason == "" {
				if err != nil { // it hangs only after it has said that it accepts
					t.Fatal(err)
				}
				return
			}
			if err == nil && c.phase == "run" {
				k.eventually("generation 1 has resumed", func() bool { return k.table().Serving == 1 })
				err = fmt.Errorf("%s", k.table().LastRestart.Error)
			}
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("error after %v: %v", time.Since(began), err)
			}
			if last := k.table().LastRestart; last == nil || !strings.Contains(last.Error, c.reason) {
				t.Errorf("last restart: %+v", last)
			}
			k.serves(1)
			if took := time.Since(began); c.do == "fork" && took > 4*time.Second {
				t.Errorf("a child that has the pair holds the restart up for %v", took)
			}
			if _, note, ok := strings.Cut(k.notes(2), "child "); ok {
				var child int
				if _, err := fmt.Sscan(note, &child); err != nil {
					t.Fatal(err)
				}
				_ = unix.Kill(child, unix.SIGKILL)
			}
			k.eventually("the new address is closed", func() bool { _, err := k.getFrom("tcp4", port, "/", nil); return err != nil })
			k.sane(before)
		})
	}
}

// Until probation is over the one before takes over again.
func TestProbation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		after  time.Duration
		do     string
		undone bool
	}{
		{0, "panic", true},
		{10 * time.Millisecond, "kill", true},
		{time.Second, "panic", true},
		{1700 * time.Millisecond, "exit 0", true},
		{2500 * time.Millisecond, "panic", false},
	} {
		t.Run(fmt.Sprint(c.after, " ", c.do), func(t *testing.T) {
			t.Parallel()
			k := keep(t)
			k.alone()
			before := k.fds()
			k.behave(behaviour{Phase: "later", After: c.after, Do: c.do})
			k.restart()
			k.behave(behaviour{})
			if c.undone {
				k.eventually("generation 1 serves again", func() bool { return k.table().Serving == 1 })
				k.serves(1)
				if last := k.table().LastRestart; last == nil || last.Outcome != "undone" || last.Error == "" {
					t.Errorf("last restart: %+v", last)
				}
				k.noted(1, "resumed")
			} else {
				// The one that settled has its content kept, and would do it again.
				k.eventually("another one serves", func() bool { return k.table().Serving > 2 })
			}
			if c.undone {
				k.sane(before)
			}
		})
	}
}

// One that is told to resume and does not is replaced.
func TestResumeThatDoesNotCome(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.start(behaviour{Deaf: true})
	k.serves(1)
	k.alone()
	k.behave(behaviour{Phase: "later", After: 10 * time.Millisecond, Do: "kill"})
	k.restart()
	k.behave(behaviour{})
	k.noted(1, "is deaf")
	k.eventually("generation 3 serves", func() bool { return k.table().Serving == 3 })
}

// However many ask at once, two restarts do.
func TestHundredRequestsAtOnce(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	k.behave(behaviour{Sleep: 300 * time.Millisecond})
	var asking sync.WaitGroup
	errs := make(chan error, 100)
	for i := range 100 {
		asking.Go(func() {
			switch i % 4 {
			case 0:
				errs <- k.cmd.Process.Signal(unix.SIGUSR2)
			case 1:
				_, err := k.get("/restartnow")
				errs <- err
			default:
				errs <- keeper.AskRestart(t.Context(), k.dir)
			}
		})
	}
	asking.Wait()
	close(errs)
	for err := range errs {
		// Those that are handed over while they ask are told so.
		if err != nil && !strings.Contains(err.Error(), "another generation serves") {
			t.Error(err)
		}
	}
	// More than two only if a slow machine has brought them in late.
	if n := k.table().Restarts; n < 1 || n > 4 {
		t.Errorf("%d restarts", n)
	}
	k.sane(before)
}
