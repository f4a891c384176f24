package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// pool is a resource that knows whether it is open.
type pool struct {
	n      int
	closed atomic.Bool
	open   *atomic.Int64 // of all pools of a test
}

func (p *pool) Close() error {
	if p.closed.Swap(true) {
		return errors.New("closed twice")
	}
	p.open.Add(-1)
	return nil
}

func registerPool(r *rig, name string, open *atomic.Int64, fault func() error) *Resource[settings, *pool] {
	return Register(r.Manager, name, func(c *settings) pair { return c.Pair }, func(_ context.Context, p pair) (*pool, error) {
		if err := fault(); err != nil {
			return nil, err
		}
		open.Add(1)
		return &pool{n: p.A, open: open}, nil
	})
}

// TestFaultInEachBuildStep: whichever step fails, the old value stays whole,
// nothing leaks, and the reason is in status, log and metric.
func TestFaultInEachBuildStep(t *testing.T) {
	faults := map[string]func() error{
		"refused": func() error { return errors.New("rule 3 does not compile") },
		"failed":  func() error { return Retryable(errors.New("connection refused")) },
		"panic":   func() error { panic("canary-in-panic") },
		"runtime": func() error { return fmt.Errorf("element %d", []int{}[len(os.Args)]) },
	}
	const steps = 3
	for kind, fault := range faults {
		for step := range steps {
			t.Run(fmt.Sprintf("%s in step %d", kind, step), func(t *testing.T) {
				r := newRig(t, pairYAML(1), nil)
				var open atomic.Int64
				var armed atomic.Bool
				resources := make([]*Resource[settings, *pool], steps)
				for i := range steps {
					resources[i] = registerPool(r, fmt.Sprintf("step%d", i), &open, func() error {
						if armed.Load() && i == step {
							return fault()
						}
						return nil
					})
				}
				r.start(t)
				before := r.Load()
				armed.Store(true)
				e := r.reload(t, pairYAML(2))
				outcome := Refused
				if kind == "failed" {
					outcome = Failed
				}
				want(t, e, outcome)
				if r.Load() != before || before.Config.Pair.A != 1 {
					t.Error("the old revision is not in force any more")
				}
				for i, res := range resources {
					if p := res.Get(before); p.n != 1 || p.closed.Load() {
						t.Errorf("resource %d of the old revision: %d, closed %v", i, p.n, p.closed.Load())
					}
				}
				until(t, "only the old resources are open", func() bool { return open.Load() == steps })
				name := fmt.Sprintf("build step%d: ", step)
				for where, text := range map[string]string{"status": r.Status().Last.Reason, "log": r.logs.String()} {
					if !strings.Contains(text, name) {
						t.Errorf("%s does not name the step: %s", where, text)
					}
					if strings.Contains(text, "canary-in-panic") {
						t.Errorf("%s holds the panic's value", where)
					}
				}
				if n := testutil.ToFloat64(r.metrics.rejected.WithLabelValues(rejectedBuild)); n < 1 { // a failed one may have been tried again by now
					t.Errorf("svc_config_rejected_total{reason=build} = %v", n)
				}
				if n := testutil.ToFloat64(r.metrics.successful); n != 0 {
					t.Errorf("svc_config_last_reload_successful = %v", n)
				}
				armed.Store(false)
				want(t, r.reload(t, pairYAML(3)), Applied)
				until(t, "the old resources are closed", func() bool { return open.Load() == steps })
				if n := testutil.ToFloat64(r.metrics.successful); n != 1 {
					t.Errorf("svc_config_last_reload_successful = %v after a good one", n)
				}
			})
		}
	}
}

func TestBuildThatDoesNotStop(t *testing.T) {
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.BuildTimeout = 20 * time.Millisecond })
	var open, made atomic.Int64
	release := make(chan struct{})
	Register(r.Manager, "slow", func(c *settings) pair { return c.Pair }, func(_ context.Context, p pair) (*pool, error) {
		if p.A == 2 {
			<-release
		}
		open.Add(1)
		made.Add(1)
		return &pool{n: p.A, open: &open}, nil
	})
	r.start(t)
	e := r.reload(t, pairYAML(2))
	want(t, e, Failed)
	if !strings.Contains(e.Reason, "did not stop when told to") {
		t.Errorf("reason %q", e.Reason)
	}
	want(t, r.reload(t, pairYAML(1)), Unchanged) // no further try
	began := made.Load()
	close(release)
	until(t, "the abandoned build has ended", func() bool { return made.Load() > began })
	until(t, "what came too late is closed", func() bool { return open.Load() == 1 })
}

func TestUnchangedSectionKeepsItsInstance(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	var open atomic.Int64
	p := registerPool(r, "pool", &open, func() error { return nil })
	r.start(t)
	first := p.Get(r.Load())
	want(t, r.reload(t, pairYAML(1)+"timeout: 9s\n"), Applied)
	if p.Get(r.Load()) != first || first.closed.Load() {
		t.Error("the pool was made anew, or closed, though its section is the same")
	}
	want(t, r.reload(t, pairYAML(2)+"timeout: 9s\n"), Applied)
	if p.Get(r.Load()) == first {
		t.Error("the pool was kept though its section changed")
	}
	until(t, "the first pool is closed", first.closed.Load)
}

func TestRetiredResourceOutlivesItsRequests(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	var open atomic.Int64
	p := registerPool(r, "pool", &open, func() error { return nil })
	r.start(t)
	ctx, release := r.Pin(t.Context())
	rev := r.From(ctx)
	want(t, r.reload(t, pairYAML(2)), Applied)
	time.Sleep(20 * time.Millisecond)
	if r.From(ctx) != rev || p.Get(rev).closed.Load() || p.Get(rev).n != 1 {
		t.Error("the request's revision changed under it")
	}
	if r.From(t.Context()).Config.Pair.A != 2 {
		t.Error("a new request does not see the new revision")
	}
	release()
	until(t, "the retired pool is closed", p.Get(rev).closed.Load)
}

func TestGraceClosesUnderARequestThatNeverEnds(t *testing.T) {
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.Grace = 30 * time.Millisecond })
	var open atomic.Int64
	p := registerPool(r, "pool", &open, func() error { return nil })
	r.start(t)
	rev := r.Acquire()
	want(t, r.reload(t, pairYAML(2)), Applied)
	until(t, "the pool is closed after the grace", p.Get(rev).closed.Load)
	rev.Release()
	if open.Load() != 1 {
		t.Errorf("%d pools open", open.Load())
	}
}

// TestNoReaderSeesAMix flips between contents whose two fields must match, as
// fast as it goes, while readers look. It also shows that no request meets a
// closed pool, or one of another revision.
func TestNoReaderSeesAMix(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	var open atomic.Int64
	p := registerPool(r, "pool", &open, func() error { return nil })
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	contents := make([]content, 2)
	configs := make([]*settings, 2)
	for i := range contents {
		r.source.publish(t, pairYAML(i+1))
		var err error
		if contents[i], err = newContent(r.source.values, nil, nil); err != nil {
			t.Fatal(err)
		}
		if configs[i], _, _, err = r.decode(contents[i].full); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var reads atomic.Int64
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c := r.Load().Config; c.Pair.A != c.Pair.B {
					t.Errorf("a mix: %+v", c.Pair)
					return
				}
				ctx, release := r.Pin(t.Context())
				rev := r.From(ctx)
				a := rev.Config.Pair.A
				for range 3 {
					if got := p.Get(r.From(ctx)); got.n != a || got.closed.Load() || r.From(ctx).Config.Pair.B != a {
						t.Errorf("request of %d has pool %d, closed %v", a, got.n, got.closed.Load())
						release()
						return
					}
				}
				release()
				reads.Add(1)
			}
		})
	}
	// The manager's goroutine is this one.
	// 20,000 are less than a second's, unless the race detector slows them.
	flips := 0
	began := time.Now()
	for n := 0; n < 20_000 && time.Since(began) < 4*time.Second; n++ {
		flips++
		next := r.newRevision(contents[(n+1)%2], configs[(n+1)%2])
		if err := r.buildRevision(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		r.swap(next)
	}
	took := time.Since(began)
	close(stop)
	readers.Wait()
	t.Logf("%.0f flips a second, %d requests", float64(flips)/took.Seconds(), reads.Load())
	if flips < 200 || reads.Load() < 1000 {
		t.Errorf("too little happened to mean anything: %d flips, %d requests", flips, reads.Load())
	}
	until(t, "one pool is open", func() bool { return open.Load() == 1 })
	if err := r.retireAll(); err != nil {
		t.Error(err)
	}
	if open.Load() != 0 {
		t.Errorf("%d pools open at the end", open.Load())
	}
}

func TestReleaseTwicePanics(t *testing.T) {
	r := newRig(t, "", nil)
	r.start(t)
	want(t, r.reload(t, pairYAML(1)), Applied)
	rev := r.Acquire()
	want(t, r.reload(t, pairYAML(2)), Applied)
	rev.Release()
	defer func() {
		if recover() == nil {
			t.Error("a second Release went unnoticed")
		}
	}()
	rev.Release()
}

func TestReleaseEndsTheGrace(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	var open atomic.Int64
	registerPool(r, "pool", &open, func() error { return nil })
	r.start(t)
	rev := r.Acquire()
	want(t, r.reload(t, pairYAML(2)), Applied)
	if rev.grace == nil {
		t.Fatal("a revision with resources was retired without a grace")
	}
	rev.Release()
	if rev.grace.Stop() {
		t.Error("the timer runs on after the last lease")
	}
}
