package reload

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

func TestSourceErrorKeepsTheLastContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.start(t)
		r.source.fail(configsrc.ErrInvalid, "broken")
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Refused || !strings.Contains(last.Reason, "memory: read here: invalid content") {
			t.Errorf("last %+v", last)
		}
		s := r.Status().Sources[0]
		if !s.Stale || s.StaleSince.IsZero() || s.Error == "" || r.Load().Config.Pair.A != 1 {
			t.Errorf("source %+v", s)
		}
		calls := r.source.requests()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := r.source.requests() - calls; n > 1 {
			t.Errorf("%d calls while nothing changed", n)
		}
		// Mended to the very content in force: promptly, and all is well.
		r.source.publish(t, pairYAML(1))
		synctest.Wait()
		if st := r.Status(); !st.Last.Outcome.Good() || st.Sources[0].Stale {
			t.Errorf("status %+v", st)
		}
		// Unreachable: not a refusal, only stale; and news when it is back, unchanged.
		r.source.fail(nil, "")
		time.Sleep(10 * time.Minute)
		if st := r.Status(); !st.Sources[0].Stale || !st.Last.Outcome.Good() {
			t.Errorf("status %+v", st)
		}
		r.source.publish(t, pairYAML(1))
		time.Sleep(paceLong + time.Second)
		synctest.Wait()
		if st := r.Status(); st.Sources[0].Stale {
			t.Errorf("still stale: %+v", st.Sources[0])
		}
	})
}

func TestOutageIsNotAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.start(t)
		synctest.Wait()
		calls := r.source.requests()
		r.source.fail(nil, "")
		time.Sleep(10 * time.Minute)
		n := r.source.requests() - calls
		// Two minutes at 2.5 s and eight at 15 s on average are 80.
		if n < 30 || n > 200 {
			t.Errorf("%d calls in ten minutes without an answer", n)
		}
	})
}

func TestEmptyNeedsASecondReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(5), nil)
		r.start(t)
		r.source.publish(t, "")
		time.Sleep(confirmEmpty / 2)
		r.source.publish(t, pairYAML(5))
		time.Sleep(time.Minute)
		if got := r.Load().Config.Pair.A; got != 5 || len(r.History()) != 1 {
			t.Errorf("pair %d, history %+v: a moment of emptiness was applied", got, r.History())
		}
		r.source.publish(t, "")
		time.Sleep(time.Minute)
		if got := r.Load().Config.Pair.A; got != 0 {
			t.Errorf("pair %d: a lasting emptiness was not applied", got)
		}
	})
}

func TestQuietTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := func(o *Options[settings]) { o.Layers[0].Quiet = 300 * time.Millisecond }
		r := newRig(t, pairYAML(1), quiet)
		r.start(t)
		synctest.Wait()
		// A publication in steps, one of them broken: one change comes of it.
		r.source.publish(t, pairYAML(2))
		time.Sleep(100 * time.Millisecond)
		r.source.fail(configsrc.ErrInvalid, "half written")
		time.Sleep(200 * time.Millisecond)
		r.source.publish(t, pairYAML(3))
		began := time.Now()
		time.Sleep(299 * time.Millisecond)
		synctest.Wait()
		if r.Load().Config.Pair.A != 1 {
			t.Error("applied before the quiet time")
		}
		until(t, "pair 3", func() bool { return r.Load().Config.Pair.A == 3 })
		if took := time.Since(began); took > 350*time.Millisecond {
			t.Errorf("applied %v after the last write", took)
		}
		if n := len(r.History()); n != 2 {
			t.Errorf("%d history entries: %+v", n, r.History())
		}
		// The time of the first notice counts, that of the last read, and the quiet time.
		if ms := r.Status().Last.StagesMS; ms[stageNotified] != 0 || ms[stageFetched] != 300 || ms[stageApplied] < 600 {
			t.Errorf("stages %v", ms)
		}
		// One that never rests is taken after QuietMax.
		began = time.Now()
		for n := 10; r.Load().Config.Pair.A < 10; n++ {
			r.source.publish(t, pairYAML(n))
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < QuietMax || took > QuietMax+500*time.Millisecond {
			t.Errorf("a source that never rests was taken after %v", took)
		}
	})
}

// TestStormOfRequests: a thousand requests to read now are few reads, and all
// are answered.
func TestStormOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.source.delay = 100 * time.Millisecond
		r.start(t)
		synctest.Wait()
		before := r.source.requests()
		r.source.replace(t, pairYAML(2))
		var answered sync.WaitGroup
		for range 1000 {
			answered.Go(func() {
				if e, err := r.Reload(t.Context()); err != nil || !e.Outcome.Good() {
					t.Errorf("%+v %v", e, err)
				}
			})
			time.Sleep(time.Millisecond) // for ten times as long as a read takes
		}
		answered.Wait()
		if n := r.source.requests() - before; n > 25 {
			t.Errorf("%d reads for a thousand requests in a second", n)
		}
		if r.Load().Config.Pair.A != 2 {
			t.Error("the content was not read")
		}
	})
}

func TestRequestInterruptsAWaitThatIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		stop := r.start(t)
		synctest.Wait()
		want(t, r.reread(t), Unchanged)
		want(t, r.reload(t, pairYAML(2)), Applied)
		synctest.Wait()
		stop()
		if text := r.logs.String(); strings.Contains(text, "cannot be read") || r.Status().Sources[0].Stale {
			t.Errorf("source %+v, log: %s", r.Status().Sources[0], text)
		}
	})
}

// TestRequestsOfASourceInTrouble: who asks while a failing read serves others
// takes nobody's answer.
func TestRequestsOfASourceInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.source.delay = 100 * time.Millisecond
		r.start(t)
		r.source.fail(configsrc.ErrNotFound, "gone")
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var answered sync.WaitGroup
		for range 3 {
			answered.Go(func() {
				if e, err := r.Reload(ctx); err != nil || e.Outcome != Failed {
					t.Errorf("%+v %v", e, err)
				}
			})
			time.Sleep(40 * time.Millisecond)
		}
		answered.Wait()
	})
}

// TestReloadIncludesAPublicationsSecondHalf: it waits for the quiet time where
// the content differs, and only there.
func TestReloadIncludesAPublicationsSecondHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "timeout: 5s\n"+pairYAML(1), func(o *Options[settings]) { o.Layers[0].Quiet = 300 * time.Millisecond })
		r.start(t)
		synctest.Wait()
		began := time.Now()
		want(t, r.reread(t), Unchanged)
		if took := time.Since(began); took > 0 {
			t.Errorf("waited %v though nothing differs", took)
		}
		r.source.publish(t, "timeout: 6s\n")
		time.AfterFunc(110*time.Millisecond, func() { r.source.publish(t, "timeout: 6s\n"+pairYAML(2)) })
		time.Sleep(10 * time.Millisecond)
		e := r.reread(t)
		want(t, e, Applied)
		if c := r.Load().Config; c.Pair.A != 2 || c.Timeout != 6*time.Second || len(r.History()) != 2 {
			t.Errorf("config %+v, history %+v", c, r.History())
		}
	})
}

func TestSourceThatIsAlwaysEmptyIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "", nil)
		r.start(t)
		synctest.Wait()
		began := time.Now()
		want(t, r.reread(t), Unchanged)
		if took := time.Since(began); took > 0 {
			t.Errorf("a read of a source that was empty before took %v", took)
		}
	})
}

// TestSourceThatRepeatsItsErrorIsPaced: one that breaks the rules by not
// waiting for news does not make the watcher run hot.
func TestSourceThatRepeatsItsErrorIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		failure := &configsrc.Error{
			Backend: "test", Op: "read", Kind: configsrc.ErrNotFound,
			Version: configsrc.Version{Cursor: "always the same"}, Err: errors.New("gone"),
		}
		source := sourceFunc(func(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error) {
			if n := calls.Add(1); n > 1000 {
				<-ctx.Done() // or the test would never end
				return configsrc.Snapshot{}, ctx.Err()
			} else if n == 1 {
				return configsrc.Snapshot{Version: configsrc.Version{Cursor: "first"}, Values: testValues(t, pairYAML(1))}, nil
			}
			return configsrc.Snapshot{}, failure
		})
		startManager(t, newManager(t, Options[settings]{Default: defaults, Layers: []Layer{{Name: "test", Source: source}}}))
		time.Sleep(10 * time.Minute)
		if n := calls.Load(); n < 20 || n > 200 {
			t.Errorf("%d calls in ten minutes", n)
		}
	})
}

func TestPaceStartsAnewAfterASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.start(t)
		synctest.Wait()
		r.source.fail(nil, "")
		time.Sleep(10 * time.Minute)
		r.source.publish(t, pairYAML(2))
		time.Sleep(paceLong + time.Second)
		synctest.Wait()
		if r.Status().Sources[0].Stale {
			t.Fatal("the source is not back")
		}
		before := r.source.requests()
		r.source.fail(nil, "")
		time.Sleep(2 * time.Second)
		// The first three pauses are 0.2, 0.4 and 0.8 s at the most, and a floor each.
		if n := r.source.requests() - before; n < 4 {
			t.Errorf("%d calls in the first two seconds of a new outage", n)
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		longest := func(p pace, err error) time.Duration {
			var d time.Duration
			for range 1000 {
				d = max(d, p.next(err))
			}
			return d
		}
		for range 1000 {
			var p pace
			if d := p.next(errors.New("any")); d < paceFloor || d > paceFirst+paceFloor {
				t.Fatalf("the first pause is %v", d)
			}
		}
		if d := longest(pace{}, errors.New("no answer")); d > paceShort+paceFloor || d < paceShort/2 {
			t.Errorf("pauses of up to %v at the beginning of an outage", d)
		}
		if d := longest(pace{}, configsrc.ErrDenied); d > paceLong+paceFloor || d < paceLong/2 {
			t.Errorf("pauses of up to %v after an answer that waiting does not change", d)
		}
		old := pace{attempts: 20, since: time.Now().Add(-paceShortFor - time.Second)}
		if d := longest(old, errors.New("no answer")); d > paceLong+paceFloor || d < paceLong/2 {
			t.Errorf("pauses of up to %v late in an outage", d)
		}
	})
}
