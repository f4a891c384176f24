package keeper_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// ask has the serving generation restart with a content, and returns its answer.
func (k *kept) ask(content []byte, cancel time.Duration) error {
	path := "/restart"
	if cancel > 0 {
		path += "?cancel=" + cancel.String()
	}
	_, err := k.getFrom("tcp4", k.addr, path, content)
	return err
}

// begun waits until a second generation is there.
func (k *kept) begun() {
	k.tb.Helper()
	k.eventually("two generations", func() bool { return len(k.table().Generations) == 2 })
}

// A content that is taken back before the commit has no effect, whatever the
// new generation was doing; it is answered once.
func TestTakenBack(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"start", "listened", "prepare"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			k := keep(t)
			k.alone()
			before := k.fds()
			err := k.ask(k.content(behaviour{Name: "b", Listen: []string{k.addr, freeAddr(t)}, Phase: phase, Do: "hang"}), 500*time.Millisecond)
			if err == nil || !strings.Contains(err.Error(), "a newer content supersedes it (retryable: true)") {
				t.Errorf("answer: %v", err)
			}
			if last := k.table().LastRestart; last == nil || last.Outcome != "superseded" {
				t.Errorf("last restart: %+v", last)
			}
			k.serves(1)
			k.sane(before)
		})
	}
}

// A newer content supersedes what is being started, a restart without one is
// done with it or after it, and each is answered once.
func TestContentSupersedesPlain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		do   string // what the generation for the content does
		name string // of the one that serves in the end
	}{{"", "b"}, {"exit 1", ""}} {
		t.Run("content "+c.do, func(t *testing.T) {
			t.Parallel()
			k := keep(t)
			k.alone()
			before := k.fds()
			k.behave(behaviour{Phase: "start", Do: "hang"})
			var asking sync.WaitGroup
			var plain error
			asking.Go(func() { plain = keeper.AskRestart(t.Context(), k.dir) })
			k.begun()
			k.behave(behaviour{})
			phase := "start"
			content := k.ask(k.content(behaviour{Name: "b", Phase: phase, Do: c.do}), 0)
			asking.Wait()
			if (content == nil) != (c.do == "") {
				t.Errorf("content: %v", content)
			}
			if plain != nil {
				t.Errorf("plain: %v", plain)
			}
			k.eventually("it serves", func() bool { text, err := k.get("/"); return err == nil && strings.HasSuffix(text, " "+c.name) })
			k.alone()
			if c.name == "" {
				k.sane(before)
			}
		})
	}
}

// A signal's restart is not lost when the content that it waited with is taken
// back.
func TestPlainOutlivesWhatIsTakenBack(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	k.behave(behaviour{Phase: "start", Do: "hang"})
	k.signal(unix.SIGUSR2)
	k.begun()
	k.signal(unix.SIGUSR2) // another one, which waits
	var asking sync.WaitGroup
	asking.Go(func() { _ = k.ask(k.content(behaviour{Name: "b", Phase: "start", Do: "hang"}), 2*time.Second) })
	k.noted(3, "does hang")
	k.behave(behaviour{})
	asking.Wait()
	k.serves(4)
	k.sane(nil)
}

// Of many contents at once, the last one runs.
func TestLastContentRuns(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	var asking sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 10 {
		asking.Go(func() {
			if k.ask(k.content(behaviour{Name: fmt.Sprint("c", i), Sleep: time.Second}), 0) == nil {
				mu.Lock()
				defer mu.Unlock()
				done++
			}
		})
		// One after the other, as they come from one source.
		k.eventually("it is started", func() bool {
			all := k.table().Generations
			return len(all) > 0 && all[len(all)-1].Number == i+2
		})
	}
	asking.Wait()
	if done != 1 {
		t.Errorf("%d of 10 are done", done)
	}
	k.eventually("the last one serves", func() bool { text, err := k.get("/"); return err == nil && strings.HasSuffix(text, " c9") })
}

// The generation that serves dies while the next one starts: that takes over,
// and no other is started for it.
func TestServingDiesDuringRestart(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	k.behave(behaviour{Sleep: 500 * time.Millisecond})
	k.signal(unix.SIGUSR2)
	k.begun()
	_, _ = k.get("/die?signal=9")
	busy := k.cpu()
	k.serves(2)
	if used := k.cpu() - busy; used > 200*time.Millisecond {
		t.Errorf("the keeper has used %v of a processor to wait", used)
	}
	k.alone()
	if table := k.table(); table.Serving != 2 {
		t.Errorf("generation %d serves", table.Serving)
	}
	k.sane(before)
}

// It dies, and so does the next one: another follows.
func TestBothDie(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	var asking sync.WaitGroup
	asking.Go(func() { _ = k.ask(k.content(behaviour{Name: "b", Phase: "start", Do: "hang"}), 0) })
	k.begun()
	asking.Go(func() { _ = k.ask(k.content(behaviour{Name: "c", Phase: "start", Do: "hang"}), 0) })
	time.Sleep(50 * time.Millisecond)
	table := k.table()
	for _, g := range table.Generations {
		_ = unix.Kill(g.PID, unix.SIGKILL)
	}
	asking.Wait()
	k.eventually("another one serves", func() bool { return k.table().Serving > 2 })
	k.sane(nil)
}

// A stop while one is told to accept.
func TestStopDuringRestart(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"start", "listened", "prepare", "run"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			k := keep(t)
			b, want := behaviour{Phase: phase, Do: "stop"}, 0
			if phase == "run" {
				// It does not end by itself: it is ended, and that is told.
				b.Stuck, b.Timeout, want = true, 100*time.Millisecond, 1
			}
			k.behave(b)
			k.signal(unix.SIGUSR2)
			k.noted(2, "does stop")
			pid := k.table().Generations[1].PID
			k.signal(unix.SIGTERM)
			if phase == "run" { // it was told to accept, and may say that it does after it was told to stop
				k.eventually("it stops", func() bool { return k.table().Stopping })
				_ = unix.Kill(pid, unix.SIGCONT)
			}
			<-k.exited // a second signal would end it at once
			if k.code != want {
				t.Errorf("exit code %d", k.code)
			}
		})
	}
}

// Requests while stopping are answered.
func TestRequestWhileStopping(t *testing.T) {
	t.Parallel()
	k := keep(t)
	var slow sync.WaitGroup
	slow.Go(func() {
		if _, err := k.get("/sleep?for=1s"); err != nil {
			t.Error(err)
		}
	})
	k.eventually("it is asked", func() bool { return k.table().Generations[0].Connections["http"] > 0 })
	k.signal(unix.SIGTERM)
	k.eventually("it stops", func() bool { return k.table().Stopping })
	if err := keeper.AskRestart(t.Context(), k.dir); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("restart while stopping: %v", err)
	}
	slow.Wait()
	if code := k.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
