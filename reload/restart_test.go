package reload

import (
	"context"
	"errors"
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

func TestReloadThatRestartsSaysSo(t *testing.T) {
	restart := func(o *Options[settings]) {
		o.Restart = func(context.Context, Content) error { return nil }
	}
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		for range 20 {
			r, low, high := newPairOfSources(t, "workers: 2\n", pairYAML(1), restart)
			high.delay = delay
			stop := r.start(t)
			low.replace(t, "workers: 3\n")
			e, err := r.Reload(t.Context())
			if err != nil || e.Outcome != Restarted {
				t.Fatalf("Reload with an answer delayed by %v: %+v, %v; last %+v", delay, e, err, r.Status().Last)
			}
			stop()
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
		o.Restart = func(context.Context, Content) error {
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
