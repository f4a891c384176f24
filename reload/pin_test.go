package reload

import (
	"context"
	"errors"
	"io/fs"
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
	if _, err := os.Stat(filepath.Join(dir, pinFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pin is still on disk: %v", err)
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

// TestRollbackThatDoesNotSucceedIsNotPinned: nor does it come into force later.
func TestRollbackThatDoesNotSucceedIsNotPinned(t *testing.T) {
	for outcome, fault := range map[Outcome]error{
		Failed:  Retryable(errors.New("connection refused")),
		Refused: errors.New("no such thing"),
	} {
		t.Run(string(outcome), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
				var faulty atomic.Bool
				Register(r.Manager, "dial", func(c *settings) pair { return c.Pair }, func(_ context.Context, p pair) (int, error) {
					if faulty.Load() {
						return 0, fault
					}
					return p.A, nil
				})
				r.start(t)
				first := r.Load().ID
				r.source.publish(t, pairYAML(2))
				synctest.Wait()
				faulty.Store(true)
				e, err := r.Rollback(t.Context(), first)
				if err != nil {
					t.Fatal(err)
				}
				want(t, e, outcome)
				if _, err := os.Stat(filepath.Join(dir, pinFile)); r.Status().Pinned != "" || !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("pinned to %q, pin on disk: %v", r.Status().Pinned, err)
				}
				faulty.Store(false)
				time.Sleep(time.Minute)
				synctest.Wait()
				if r.Load().Config.Pair.A != 2 {
					t.Errorf("pair %d came into force by itself", r.Load().Config.Pair.A)
				}
				want(t, r.reload(t, pairYAML(3)), Applied)
			})
		})
	}
}

// pinned is a state folder with the pair 1 pinned, from the source of newRig.
func pinned(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
	stop := r.start(t)
	if _, err := r.Rollback(t.Context(), r.Load().ID); err != nil {
		t.Fatal(err)
	}
	stop()
	return dir
}

func TestPinThatDoesNotFitStopsTheStartAndNamesItsFile(t *testing.T) {
	for name, change := range map[string]func(*Options[settings]){
		"another source": func(o *Options[settings]) { o.Layers[0].Address = "elsewhere" },
		"refused under a fixed layer": func(o *Options[settings]) {
			o.Layers = append(o.Layers, Layer{Name: "set", Values: configsrc.Values{"pair.a": {Raw: int64(5)}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := pinned(t)
			r := newRig(t, pairYAML(5), func(o *Options[settings]) { o.StateDir = dir; change(o) })
			if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, pinFile)) {
				t.Errorf("Start: %v", err)
			}
		})
	}
}

func TestPinnedStartDoesNotAskTheSources(t *testing.T) {
	dir := pinned(t)
	r := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir })
	r.source.fail(nil, "")
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.source.requests(); n != 0 || r.Load().Config.Pair.A != 1 {
		t.Errorf("%d requests, pair %d", n, r.Load().Config.Pair.A)
	}
}

func TestPinnedAndTheSourceIsMended(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
		r.start(t)
		if _, err := r.Rollback(t.Context(), r.Load().ID); err != nil {
			t.Fatal(err)
		}
		r.source.fail(configsrc.ErrInvalid, "broken")
		synctest.Wait()
		if last := r.Status().Last; last.Outcome != Refused {
			t.Fatalf("last %+v", last)
		}
		r.source.publish(t, pairYAML(3))
		synctest.Wait()
		if last := r.Status().Last; !last.Outcome.Good() || r.Load().Config.Pair.A != 1 {
			t.Errorf("last %+v, pair %d", last, r.Load().Config.Pair.A)
		}
	})
}
