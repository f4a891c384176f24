package reload

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReturnQuarantines(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		applied := &lastContent{}
		asked := newRestarts()
		old := newRig(t, "workers: 2\n", func(o *Options[settings]) {
			o.StateDir, o.Restart, o.Applied = dir, asked.restart, applied.set
		})
		old.start(t)
		old.source.publish(t, "workers: 3\ntimeout: 9s\n")
		call, _, _ := asked.next(t)
		never := make(chan struct{})
		next := old.successor(t, call.content, func(o *Options[settings]) { o.Settled = never })
		stopNext := next.start(t)
		call.answer <- nil
		synctest.Wait()
		next.source.publish(t, "workers: 3\ntimeout: 8s\n") // an entry of its own
		synctest.Wait()
		stopNext()
		next.source.publish(t, "workers: 3\ntimeout: 9s\n")

		old.Return(errors.New("generation 2 exited with status 2"))
		synctest.Wait()
		st := old.Status()
		if e := st.Last; e.ID != 4 || e.Outcome != RestartFailed || e.Action != ActionInPlace || e.Trigger != TriggerChange ||
			e.Reason != "generation 2 exited with status 2" || e.InForce != st.Revision || e.Revision == st.Revision {
			t.Errorf("last %+v", e)
		}
		if c := old.Load().Config; c.Workers != 2 || c.Timeout != 9*time.Second || applied.calls != 2 {
			t.Errorf("config %+v, applied %d times", c, applied.calls)
		}
		time.Sleep(time.Hour)
		want(t, old.reread(t), RestartFailed)
		asked.none(t)
		// Other content is tried, and what was barred too, after it.
		old.source.publish(t, "workers: 2\n")
		synctest.Wait()
		old.source.publish(t, "workers: 3\ntimeout: 9s\n")
		call, head, _ := asked.next(t)
		if head.Entry.ID != 6 {
			t.Errorf("entry %+v", head.Entry)
		}
		call.answer <- errors.New("no")
		synctest.Wait()
		checkHistory(t, dir, 6)
	})
}

func TestReturnPutsLastGoodBack(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		old := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
		old.start(t)
		old.source.publish(t, "workers: 3\n")
		call, _, _ := asked.next(t)
		next := old.successor(t, call.content, nil)
		stopNext := next.start(t)
		call.answer <- nil
		synctest.Wait()
		stopNext()
		for _, r := range []*rig{next, old} {
			if record, _, err := old.store.load(lastGoodFile); err != nil || record.Revision != r.Load().ID {
				t.Errorf("last good is %s, %v, want %s", record.Revision, err, r.Load().ID)
			}
			old.Return(errors.New("died"))
			synctest.Wait()
		}
	})
}

func TestReturnAndARollbackSince(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		old := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
		old.start(t)
		first := old.Load().ID
		old.source.publish(t, "workers: 3\ntimeout: 9s\n")
		call, _, _ := asked.next(t)
		next := old.successor(t, call.content, nil) // and cannot restart itself
		stopNext := next.start(t)
		call.answer <- nil
		synctest.Wait()
		if e, err := next.Rollback(t.Context(), first); err != nil || e.Outcome != RestartRequired || e.ID != 3 {
			t.Fatalf("Rollback: %+v, %v", e, err)
		}
		stopNext()
		old.Return(errors.New("died"))
		time.Sleep(time.Minute)
		st := old.Status()
		if st.Pinned != first || st.Revision != first || st.Last.ID != 4 || st.Last.Outcome != RestartFailed || st.Last.Reason != "died" {
			t.Errorf("status %+v", st)
		}
		asked.none(t)
	})
}

func TestReturnAndTheLivePartCannotBeBuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.Restart = asked.restart })
		down, _ := outage(r)
		r.start(t)
		r.source.publish(t, pairYAML(2)+"workers: 9\n")
		call, _, _ := asked.next(t)
		call.answer <- nil
		synctest.Wait()
		down.Store(true)
		r.Return(nil)
		time.Sleep(time.Minute)
		if last := r.Status().Last; last.Outcome != RestartFailed || !strings.Contains(last.Reason, "has died") || r.Load().Config.Pair.A != 1 {
			t.Errorf("last %+v", last)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		if r.Load().Config.Pair.A != 2 {
			t.Errorf("config %+v", r.Load().Config)
		}
		asked.none(t)
	})
}

func TestReturnRightAfterTheRestart(t *testing.T) {
	for name, suspend := range map[string]bool{"alone": false, "after Suspend": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r *rig
				tries := 0
				r = newRig(t, "workers: 2\n", func(o *Options[settings]) {
					o.Restart = func(context.Context, []byte) error {
						tries++
						if suspend {
							r.Suspend()
						}
						r.Return(errors.New("died at once"))
						return nil
					}
				})
				r.start(t)
				r.source.replace(t, "workers: 3\ntimeout: 9s\n")
				e, err := r.Reload(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				want(t, e, Restarted)
				time.Sleep(time.Hour)
				if last := r.Status().Last; last.Outcome != RestartFailed || last.Reason != "died at once" || r.Load().Config.Timeout != 9*time.Second {
					t.Errorf("last %+v, config %+v", last, r.Load().Config)
				}
				if tries != 1 {
					t.Errorf("%d tries", tries)
				}
				// It follows.
				want(t, r.reload(t, "workers: 2\ntimeout: 5s\n"), Applied)
			})
		})
	}
}

func TestReturnThatHasNothingToReturnFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, "", false)
		r.Return(errors.New("who?"))
		synctest.Wait()
		call.answer <- Retryable(errors.New("busy"))
		call, _, _ = asked.next(t)
		if last := r.Status().Last; last.Reason != "busy" {
			t.Errorf("last %+v", last)
		}
		call.answer <- nil
		synctest.Wait()
		if !r.handover.isAway() {
			t.Error("an earlier Return made the manager follow on after a restart")
		}
	})
}

func TestWatcherSeesAgainWhatWasNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, call := pending(t, "", true)
		r.source.publish(t, "workers: 5\n") // calls off: nothing more is taken
		synctest.Wait()
		r.source.publish(t, "workers: 2\ntimeout: 7s\n") // seen by the watcher, not by the manager
		synctest.Wait()
		call.answer <- nil
		synctest.Wait()
		r.Return(errors.New("died"))
		synctest.Wait()
		if got := r.Load().Config.Timeout; got != 7*time.Second {
			t.Errorf("timeout %v", got)
		}
		outcomes := []Outcome{}
		for _, e := range r.History() {
			outcomes = append(outcomes, e.Outcome)
		}
		// Without a folder the entry of the success is there as well.
		if !slices.Equal(outcomes, []Outcome{Applied, Restarted, RestartFailed, Applied}) {
			t.Errorf("history %v", outcomes)
		}
	})
}
