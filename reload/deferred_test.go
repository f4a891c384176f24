package reload

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
)

func TestRequestThatSupersededARestartInVain(t *testing.T) {
	for name, answer := range map[string]error{"since the restart succeeded": ErrHandedOver, "since the manager ended": ErrStopped} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				asked := newRestarts()
				asked.stubborn = true
				r := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
				stop := r.start(t)
				r.source.publish(t, "workers: 3\n")
				call, _, _ := asked.next(t)
				errs := make(chan error, 1)
				go func() { _, err := r.Rollback(t.Context(), r.Load().ID); errs <- err }()
				synctest.Wait()
				if call.ctx.Err() == nil {
					t.Error("the rollback has not superseded the restart")
				}
				if errors.Is(answer, ErrStopped) {
					time.AfterFunc(time.Second, func() { call.answer <- errors.New("no") })
					stop()
				} else {
					call.answer <- nil
				}
				if err := <-errs; !errors.Is(err, answer) {
					t.Errorf("Rollback: %v", err)
				}
			})
		})
	}
}

func TestReloadWaitsForTheRestartUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, "", false)
		var waiting sync.WaitGroup
		entries := make([]Entry, 50)
		for i := range entries {
			waiting.Go(func() {
				var err error
				if entries[i], err = r.Reload(t.Context()); err != nil {
					t.Errorf("Reload: %v", err)
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		// Those who give up leave nothing behind.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 50 {
			waiting.Go(func() {
				if e, err := r.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Reload: %+v, %v", e, err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(r.deferred.complete); n != len(entries) {
			t.Errorf("%d are waiting", n)
		}
		asked.none(t)
		call.answer <- Retryable(errors.New("busy"))
		waiting.Wait()
		for _, e := range entries {
			if e.Outcome != RestartFailed || e.ID != 2 {
				t.Fatalf("entry %+v", e)
			}
		}
		if n := len(r.History()); n != 2 {
			t.Errorf("history %+v", r.History())
		}
	})
}

func TestReloadOfNewerContentIsAnsweredWithIts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, "", false)
		entries := make(chan Entry, 2)
		ask := func() {
			e, err := r.Reload(t.Context())
			if err != nil {
				t.Errorf("Reload: %v", err)
			}
			entries <- e
		}
		go ask() // of the content under way
		synctest.Wait()
		r.source.replace(t, "workers: 5\n")
		go ask()
		next, head, _ := asked.next(t)
		if call.ctx.Err() == nil || head.Entry.Trigger != TriggerReload {
			t.Errorf("ctx %v, entry %+v", call.ctx.Err(), head.Entry)
		}
		next.answer <- errors.New("no")
		for range 2 {
			if e := <-entries; e.Outcome != RestartFailed || e.ID != 2 {
				t.Errorf("entry %+v", e)
			}
		}
	})
}

func TestReloadGivenUpDuringARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		r, low, high := newPairOfSources(t, pairYAML(1), "workers: 2\n", func(o *Options[settings]) { o.Restart = asked.restart })
		r.start(t)
		synctest.Wait()
		low.publish(t, pairYAML(2)+"listen: [a]\n")
		call, _, _ := asked.next(t)
		low.replace(t, pairYAML(3))
		high.delay = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		synctest.Wait()
		if call.ctx.Err() == nil || r.Load().Config.Pair.A != 3 {
			t.Errorf("ctx %v, config %+v", call.ctx.Err(), r.Load().Config)
		}
		high.delay = 0
	})
}

func TestNothingIsWrittenWhileARestartIsUnderWay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, _, call := pending(t, dir, false)
		before := folder(t, dir)
		r.source.fail(configsrc.ErrInvalid, "broken")
		synctest.Wait()
		r.source.fail(configsrc.ErrInvalid, "broken in another way")
		go func() { _, _ = r.Reload(t.Context()) }() // whatever it says
		time.Sleep(time.Minute)
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" || !r.Status().Sources[0].Stale || call.ctx.Err() != nil {
			t.Errorf("ctx %v, written: %s", call.ctx.Err(), diff)
		}
		call.answer <- errors.New("no")
		synctest.Wait()
		if h := r.History(); len(h) != 3 || h[1].Outcome != RestartFailed || h[2].Outcome != Refused {
			t.Errorf("history %+v", h)
		}
		checkHistory(t, dir, 3)
	})
}

func TestEndInTheMiddleOfARestart(t *testing.T) {
	for name, stubborn := range map[string]bool{"it gives up": false, "it succeeds all the same": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				asked := newRestarts()
				asked.stubborn = stubborn
				r := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
				stop := r.start(t)
				r.source.publish(t, "workers: 3\n")
				call, _, _ := asked.next(t)
				errs := make(chan error, 2)
				go func() { _, err := r.Reload(t.Context()); errs <- err }()
				synctest.Wait()
				before := folder(t, dir)
				if stubborn {
					time.AfterFunc(time.Second, func() { call.answer <- nil })
				}
				stop()
				if err := <-errs; stubborn == (err != nil) || !stubborn && !errors.Is(err, ErrStopped) {
					t.Errorf("Reload: %v", err)
				}
				if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
					t.Errorf("written: %s", diff)
				}
				if _, err := r.Resume(t.Context()); !errors.Is(err, ErrStopped) && !errors.Is(err, ErrHandedOver) {
					t.Errorf("Resume: %v", err)
				}
			})
		})
	}
}
