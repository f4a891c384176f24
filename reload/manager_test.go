package reload

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hotsvc/svc/configsrc"
)

func TestChangeIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "timeout: 1s\n", nil)
		r.start(t)
		r.source.publish(t, "timeout: 2s\n")
		synctest.Wait()
		if got := r.Load().Config.Timeout; got != 2*time.Second {
			t.Fatalf("timeout %v after the change", got)
		}
		last := r.Status().Last
		if last.Outcome != Applied || last.Action != ActionInPlace || !slices.Equal(last.Changed, []string{"timeout"}) || last.Trigger != TriggerChange {
			t.Errorf("last %+v", last)
		}
		for _, stage := range []string{stageNotified, stageFetched, stageBuilt, stageApplied} {
			if _, ok := last.StagesMS[stage]; !ok {
				t.Errorf("stage %s is missing in %v", stage, last.StagesMS)
			}
		}
	})
}

func TestRefusedChangesNothingAndIsNotBuiltAgain(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	var builds atomic.Int64
	fail := atomic.Bool{}
	Register(r.Manager, "thing", func(c *settings) pair { return c.Pair }, func(context.Context, pair) (int, error) {
		builds.Add(1)
		if fail.Load() {
			return 0, errors.New("no such thing")
		}
		return 1, nil
	})
	r.start(t)
	before := r.Load()
	fail.Store(true)
	e := r.reload(t, pairYAML(2))
	want(t, e, Refused)
	if !strings.Contains(e.Reason, "build thing: no such thing") || !slices.Equal(e.Changed, []string{"pair.a", "pair.b"}) {
		t.Errorf("entry %+v", e)
	}
	if r.Load() != before {
		t.Error("a refused revision came into force")
	}
	n := builds.Load()
	want(t, r.reread(t), Refused)
	want(t, r.reread(t), Refused)
	if builds.Load() != n {
		t.Errorf("built %d times more with the same content", builds.Load()-n)
	}
	if st := r.Status(); st.Last.Outcome != Refused || st.Last.Reason != e.Reason {
		t.Errorf("status %+v", st.Last)
	}

	// Back to what is in force: the refusal is over.
	want(t, r.reload(t, pairYAML(1)), Unchanged)
	if st := r.Status(); !st.Last.Outcome.Good() {
		t.Errorf("status still shows %+v", st.Last)
	}
	if r.Load() != before || builds.Load() != n {
		t.Error("the content in force was applied again")
	}
	// The same bad content again is a new decision.
	want(t, r.reload(t, pairYAML(2)), Refused)
	if builds.Load() != n+1 {
		t.Errorf("built %d times, want %d", builds.Load(), n+1)
	}
	fail.Store(false)
	want(t, r.reload(t, pairYAML(3)), Applied)
}

func TestValidationNamesEveryProblemWithItsPlace(t *testing.T) {
	r := newRig(t, "", nil)
	r.start(t)
	e := r.reload(t, "workers: 99\npair:\n  a: 1\n  b: 2\ntimeout: -1s\n")
	want(t, e, Refused)
	for _, text := range []string{
		"memory.yaml:1: workers: must be at most 64",
		"memory.yaml:4: pair.b: must be the same as a",
		"memory.yaml:5: timeout: must not be negative",
	} {
		if !strings.Contains(e.Reason, text) {
			t.Errorf("%q is missing in %q", text, e.Reason)
		}
	}
	e = r.reload(t, "workers: many\ntimeout: 5 parsecs\nlisten: {a: 1}\n")
	want(t, e, Refused)
	for _, text := range []string{"memory.yaml:1: workers: want a whole number", "memory.yaml:2: timeout: want a duration", "listen"} {
		if !strings.Contains(e.Reason, text) {
			t.Errorf("%q is missing in %q", text, e.Reason)
		}
	}
	if strings.Contains(e.Reason, "parsecs") || strings.Contains(e.Reason, "many") {
		t.Errorf("the reason holds a value: %s", e.Reason)
	}
}

func TestUnknownKeysAreWarnedOfOrRefused(t *testing.T) {
	r := newRig(t, "", nil)
	r.start(t)
	want(t, r.reload(t, "timeuot: 3s\n"), Applied)
	if text := r.logs.String(); !strings.Contains(text, "timeuot") || !strings.Contains(text, "did you mean timeout") {
		t.Errorf("log: %s", text)
	}
	strict := newRig(t, "", func(o *Options[settings]) { o.Strict = true })
	strict.start(t)
	e := strict.reload(t, "timeuot: 3s\n")
	want(t, e, Refused)
	if !strings.Contains(e.Reason, "memory.yaml:1: timeuot") {
		t.Errorf("reason %q", e.Reason)
	}
}

func TestAlias(t *testing.T) {
	r := newRig(t, "old: {timeout: 7s}\n", nil)
	r.start(t)
	if got := r.Load().Config.Timeout; got != 7*time.Second {
		t.Errorf("timeout %v by its alias", got)
	}
	e := r.reload(t, "old: {timeout: 7s}\ntimeout: 8s\n")
	want(t, e, Refused)
	if !strings.Contains(e.Reason, "old.timeout") {
		t.Errorf("reason %q", e.Reason)
	}
}

func TestRequestsAfterTheEnd(t *testing.T) {
	r := newRig(t, "", nil)
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reload(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Reload: %v", err)
	}
	if _, err := r.Rollback(t.Context(), "0123456789ab"); !errors.Is(err, ErrStopped) {
		t.Errorf("Rollback: %v", err)
	}
}

func TestRemovedKeyIsAChange(t *testing.T) {
	r := newRig(t, "public: {x: 1, y: 2}\n", nil)
	r.start(t)
	e := r.reload(t, "public: {y: 2}\n")
	want(t, e, Applied)
	if _, there := r.Load().Config.Public["x"]; there || !slices.Equal(e.Changed, []string{"public.x"}) {
		t.Errorf("entry %+v, config %+v", e, r.Load().Config)
	}
}

func TestRefusedEntryNamesWhatStaysInForce(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	r.start(t)
	e := r.reload(t, "pair: {a: 1, b: 2}\n")
	want(t, e, Refused)
	if e.InForce != r.Load().ID || e.Revision == e.InForce {
		t.Errorf("entry %+v, in force is %s", e, r.Load().ID)
	}
}

func TestSameRefusalAfterAnotherProblemCountsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.start(t)
		const bad = "pair: {a: 1, b: 2}\n"
		r.source.publish(t, bad)
		synctest.Wait()
		r.source.fail(configsrc.ErrInvalid, "broken")
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Refused || !strings.Contains(last.Reason, "invalid content") {
			t.Fatalf("last %+v", last)
		}
		r.source.publish(t, bad)
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Refused || !strings.Contains(last.Reason, "must be the same") {
			t.Errorf("last %+v", last)
		}
		if n := len(r.History()); n != 4 {
			t.Errorf("%d history entries: %+v", n, r.History())
		}
	})
}

func TestParseErrorIsOneEntryHoweverOftenRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.start(t)
		r.source.fail(configsrc.ErrInvalid, "broken")
		synctest.Wait()
		for range 3 {
			want(t, r.reread(t), Refused)
		}
		refused := 0
		for _, e := range r.History() {
			if e.Outcome == Refused {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("%d entries of one refusal: %+v", refused, r.History())
		}
		if n := testutil.ToFloat64(r.metrics.rejected.WithLabelValues(rejectedParse)); n != 1 {
			t.Errorf("svc_config_rejected_total{reason=parse} = %v", n)
		}
	})
}
