package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
)

// pending is a running manager with a restart for three workers under way.

func pending(t *testing.T, dir string, stubborn bool) (*rig, *restarts, *restartCall) {
	t.Helper()
	asked := newRestarts()
	asked.stubborn = stubborn
	r := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
	r.start(t)
	synctest.Wait()
	r.source.publish(t, "workers: 3\ntimeout: 3s\n")
	call, _, _ := asked.next(t)
	synctest.Wait()
	return r, asked, call
}

func TestNewerContentSupersedesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, "", false)
		r.source.publish(t, "workers: 5\n")
		next, head, values := asked.next(t)
		if call.ctx.Err() == nil || values["workers"].Raw != int64(5) || head.Entry.ID != 2 {
			t.Errorf("ctx %v, then a restart for %v with %+v", call.ctx.Err(), values["workers"].Raw, head.Entry)
		}
		next.answer <- nil
		synctest.Wait()
		if h := r.History(); len(h) != 2 || h[1].Outcome != Restarted || h[1].ID != 2 {
			t.Errorf("history %+v", h)
		}
		if !strings.Contains(r.logs.String(), "superseded by newer content") {
			t.Errorf("log %s", r.logs.String())
		}
	})
}

func TestContentWithoutARestartSupersedesOne(t *testing.T) {
	for name, c := range map[string]struct {
		yaml    string
		timeout time.Duration
		entries int
	}{
		"live only": {"workers: 2\ntimeout: 9s\n", 9 * time.Second, 2},
		"a revert":  {"workers: 2\n", time.Second, 1},
		"refused":   {"workers: 2\npair: {a: 1, b: 2}\n", time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, asked, call := pending(t, "", false)
				r.source.publish(t, c.yaml)
				synctest.Wait()
				if call.ctx.Err() == nil || r.Load().Config.Timeout != c.timeout || r.Load().Config.Workers != 2 || len(r.History()) != c.entries {
					t.Errorf("ctx %v, config %+v, history %+v", call.ctx.Err(), r.Load().Config, r.History())
				}
				time.Sleep(time.Hour)
				asked.none(t)
				// What was called off is not held against the content.
				r.source.publish(t, "workers: 3\ntimeout: 3s\n")
				call, _, _ = asked.next(t)
				call.answer <- nil
				synctest.Wait()
				want(t, r.Status().Last, Restarted)
			})
		})
	}
}

// TestRevertOfAFailedRestartIsMended: called off in the middle of a retry.

func TestRevertOfAFailedRestartIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, "", false)
		call.answer <- Retryable(errors.New("busy"))
		asked.next(t)
		r.source.publish(t, "workers: 2\ntimeout: 3s\n")
		time.Sleep(time.Minute)
		asked.none(t)
		if last := r.Status().Last; last.Outcome != Unchanged || r.Load().Config.Timeout != 3*time.Second {
			t.Errorf("last %+v", last)
		}
	})
}

func TestContentThatCannotBeMergedSupersedesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		r, low, high := newPairOfSources(t, pairYAML(1), "workers: 4\n", func(o *Options[settings]) { o.Restart = asked.restart })
		r.start(t)
		low.publish(t, pairYAML(2)+"listen: [a]\n")
		call, _, _ := asked.next(t)
		high.publish(t, "pair: 3\n")
		synctest.Wait()
		if last := r.Status().Last; call.ctx.Err() == nil || last.Outcome != Refused {
			t.Errorf("ctx %v, last %+v", call.ctx.Err(), last)
		}
		high.publish(t, "workers: 4\n")
		call, _, _ = asked.next(t)
		call.answer <- nil
	})
}

// TestRestartThatWasCalledOffAndSucceedsAllTheSame: then it counts, and all

// else is the new process's.

func TestRestartThatWasCalledOffAndSucceedsAllTheSame(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, dir, true)
		revision := r.Load().ID
		type answer struct {
			entry Entry
			err   error
		}
		reloaded, rolledBack := make(chan answer, 1), make(chan answer, 1)
		r.source.replace(t, "workers: 5\n")
		go func() {
			e, err := r.Reload(t.Context())
			reloaded <- answer{e, err}
		}()
		synctest.Wait()
		if call.ctx.Err() == nil {
			t.Error("the restart was not called off")
		}
		go func() {
			e, err := r.Rollback(t.Context(), revision)
			rolledBack <- answer{e, err}
		}()
		synctest.Wait()
		before := folder(t, dir)
		call.answer <- nil
		if a := <-reloaded; a.err != nil || a.entry.Outcome != Restarted || !slices.Contains(a.entry.Changed, "timeout") {
			t.Errorf("Reload: %+v, %v", a.entry, a.err)
		}
		if a := <-rolledBack; !errors.Is(a.err, ErrHandedOver) {
			t.Errorf("Rollback: %+v, %v", a.entry, a.err)
		}
		synctest.Wait()
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
			t.Errorf("written after the new process took over: %s", diff)
		}
		if err := r.store.write(pinFile, nil); !errors.Is(err, ErrHandedOver) {
			t.Errorf("the folder is still open for writing: %v", err)
		}
		asked.none(t)
	})
}

// TestRequestThatSupersededARestartInVain is answered all the same.

func TestRollbackAndResumeSupersedeARestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, dir, false)
		first := r.Load().ID
		if _, err := r.Rollback(t.Context(), "0123456789ab"); !errors.Is(err, ErrNoRevision) || call.ctx.Err() != nil {
			t.Fatalf("a rollback to nothing: %v, and the restart's ctx has %v", err, call.ctx.Err())
		}
		e, err := r.Rollback(t.Context(), first)
		if err != nil || call.ctx.Err() == nil {
			t.Fatalf("Rollback: %v, the restart's ctx has %v", err, call.ctx.Err())
		}
		want(t, e, Unchanged)
		time.Sleep(time.Hour)
		asked.none(t)
		if st := r.Status(); st.Pinned != first || st.Revision != first {
			t.Errorf("status %+v", st)
		}

		// Resume asks for the restart again; newer content supersedes that too,
		// and is what Resume answers with.
		resumed := make(chan Entry, 1)
		go func() {
			e, err := r.Resume(t.Context())
			if err != nil {
				t.Errorf("Resume: %v", err)
			}
			resumed <- e
		}()
		_, head, _ := asked.next(t)
		if head.Entry.Trigger != TriggerResume {
			t.Errorf("entry %+v", head.Entry)
		}
		r.source.publish(t, "workers: 5\n")
		call, _, values := asked.next(t)
		if values["workers"].Raw != int64(5) {
			t.Errorf("workers %v", values["workers"].Raw)
		}
		// And a Resume supersedes the restart of another.
		again := make(chan error, 1)
		go func() { _, err := r.Resume(t.Context()); again <- err }()
		e = <-resumed
		if e.Outcome != RestartFailed || e.ID != 0 || !strings.Contains(e.Reason, "superseded") {
			t.Errorf("the first Resume: %+v", e)
		}
		next, _, _ := asked.next(t)
		if call.ctx.Err() == nil {
			t.Error("the restart before goes on")
		}
		next.answer <- nil
		if err := <-again; err != nil {
			t.Error(err)
		}
	})
}

func TestResumeIsAnsweredWithWhatTheSourcesHaveAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked, call := pending(t, "", false)
		resumed := make(chan Entry, 1)
		go func() {
			e, err := r.Resume(t.Context())
			if err != nil {
				t.Errorf("Resume: %v", err)
			}
			resumed <- e
		}()
		next, _, _ := asked.next(t)
		if call.ctx.Err() == nil {
			t.Error("the restart before goes on")
		}
		r.source.publish(t, "workers: 2\ntimeout: 9s\n")
		e := <-resumed
		want(t, e, Applied)
		if next.ctx.Err() == nil || e.Trigger != TriggerResume || e.ID != 2 {
			t.Errorf("ctx %v, entry %+v", next.ctx.Err(), e)
		}
	})
}

// TestRollbackThatSupersedesAndIsRefused: the sources' content is tried again.

func TestRollbackThatSupersedesAndIsRefused(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
		var faulty atomic.Bool
		Register(r.Manager, "dial", func(c *settings) pair { return c.Pair }, func(_ context.Context, p pair) (int, error) {
			if p.A == 1 && faulty.Load() {
				return 0, errors.New("no such thing")
			}
			return p.A, nil
		})
		r.start(t)
		first := r.Load().ID
		r.source.publish(t, pairYAML(2))
		synctest.Wait()
		r.source.publish(t, pairYAML(2)+"workers: 9\n")
		call, _, _ := asked.next(t)
		faulty.Store(true)
		e, err := r.Rollback(t.Context(), first)
		if err != nil || call.ctx.Err() == nil {
			t.Fatalf("Rollback: %v", err)
		}
		want(t, e, Refused)
		call, _, values := asked.next(t)
		if values["workers"].Raw != int64(9) || r.Status().Pinned != "" {
			t.Errorf("workers %v, status %+v", values["workers"].Raw, r.Status())
		}
		call.answer <- nil
	})
}

// TestRollbacksSupersedeEachOther: only the last is pinned, and the sources

// supersede none.

func TestRollbacksSupersedeEachOther(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		r := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
		r.start(t)
		var revisions []string
		for n := int64(7); n < 9; n++ {
			c, err := newContent(configsrc.Values{"workers": {Raw: n}}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			data, err := encodeRecord(r.identity, c)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.history.keep(c.revision(), data); err != nil {
				t.Fatal(err)
			}
			revisions = append(revisions, c.revision())
		}
		answers := make([]chan Entry, 2)
		ask := func(i int) *restartCall {
			answers[i] = make(chan Entry, 1)
			go func() {
				e, err := r.Rollback(t.Context(), revisions[i])
				if err != nil {
					t.Errorf("Rollback: %v", err)
				}
				answers[i] <- e
			}()
			call, _, _ := asked.next(t)
			return call
		}
		first := ask(0)
		r.source.publish(t, "workers: 3\n")
		time.Sleep(time.Second)
		if first.ctx.Err() != nil || r.Status().Sources[0].Keys != 1 {
			t.Error("the sources' content called off a rollback")
		}
		second := ask(1)
		if e := <-answers[0]; first.ctx.Err() == nil || e.Outcome != RestartFailed || e.ID != 0 {
			t.Errorf("ctx %v, entry %+v", first.ctx.Err(), e)
		}
		second.answer <- nil
		want(t, <-answers[1], Restarted)
		if st := r.Status(); st.Pinned != revisions[1] {
			t.Errorf("status %+v", st)
		}
		if record, _, err := r.store.load(pinFile); err != nil || record.Revision != revisions[1] {
			t.Errorf("the pin on disk is for %s, %v", record.Revision, err)
		}
	})
}

// TestReloadGivenUpDuringARestart: the other source's newer content counts.

// TestNothingIsWrittenWhileARestartIsUnderWay: the new process may be writing.

// TestFlappingContentStartsFewProcesses: one that changes each 50 ms for half a

// minute, and then the last one comes into force.

func TestFlappingContentStartsFewProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		r := newRig(t, "workers: 2\n", func(o *Options[settings]) { o.Restart = asked.restart })
		r.start(t)
		for i := range 600 {
			r.source.publish(t, fmt.Sprintf("workers: %d\ntimeout: %ds\n", 2+i%3, 1+i%3))
			time.Sleep(50 * time.Millisecond)
		}
		n := len(asked.calls)
		if n < 3 || n > 60 {
			t.Errorf("%d restarts were begun", n)
		}
		r.source.publish(t, "workers: 9\n")
		time.Sleep(paceShort + time.Second)
		for len(asked.calls) > 1 {
			<-asked.calls
		}
		call, _, values := asked.next(t)
		if values["workers"].Raw != int64(9) || call.ctx.Err() != nil {
			t.Errorf("workers %v, ctx %v", values["workers"].Raw, call.ctx.Err())
		}
		call.answer <- nil
		synctest.Wait()
		want(t, r.Status().Last, Restarted)
	})
}
