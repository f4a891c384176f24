package reload

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

func TestStartAppliesTheSourcesOverTheDefaults(t *testing.T) {
	r := newRig(t, "timeout: 3s\npublic: {greeting: hi}\n", nil)
	r.start(t)
	c := r.Load().Config
	if c.Timeout != 3*time.Second || c.Workers != 4 || c.Public["greeting"] != "hi" {
		t.Errorf("config %+v", c)
	}
	st := r.Status()
	if st.Last.Outcome != Applied || st.Revision != r.Load().ID || st.Last.Trigger != TriggerStart {
		t.Errorf("status %+v", st)
	}
}

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

func TestRestartPart(t *testing.T) {
	t.Run("nobody can restart: the live part applies", func(t *testing.T) {
		r := newRig(t, "workers: 2\ntimeout: 1s\n", nil)
		r.start(t)
		e := r.reload(t, "workers: 3\ntimeout: 2s\n")
		want(t, e, RestartRequired)
		c := r.Load().Config
		if c.Workers != 2 || c.Timeout != 2*time.Second {
			t.Errorf("config %+v", c)
		}
		if e.InForce != r.Load().ID || e.InForce == e.Revision || !slices.Equal(e.Restart, []string{"workers"}) {
			t.Errorf("entry %+v", e)
		}
		// The same content again ends the same way, without a new entry.
		again := r.reread(t)
		want(t, again, RestartRequired)
		if again.ID != e.ID {
			t.Errorf("a new entry %+v", again)
		}
		// Taking the restart part back leaves nothing to do.
		want(t, r.reload(t, "workers: 2\ntimeout: 2s\n"), Unchanged)
		if last := r.Status().Last; !last.Outcome.Good() {
			t.Errorf("last %+v", last)
		}
	})
	t.Run("the live part does not fit the running restart part", func(t *testing.T) {
		type odd struct {
			Max int `config:"max"`
			Use int `config:"use" reload:"live" validate:"ltefield=Max"`
		}
		source := newMemory(t, "max: 10\nuse: 5\n")
		m, err := New(Options[odd]{Default: func() odd { return odd{Max: 1, Use: 1} }, Layers: []Layer{{Name: "memory", Source: source}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		source.publish(t, "max: 20\nuse: 15\n")
		e, err := m.Reload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want(t, e, RestartRequired)
		if c := m.Load().Config; c.Max != 10 || c.Use != 5 || !strings.Contains(e.Reason, "does not fit") {
			t.Errorf("config %+v, reason %q", c, e.Reason)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("a restart takes the content whole and ends Run", func(t *testing.T) {
		var got Content
		r := newRig(t, "workers: 2\n", func(o *Options[settings]) {
			o.Restart = func(_ context.Context, c Content) error { got = c; return nil }
		})
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.source.publish(t, "workers: 3\ntimeout: 9s\n")
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := r.Status(); st.Last.Outcome != Restarted || st.Last.Action != ActionRestart || got.Revision != st.Last.Revision {
			t.Errorf("status %+v, handed over %s", st.Last, got.Revision)
		}
		if got.Values["workers"].Raw != int64(3) {
			t.Error("the content handed over is not the new one")
		}
		if r.Load().Config.Timeout != time.Second {
			t.Error("a part of the content was applied here as well")
		}
	})
	t.Run("a failed restart is tried again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var tries atomic.Int64
			r := newRig(t, "workers: 2\n", func(o *Options[settings]) {
				o.Restart = func(context.Context, Content) error {
					if tries.Add(1) < 4 {
						return Retryable(errors.New("port is busy"))
					}
					return nil
				}
			})
			if err := r.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- r.Run(t.Context()) }()
			r.source.publish(t, "workers: 3\ntimeout: 9s\n")
			synctest.Wait()
			if last := r.Status().Last; last.Outcome != RestartFailed || last.Reason != "port is busy" {
				t.Fatalf("last %+v", last)
			}
			if c := r.Load().Config; c.Timeout != 9*time.Second || c.Workers != 2 {
				t.Errorf("config %+v while the restart fails", c)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if n := tries.Load(); n != 4 || r.Status().Last.Outcome != Restarted {
				t.Errorf("%d tries, last %+v", n, r.Status().Last)
			}
		})
	})
}

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

func TestRollbackPinsUntilResumed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	inDir := func(o *Options[settings]) { o.StateDir = dir }
	r := newRig(t, pairYAML(1), inDir)
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	first := r.Load().ID
	want(t, r.reload(t, pairYAML(2)), Applied)
	if _, err := r.Rollback(ctx, "0123456789ab"); !errors.Is(err, ErrNoRevision) {
		t.Errorf("unknown revision: %v", err)
	}
	if _, err := r.Rollback(ctx, "../../passwd"); !errors.Is(err, ErrNoRevision) {
		t.Errorf("a path for a revision: %v", err)
	}
	e, err := r.Rollback(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	want(t, e, Applied)
	if r.Load().ID != first || r.Status().Pinned != first || e.Trigger != TriggerRollback {
		t.Errorf("status %+v", r.Status())
	}
	// Pinned: the source is read, not applied.
	e = r.reload(t, pairYAML(3))
	want(t, e, Unchanged)
	if !strings.Contains(e.Reason, "pinned") || r.Load().Config.Pair.A != 1 {
		t.Errorf("entry %+v", e)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// In the next process too.
	next := newRig(t, pairYAML(4), inDir)
	next.start(t)
	if next.Load().ID != first || next.Status().Pinned != first {
		t.Errorf("next process: %+v", next.Status())
	}
	until(t, "the source has been read", func() bool { return next.Status().Sources[0].Keys > 0 })
	e, err = next.Resume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want(t, e, Applied)
	if next.Load().Config.Pair.A != 4 || next.Status().Pinned != "" {
		t.Errorf("after resume: %+v", next.Status())
	}
	triggers := []Trigger{}
	for _, h := range next.History() {
		if h.Trigger == TriggerReload {
			h.Trigger = TriggerChange // the watcher may have been first
		}
		triggers = append(triggers, h.Trigger)
	}
	if !slices.Equal(triggers, []Trigger{TriggerStart, TriggerChange, TriggerRollback, TriggerStart, TriggerResume}) {
		t.Errorf("history %v", triggers)
	}
}

func TestLayers(t *testing.T) {
	low, high := newMemory(t, "timeout: 1s\nlisten: [a, b, c]\n"), newMemory(t, "listen: [d]\n")
	set := configsrc.Values{"timeout": {Raw: "9s", Origin: configsrc.Origin{Source: "set", Name: "--set timeout"}}}
	m, err := New(Options[settings]{Default: defaults, Layers: []Layer{
		{Name: "low", Source: low}, {Name: "high", Source: high}, {Name: "set", Values: set},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Manager: m, source: high}
	r.start(t)
	c := m.Load().Config
	if c.Timeout != 9*time.Second || !slices.Equal(c.Listen, []string{"d"}) {
		t.Errorf("config %+v", c)
	}
	for _, s := range m.Settings() {
		if s.Key == "timeout" && (s.Origin.String() != "--set timeout" || len(s.Shadows) != 1 || s.Shadows[0].Line != 1) {
			t.Errorf("origin of timeout: %+v", s)
		}
		if s.Key == "listen" && (s.Origin.Line != 1 || len(s.Shadows) == 0) {
			t.Errorf("origin of listen: %+v", s)
		}
		if s.Key == "workers" && s.Origin.Source != OriginDefault {
			t.Errorf("origin of workers: %+v", s)
		}
	}
	// One source gone: the other one is still followed.
	low.fail(nil, "")
	want(t, r.reload(t, "listen: [d]\npublic: {x: 1}\n"), Failed) // low did not answer the request
	if m.Load().Config.Public["x"] != int64(1) {
		t.Error("a source that is gone held up the other")
	}
	if _, err := New(Options[settings]{Default: defaults, Layers: []Layer{{Name: "set", Values: set}, {Name: "s", Source: low}}}); err == nil {
		t.Error("a source above a fixed layer was taken")
	}
}

func TestPlan(t *testing.T) {
	r := newRig(t, "timeout: 1s\ntoken: hush\n", nil)
	r.start(t)
	values, err := configsrc.Flatten(configsrc.YAML, []byte("timeout: 2s\nlisten: [a, b]\ntoken: other\n"), configsrc.Origin{}, configsrc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Plan(values)
	if err != nil {
		t.Fatal(err)
	}
	if p.Action != ActionRestart || len(p.Changes) != 3 {
		t.Fatalf("plan %+v", p)
	}
	for i, w := range []Change{
		{Key: "listen", Effect: ActionRestart},
		{Key: "timeout", Old: "1s", New: "2s", Effect: ActionInPlace},
		{Key: "token", Old: maskedValue, New: maskedValue, Effect: ActionInPlace},
	} {
		got := p.Changes[i]
		if got.Key != w.Key || got.Effect != w.Effect || w.Old != nil && (got.Old != w.Old || got.New != w.New) {
			t.Errorf("change %d: %+v, want %+v", i, got, w)
		}
	}
	if r.Load().Config.Timeout != time.Second {
		t.Error("a plan changed something")
	}
	if p, err := r.Plan(nil); err != nil || len(p.Changes) != 0 {
		t.Errorf("plan of the present content: %+v, %v", p, err)
	}
	values["timeout"] = configsrc.Value{Raw: "never"}
	if _, err := r.Plan(values); !errors.Is(err, configsrc.ErrInvalid) {
		t.Errorf("plan of a bad content: %v", err)
	}
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

func TestSubscribersFollowTheirSectionInOrder(t *testing.T) {
	r := newRig(t, "timeout: 1s\n", nil)
	var timeouts []time.Duration
	var pairs []pair
	Subscribe(r.Manager, "timeout", func(c *settings) time.Duration { return c.Timeout }, func(d time.Duration) { timeouts = append(timeouts, d) })
	Subscribe(r.Manager, "panics", func(c *settings) time.Duration { return c.Timeout }, func(time.Duration) { panic("hush-hush") })
	Subscribe(r.Manager, "pair", func(c *settings) pair { return c.Pair }, func(p pair) { pairs = append(pairs, p) })
	r.start(t)
	for _, y := range []string{"timeout: 2s\n", pairYAML(1) + "timeout: 2s\n", "timeout: 2s\nworkers: 1\n", "timeout: 3s\n"} {
		r.reload(t, y)
	}
	if !slices.Equal(timeouts, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}) {
		t.Errorf("timeouts %v", timeouts)
	}
	if !slices.Equal(pairs, []pair{{}, {1, 1}, {}}) {
		t.Errorf("pairs %v", pairs)
	}
	if text := r.logs.String(); !strings.Contains(text, "panics") || strings.Contains(text, "hush-hush") {
		t.Errorf("the panic of a subscriber in the log: %s", text)
	}
}
