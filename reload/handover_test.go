package reload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
)

// TestReturnQuarantines: the content whose process died is not tried again,

// its live part applies, and the numbers go on after those of the dead process.

// TestReturnPutsLastGoodBack: a process may die just after it has settled.

// TestReturnAndARollbackSince: of the content that the process was started for

// nothing is applied, where the process was told to go back from it.

// TestReturnAndTheLivePartCannotBeBuilt: that is tried again, the restart is not.

// TestReturnRightAfterTheRestart: before the manager's goroutine has heard of

// its success, and after a Suspend that came even earlier.

// TestReturnThatHasNothingToReturnFrom changes nothing.

func TestSuspendAndReturn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
		down, builds := outage(r)
		r.start(t)
		first := r.Load()
		down.Store(true)
		r.source.publish(t, pairYAML(2))
		synctest.Wait()
		want(t, r.Status().Last, Failed)

		r.Suspend()
		before := folder(t, dir)
		r.Suspend()
		synctest.Wait()
		calls, tries := r.source.requests(), builds.Load()
		r.source.publish(t, pairYAML(3))
		time.Sleep(time.Hour)
		if r.source.requests() != calls || builds.Load() != tries || r.Load() != first {
			t.Errorf("%d calls and %d builds more, in force %+v", r.source.requests()-calls, builds.Load()-tries, r.Load().Config)
		}
		if _, err := r.Reload(t.Context()); !errors.Is(err, ErrHandedOver) {
			t.Errorf("Reload: %v", err)
		}
		if _, err := r.Rollback(t.Context(), first.ID); !errors.Is(err, ErrHandedOver) {
			t.Errorf("Rollback: %v", err)
		}
		if _, err := r.Resume(t.Context()); !errors.Is(err, ErrHandedOver) {
			t.Errorf("Resume: %v", err)
		}
		if p, err := r.Plan(testValues(t, pairYAML(9))); err != nil || p.Action != ActionInPlace {
			t.Errorf("Plan: %+v, %v", p, err)
		}
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
			t.Errorf("written while another process follows: %s", diff)
		}

		// What the other process has left counts: history and pin.
		down.Store(false)
		other := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir; o.Layers[0].Source = r.source })
		stopOther := other.start(t)
		if _, err := other.Rollback(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		stopOther()
		r.Return(errors.New("died"))
		synctest.Wait()
		if st := r.Status(); st.Pinned != first.ID || st.Last.Trigger != TriggerRollback || st.Revision != first.ID || len(r.History()) != 4 {
			t.Errorf("status %+v, history %+v", st, r.History())
		}
		if e, err := r.Resume(t.Context()); err != nil || e.Outcome != Applied || e.ID != 5 || r.Load().Config.Pair.A != 3 {
			t.Errorf("Resume: %+v, %v", e, err)
		}
		checkHistory(t, dir, 5)

		// And that it was unpinned.
		if _, err := r.Rollback(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		r.Suspend()
		other = newRig(t, "", func(o *Options[settings]) { o.StateDir = dir; o.Layers[0].Source = r.source })
		stopOther = other.start(t)
		synctest.Wait()
		if _, err := other.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		stopOther()
		r.Return(errors.New("died"))
		synctest.Wait()
		if st := r.Status(); st.Pinned != "" || r.Load().Config.Pair.A != 3 {
			t.Errorf("status %+v", st)
		}

		// Again, and back without news: what failed before is tried on.
		down.Store(true)
		r.source.publish(t, pairYAML(4))
		synctest.Wait()
		r.Suspend()
		r.Return(nil)
		synctest.Wait()
		down.Store(false)
		time.Sleep(time.Minute)
		if r.Load().Config.Pair.A != 4 {
			t.Errorf("config %+v, last %+v", r.Load().Config, r.Status().Last)
		}
		// The last word counts.
		r.Suspend()
		synctest.Wait()
		r.Return(nil)
		r.Suspend()
		synctest.Wait()
		if _, err := r.Reload(t.Context()); !errors.Is(err, ErrHandedOver) {
			t.Errorf("Reload: %v", err)
		}
	})
}

// TestNobodyIsForgottenBetweenTurns: who asks in the very moment of a Suspend or

// Return gets an answer.

func TestNobodyIsForgottenBetweenTurns(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	r.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answers := make(chan int, 4)
	stop := make(chan struct{})
	for range cap(answers) {
		go func() {
			n := 0
			defer func() { answers <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch e, err := r.Reload(ctx); {
				case err == nil && e.Outcome == Unchanged:
					n++
				case !errors.Is(err, ErrHandedOver):
					t.Errorf("Reload: %+v, %v", e, err)
					return
				}
			}
		}()
	}
	for range 2000 {
		r.Suspend()
		r.Return(nil)
	}
	until(t, "a reload", func() bool { _, err := r.Reload(ctx); return err == nil })
	close(stop)
	for range cap(answers) {
		<-answers
	}
}

func TestSuspendDuringARestart(t *testing.T) {
	t.Run("which succeeds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _, call := pending(t, "", false)
			entries, errs := make(chan Entry, 1), make(chan error, 2)
			go func() { e, err := r.Reload(t.Context()); entries <- e; errs <- err }()
			synctest.Wait()
			r.Suspend()
			go func() { _, err := r.Resume(t.Context()); errs <- err }()
			time.Sleep(time.Second)
			if call.ctx.Err() != nil || len(entries) > 0 || len(errs) > 0 {
				t.Errorf("ctx %v, %d answers", call.ctx.Err(), len(errs))
			}
			call.answer <- nil
			want(t, <-entries, Restarted)
			if err := errors.Join(<-errs, <-errs); !errors.Is(err, ErrHandedOver) {
				t.Errorf("Resume: %v", err)
			}
		})
	})
	t.Run("which fails", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			r, asked, call := pending(t, dir, false)
			errs := make(chan error, 1)
			go func() { _, err := r.Reload(t.Context()); errs <- err }()
			synctest.Wait()
			r.Suspend()
			before := folder(t, dir)
			call.answer <- errors.New("another was first")
			if err := <-errs; !errors.Is(err, ErrHandedOver) {
				t.Errorf("Reload: %v", err)
			}
			time.Sleep(time.Hour)
			if diff := cmp.Diff(before, folder(t, dir)); diff != "" || r.Load().Config.Timeout != time.Second {
				t.Errorf("config %+v, written: %s", r.Load().Config, diff)
			}
			asked.none(t)
			// The content is nobody's fault, and is tried anew.
			r.Return(errors.New("died"))
			call, head, _ := asked.next(t)
			if head.Entry.ID != 2 {
				t.Errorf("entry %+v", head.Entry)
			}
			call.answer <- nil
		})
	})
	t.Run("which has not begun yet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, asked, _ := pending(t, "", false)
			r.source.publish(t, "workers: 5\n") // after a pause
			synctest.Wait()
			r.Suspend()
			time.Sleep(time.Hour)
			asked.none(t)
			if len(r.History()) != 1 {
				t.Errorf("history %+v", r.History())
			}
		})
	})
	t.Run("of a rollback, which fails", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			asked := newRestarts()
			r := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
			c, err := newContent(configsrc.Values{"workers": {Raw: int64(7)}}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			data, err := encodeRecord(r.identity, c)
			if err == nil {
				err = r.history.keep(c.revision(), data)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.start(t)
			errs := make(chan error, 1)
			go func() { _, err := r.Rollback(t.Context(), c.revision()); errs <- err }()
			call, _, _ := asked.next(t)
			r.Suspend()
			call.answer <- errors.New("another was first")
			if err := <-errs; !errors.Is(err, ErrHandedOver) {
				t.Errorf("Rollback: %v", err)
			}
			// It was wished for: whoever follows finds the pin, and tries it.
			r.Return(nil)
			call, _, values := asked.next(t)
			if r.Status().Pinned != c.revision() || values["workers"].Raw != int64(7) {
				t.Errorf("status %+v", r.Status())
			}
			call.answer <- nil
		})
	})
}

// TestSuspendInTheMiddleOfAChange: it comes into force here, and nobody is told.

func TestSuspendInTheMiddleOfAChange(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		applied := &lastContent{}
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir, o.Applied = dir, applied.set })
		var before map[string]string
		Subscribe(r.Manager, "suspends", func(c *settings) pair { return c.Pair }, func(p pair) {
			if p.A == 2 {
				r.Suspend()
				before = folder(t, dir)
			}
		})
		r.start(t)
		r.source.publish(t, pairYAML(2))
		synctest.Wait()
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" || applied.calls != 1 || r.Load().Config.Pair.A != 2 {
			t.Errorf("config %+v, %d calls of Applied, written: %s", r.Load().Config, applied.calls, diff)
		}
		if text := r.logs.String(); strings.Contains(text, "WARN") {
			t.Errorf("log: %s", text)
		}
	})
}

func TestNoRestartBeginsAfterSuspend(t *testing.T) {
	h := newHandover(nil)
	if !h.begin() {
		t.Error("none begins before it either")
	}
	h.end(nil)
	h.suspend()
	if h.begin() {
		t.Error("one begins")
	}
	h.end(nil)
	<-h.now().over
}

func TestEndWhileAnotherProcessFollows(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	stop := r.start(t)
	r.Suspend()
	stop()
	if _, err := r.Resume(t.Context()); !errors.Is(err, ErrHandedOver) && !errors.Is(err, ErrStopped) {
		t.Errorf("Resume: %v", err)
	}
	r.Return(nil) // too late, and harmless
	r.Suspend()
}

func TestSuspendBeforeRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		old := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
		old.start(t)
		old.source.publish(t, "workers: 3\n")
		call, _, _ := asked.next(t)
		next := old.successor(t, call.content, nil)
		next.Suspend()
		before := folder(t, dir)
		next.start(t)
		synctest.Wait()
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
			t.Errorf("written: %s", diff)
		}
		call.answer <- nil
		next.Return(nil)
		synctest.Wait()
		if st := next.Status(); st.Last.Outcome != Restarted || st.Last.ID != 2 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestWatcherSeesAgainWhatWasNotTaken: a source that was read in the very

// moment of a Suspend is read again after Return.

func TestDamagedPinOfAHandedStartIsToldOf(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		applied := &lastContent{}
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir, o.Applied = dir, applied.set })
		r.start(t)
		r.Suspend()
		if err := os.WriteFile(filepath.Join(dir, pinFile), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		next := r.successor(t, applied.get(), nil)
		next.start(t)
		synctest.Wait()
		if !strings.Contains(next.logs.String(), "pin cannot be used") || next.Load().Config.Pair.A != 1 {
			t.Errorf("log %s", next.logs.String())
		}
	})
}
