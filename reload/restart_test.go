package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

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
	t.Run("a restart takes the content whole and suspends this manager", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var got []byte
			r := newRig(t, "workers: 2\n", func(o *Options[settings]) {
				o.Restart = func(_ context.Context, content []byte) error { got = content; return nil }
			})
			r.start(t)
			before := r.Load()
			r.source.publish(t, "workers: 3\ntimeout: 9s\n")
			synctest.Wait()
			head, record, values, err := decodeHanded(got)
			if err != nil {
				t.Fatal(err)
			}
			st := r.Status()
			if st.Last.Outcome != Restarted || st.Last.Action != ActionRestart || record.Revision != st.Last.Revision || head.Entry.ID != st.Last.ID {
				t.Errorf("status %+v, handed over %s with %+v", st, record.Revision, head.Entry)
			}
			if values["workers"].Raw != int64(3) {
				t.Error("the content handed over is not the new one")
			}
			calls := r.source.requests()
			r.source.publish(t, "workers: 2\ntimeout: 3s\n")
			time.Sleep(time.Hour)
			if r.Load() != before || r.source.requests() != calls {
				t.Errorf("the source was followed on: %d calls more, in force %+v", r.source.requests()-calls, r.Load().Config)
			}
			if lease := r.Acquire(); lease != before {
				t.Error("the revision in force cannot be used")
			} else {
				lease.Release()
			}
		})
	})
	t.Run("a failed restart is tried again, at the pace of the others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var tries atomic.Int64
			fault := atomic.Pointer[error]{}
			busy := Retryable(errors.New("port is busy"))
			fault.Store(&busy)
			r := newRig(t, "workers: 2\n", func(o *Options[settings]) {
				o.Restart = func(context.Context, []byte) error { tries.Add(1); return *fault.Load() }
			})
			r.start(t)
			r.source.publish(t, "workers: 3\ntimeout: 9s\n")
			synctest.Wait()
			if last := r.Status().Last; last.Outcome != RestartFailed || last.Reason != "port is busy" {
				t.Fatalf("last %+v", last)
			}
			if c := r.Load().Config; c.Timeout != 9*time.Second || c.Workers != 2 {
				t.Errorf("config %+v while the restart fails", c)
			}
			time.Sleep(10 * time.Minute)
			// Two minutes at 2.5 s and eight at 15 s on average are 80.
			if n := tries.Load(); n < 30 || n > 200 {
				t.Errorf("%d tries in ten minutes", n)
			}
			if n := len(r.History()); n != 2 {
				t.Errorf("%d entries for one failure: %+v", n, r.History())
			}
			// On request at once.
			n := tries.Load()
			want(t, r.reread(t), RestartFailed)
			if tries.Load() != n+1 {
				t.Errorf("%d tries on request", tries.Load()-n)
			}
			var none error
			fault.Store(&none)
			time.Sleep(time.Minute)
			if last := r.Status().Last; last.Outcome != Restarted {
				t.Errorf("last %+v", last)
			}
		})
	})
	t.Run("a refused restart waits for other content", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var tries atomic.Int64
			r := newRig(t, "workers: 2\n", func(o *Options[settings]) {
				o.Restart = func(context.Context, []byte) error { tries.Add(1); return errors.New("no such port") }
			})
			r.start(t)
			r.source.publish(t, "workers: 3\n")
			time.Sleep(time.Hour)
			want(t, r.reread(t), RestartFailed)
			if n := tries.Load(); n != 1 {
				t.Errorf("%d tries", n)
			}
			r.source.publish(t, "workers: 5\n")
			synctest.Wait()
			if n := tries.Load(); n != 2 {
				t.Errorf("%d tries with another content", n)
			}
		})
	})
}

// retryableElsewhere is a mark of another package, on an error with one of ours
// below it.
type retryableElsewhere struct {
	yes   bool
	below error
}

func (e *retryableElsewhere) Error() string   { return "from elsewhere" }
func (e *retryableElsewhere) Retryable() bool { return e.yes }
func (e *retryableElsewhere) Unwrap() error   { return e.below }

func TestRetryableByItsMethod(t *testing.T) {
	ours := Retryable(errors.New("busy"))
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("plain"), false},
		{ours, true},
		{fmt.Errorf("restart: %w", ours), true},
		{errors.Join(errors.New("plain"), &retryableElsewhere{yes: true}), true},
		{&retryableElsewhere{yes: false}, false},
		{&retryableElsewhere{yes: false, below: ours}, false}, // the outer one knows better
	} {
		if got := isRetryable(c.err); got != c.want {
			t.Errorf("isRetryable(%#v) = %v", c.err, got)
		}
	}
	var marked interface{ Retryable() bool }
	if !errors.As(fmt.Errorf("start: %w", ours), &marked) || !marked.Retryable() {
		t.Error("our mark cannot be found by its method")
	}
}

func TestReloadThatRestartsSaysSo(t *testing.T) {
	restart := func(o *Options[settings]) {
		o.Restart = func(context.Context, []byte) error { return nil }
	}
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		for range 20 {
			synctest.Test(t, func(t *testing.T) {
				r, low, high := newPairOfSources(t, "workers: 2\n", pairYAML(1), restart)
				high.delay = delay
				r.start(t)
				synctest.Wait() // or the watcher sees the change by itself, and the restart is over before Reload
				low.replace(t, "workers: 3\n")
				e, err := r.Reload(t.Context())
				if err != nil || e.Outcome != Restarted {
					t.Fatalf("Reload with an answer delayed by %v: %+v, %v; last %+v", delay, e, err, r.Status().Last)
				}
				if _, err := r.Reload(t.Context()); !errors.Is(err, ErrHandedOver) {
					t.Errorf("Reload after it: %v", err)
				}
			})
		}
	}
}

// TestLastGoodIsWhatIsInForceInPart: the live part of a content, under the
// restart part of another, is stored so that a cold start finds it.
func TestLastGoodIsWhatIsInForceInPart(t *testing.T) {
	type section struct {
		A int `config:"a"`
		B int `config:"b" reload:"live"`
	}
	type conf struct {
		S section `config:"s"`
	}
	dir := t.TempDir()
	source := newMemory(t, "s: {}\n")
	options := Options[conf]{StateDir: dir, Layers: []Layer{{Name: "memory", Source: source}}}
	m := newManager(t, options)
	stop := startManager(t, m)
	source.replace(t, "s: {a: 2, b: 2}\n")
	e, err := m.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last := m.Status().Last; e.Outcome != RestartRequired && last.Outcome != RestartRequired {
		t.Fatalf("entry %+v", e)
	}
	_, values, err := m.store.load(lastGoodFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := values.Check(configsrc.Limits{}); err != nil {
		t.Errorf("last good breaks the rules of values: %v", err)
	}
	stop()
	source.fail(configsrc.ErrNotFound, "gone")
	next := newManager(t, options)
	startManager(t, next)
	if got, want := next.Load().Config.S, (section{A: 0, B: 2}); got != want || m.Load().Config.S != want {
		t.Errorf("in force were %+v, a cold start has %+v, want %+v", m.Load().Config.S, got, want)
	}
}

func TestPinIsOnDiskBeforeTheRestart(t *testing.T) {
	dir := t.TempDir()
	var pinned error
	r := newRig(t, "workers: 2\n", func(o *Options[settings]) {
		o.StateDir = dir
		o.Restart = func(context.Context, []byte) error {
			_, pinned = os.Stat(filepath.Join(dir, pinFile))
			return nil
		}
	})
	c, err := newContent(testValues(t, "workers: 7\n"), nil, nil)
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
	r.start(t)
	e, err := r.Rollback(t.Context(), c.revision())
	if err != nil {
		t.Fatal(err)
	}
	want(t, e, Restarted)
	if pinned != nil {
		t.Errorf("the new process took over while no pin was on disk: %v", pinned)
	}
}
