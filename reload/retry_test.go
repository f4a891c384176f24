package reload

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

func TestFailedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		var builds atomic.Int64
		Register(r.Manager, "dial", func(c *settings) pair { return c.Pair }, func(_ context.Context, p pair) (int, error) {
			if n := builds.Add(1); p.A == 2 && n < 5 {
				return 0, Retryable(errors.New("connection refused"))
			}
			return p.A, nil
		})
		r.start(t)
		r.source.publish(t, pairYAML(2))
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Failed {
			t.Fatalf("last %+v", last)
		}
		// On request at once, ...
		want(t, r.reread(t), Failed)
		if builds.Load() != 3 {
			t.Errorf("%d builds", builds.Load())
		}
		// ... otherwise with back-off.
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Applied || last.Trigger != TriggerRetry || r.Load().Config.Pair.A != 2 {
			t.Errorf("last %+v", last)
		}
	})
}

func TestLivePartThatFailedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		down, _ := outage(r)
		r.start(t)
		down.Store(true)
		r.source.publish(t, pairYAML(2)+"workers: 9\n")
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != RestartRequired || !strings.Contains(last.Reason, "connection refused") {
			t.Fatalf("last %+v", last)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if c := r.Load().Config; c.Pair.A != 2 || c.Workers != 4 {
			t.Errorf("config %+v, last %+v", c, r.Status().Last)
		}
	})
}

func TestBuildThatTookTooLongIsTheEnvironments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		Register(r.Manager, "dial", func(c *settings) pair { return c.Pair }, func(ctx context.Context, p pair) (int, error) {
			if p.A == 2 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return p.A, nil
		})
		r.start(t)
		r.source.publish(t, pairYAML(2))
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Failed || !strings.Contains(last.Reason, "took longer than 10s") {
			t.Errorf("last %+v", last)
		}
	})
}

func TestEndInTheMiddleOfABuildIsNoRefusal(t *testing.T) {
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = t.TempDir() })
	began := make(chan struct{}, 1)
	Register(r.Manager, "dial", func(c *settings) pair { return c.Pair }, func(ctx context.Context, p pair) (int, error) {
		if p.A == 2 {
			began <- struct{}{}
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return p.A, nil
	})
	stop := r.start(t)
	r.source.publish(t, pairYAML(2))
	<-began
	stop()
	if h := r.History(); len(h) != 1 || h[0].Outcome != Applied {
		t.Errorf("history %+v", h)
	}
}

func TestContentNoLongerWantedIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, low, high := newPairOfSources(t, pairYAML(1), "workers: 4\n", nil)
		down, _ := outage(r)
		r.start(t)
		down.Store(true)
		low.publish(t, pairYAML(2))
		synctest.Wait()
		high.publish(t, "pair: 3\n") // cannot be merged with pair.a
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Refused {
			t.Fatalf("last %+v", last)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Refused || r.Load().Config.Pair.A != 1 {
			t.Errorf("pair %d, last %+v", r.Load().Config.Pair.A, last)
		}
		n := len(r.History())
		for range 5 {
			want(t, r.reread(t), Refused)
		}
		if len(r.History()) != n {
			t.Errorf("%d history entries more for the same refusal", len(r.History())-n)
		}
	})
}

// TestNoRetryIsLeftOver: once another content was decided about, the timer of
// the failed one no longer speaks over what came later.
func TestNoRetryIsLeftOver(t *testing.T) {
	for name, next := range map[string]int{"the content in force": 1, "another content": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, pairYAML(1), nil)
				down, _ := outage(r)
				r.start(t)
				down.Store(true)
				r.source.publish(t, pairYAML(2))
				synctest.Wait()
				if last := r.Status().Last; last.Outcome != Failed {
					t.Fatalf("last %+v", last)
				}
				down.Store(false)
				r.source.publish(t, pairYAML(next))
				synctest.Wait()
				if last := r.Status().Last; !last.Outcome.Good() || r.Load().Config.Pair.A != next {
					t.Fatalf("last %+v", last)
				}
				r.source.fail(configsrc.ErrInvalid, "broken")
				time.Sleep(time.Minute)
				synctest.Wait()
				if last := r.Status().Last; last.Outcome != Refused || len(r.History()) != 4 {
					t.Errorf("last %+v, history %+v", last, r.History())
				}
			})
		})
	}
}

func TestFailedContentReadAgainWaitsForItsRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		down, builds := outage(r)
		r.start(t)
		down.Store(true)
		r.source.publish(t, pairYAML(2))
		synctest.Wait()
		n := builds.Load()
		r.source.fail(configsrc.ErrNotFound, "gone")
		synctest.Wait()
		r.source.publish(t, pairYAML(2))
		synctest.Wait()
		if builds.Load() != n {
			t.Errorf("built %d times more, with no request and before the retry was due", builds.Load()-n)
		}
		time.Sleep(time.Minute)
		if builds.Load() == n {
			t.Error("no retry came")
		}
	})
}

func TestRetryAfterAStartFromLastGood(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		saveLastGood(t, s, 7)
		r := newRig(t, pairYAML(2), func(o *Options[settings]) { o.StateDir = dir })
		var down atomic.Bool
		Register(r.Manager, "dial", func(c *settings) pair { return c.Pair }, func(_ context.Context, p pair) (int, error) {
			if p.A == 2 && down.Load() {
				return 0, Retryable(errors.New("connection refused"))
			}
			return p.A, nil
		})
		down.Store(true)
		r.start(t)
		if st := r.Status(); r.Load().Config.Pair.A != 7 || st.Last.Outcome != Failed || st.Fallback == "" {
			t.Fatalf("status %+v", st)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := r.Status(); r.Load().Config.Pair.A != 2 || st.Last.Outcome != Applied || st.Fallback != "" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestRetriesAreOneHistoryEntry(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
		down, builds := outage(r)
		r.start(t)
		first := r.Load().ID
		r.source.publish(t, pairYAML(2))
		synctest.Wait()
		second := r.Load().ID
		down.Store(true)
		r.source.publish(t, pairYAML(3))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := builds.Load(); n < 100 {
			t.Fatalf("only %d builds", n)
		}
		if n := len(r.History()); n != 3 {
			t.Errorf("%d history entries", n)
		}
		down.Store(false)
		for _, revision := range []string{first, second} {
			if _, err := r.Rollback(t.Context(), revision); err != nil || r.Load().ID != revision {
				t.Errorf("roll back to %s: %v", revision, err)
			}
		}
	})
}
