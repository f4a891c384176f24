package reload

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hotsvc/svc/configsrc"
)

// restarts is an Options.Restart that the test answers.

type restarts struct {
	calls    chan *restartCall
	stubborn bool // does not heed its ctx
}

type restartCall struct {
	ctx     context.Context
	content []byte
	answer  chan error
}

func newRestarts() *restarts { return &restarts{calls: make(chan *restartCall, 100)} }

func (r *restarts) restart(ctx context.Context, content []byte) error {
	c := &restartCall{ctx, content, make(chan error, 1)}
	r.calls <- c
	if r.stubborn {
		return <-c.answer
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// next waits for the next call and returns it with its content.

func (r *restarts) next(t testing.TB) (*restartCall, handedHead, configsrc.Values) {
	t.Helper()
	select {
	case c := <-r.calls:
		head, _, values, err := decodeHanded(c.content)
		if err != nil {
			t.Fatal(err)
		}
		return c, head, values
	case <-time.After(time.Minute):
		t.Fatal("no restart was asked for")
		return nil, handedHead{}, nil
	}
}

func (r *restarts) none(t testing.TB) {
	t.Helper()
	if n := len(r.calls); n > 0 {
		t.Fatalf("%d restarts were asked for", n)
	}
}

// successor is a manager as another process would have it: with the same

// source and folder, and the content that was handed to it.

func (r *rig) successor(t testing.TB, content []byte, change func(*Options[settings])) *rig {
	t.Helper()
	next := newRig(t, "", func(o *Options[settings]) {
		o.Layers[0].Source = r.source
		o.StateDir = r.options.StateDir
		o.Handed = content
		if change != nil {
			change(o)
		}
	})
	next.source = r.source
	return next
}

// folder is all that is in a folder.

func folder(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		info, _ := d.Info()
		files[strings.TrimPrefix(path, dir)] = info.ModTime().String() + " " + string(data)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// lastGood is the pair that a cold start would fall back to.

func lastGood(t testing.TB, m *Manager[settings]) any {
	t.Helper()
	_, values, err := m.store.load(lastGoodFile)
	if err != nil {
		t.Fatal(err)
	}
	return values["pair.a"].Raw
}

func TestHandedStartAsksAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		old := newRig(t, pairYAML(1)+"workers: 2\n", func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart })
		old.start(t)
		old.source.publish(t, pairYAML(2)+"workers: 3\n")
		call, _, _ := asked.next(t)
		time.Sleep(time.Second)
		before, calls := folder(t, dir), old.source.requests()

		next := old.successor(t, call.content, nil)
		if err := next.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := old.source.requests() - calls; n != 0 {
			t.Errorf("%d calls of the source", n)
		}
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
			t.Errorf("the state folder has changed: %s", diff)
		}
		if c := next.Load().Config; c.Workers != 3 || c.Pair.A != 2 || next.Load().ID == old.Load().ID {
			t.Errorf("config %+v", c)
		}

		time.Sleep(time.Second)
		next.start(t)
	})
	t.Run("no folder is made either", func(t *testing.T) {
		var applied []byte
		r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.Applied = func(content []byte) { applied = content } })
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "state")
		next := r.successor(t, applied, func(o *Options[settings]) { o.StateDir = dir })
		if err := next.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	})
}

func TestNumbersGoOnWithoutAFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, call := pending(t, "", false)
		next := r.successor(t, call.content, nil)
		next.start(t)
		synctest.Wait()
		call.answer <- nil
		next.source.publish(t, "workers: 3\ntimeout: 4s\n")
		synctest.Wait()
		if h := next.History(); len(h) != 2 || h[0].ID != 2 || h[0].Outcome != Restarted || h[1].ID != 3 {
			t.Errorf("history %+v", h)
		}
	})
}

func TestHandedStartThatFailsSaysWhichKind(t *testing.T) {
	var applied []byte
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.Applied = func(content []byte) { applied = content } })
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	busy := errors.New("port is busy")
	for name, c := range map[string]struct {
		change    func(*Options[settings])
		fault     error
		says      string
		retryable bool
	}{
		"the environment":             {fault: Retryable(busy), says: "port is busy", retryable: true},
		"the content cannot be built": {fault: busy, says: "port is busy"},
		"refused under a fixed layer": {
			change: func(o *Options[settings]) {
				o.Layers = append(o.Layers, Layer{Name: "set", Values: configsrc.Values{"pair.a": {Raw: int64(5)}}})
			},
			says: "must be the same as a",
		},
		"another source": {change: func(o *Options[settings]) { o.Layers[0].Address = "there" }, says: "another source: memory here"},
		"damaged":        {change: func(o *Options[settings]) { o.Handed = o.Handed[:len(o.Handed)/2] }, says: "damaged"},
		"empty":          {change: func(o *Options[settings]) { o.Handed = []byte{} }, says: "damaged"},
		"a newer format": {
			change: func(o *Options[settings]) {
				o.Handed = bytes.Replace(o.Handed, []byte(`"format":1`), []byte(`"entry":"of another type","format":7`), 1)
			},
			says: "format 7, this program reads 1",
		},
		"a newer record": {
			change: func(o *Options[settings]) {
				head, rest, _ := bytes.Cut(o.Handed, []byte("\n"))
				o.Handed = slices.Concat(head, []byte("\n"), bytes.Replace(rest, []byte(`"format":1`), []byte(`"format":8`), 1))
			},
			says: "format 8, this program reads 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			next := r.successor(t, applied, c.change)
			Register(next.Manager, "port", func(c *settings) pair { return c.Pair }, func(context.Context, pair) (int, error) { return 0, c.fault })
			err := next.Start(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("Start: %v, want %q in it", err, c.says)
			}
			if isRetryable(err) != c.retryable {
				t.Errorf("retryable %v: %v", !c.retryable, err)
			}
			if next.Load() != nil {
				t.Error("a revision is in force")
			}
		})
	}
}

// TestTwoProcessesInTurn: each writes one line a change, and both know it under

// the same number.

func TestTwoProcessesInTurn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		withRestart := func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart }
		old := newRig(t, pairYAML(1)+"workers: 2\n", withRestart)
		stopOld := old.start(t)
		settled, applied := make(chan struct{}), &lastContent{}
		reloaded := make(chan Entry, 1)
		old.source.replace(t, pairYAML(2)+"workers: 3\n")
		go func() {
			e, err := old.Reload(t.Context())
			if err != nil {
				t.Errorf("Reload: %v", err)
			}
			reloaded <- e
		}()
		call, head, _ := asked.next(t)
		next := old.successor(t, call.content, func(o *Options[settings]) { withRestart(o); o.Settled, o.Applied = settled, applied.set })
		stopNext := next.start(t)
		synctest.Wait()
		call.answer <- nil
		e := <-reloaded
		want(t, e, Restarted)

		if e.ID != 2 || head.Entry.ID != 2 || !slices.Equal(e.Changed, []string{"pair.a", "pair.b", "workers"}) || !slices.Equal(e.Restart, []string{"workers"}) {
			t.Errorf("entry %+v, handed %+v", e, head.Entry)
		}
		last := next.Status().Last
		for _, stage := range []string{stageNotified, stageFetched, stageBuilt, stageApplied} {
			if _, ok := last.StagesMS[stage]; !ok {
				t.Errorf("stage %s is missing in %v", stage, last.StagesMS)
			}
		}
		last.StagesMS, e.StagesMS = nil, nil
		if diff := cmp.Diff(e, last); diff != "" {
			t.Errorf("the two processes tell of different changes: %s", diff)
		}
		if n := testutil.ToFloat64(next.metrics.reloads.WithLabelValues(string(Restarted), string(ActionRestart))); n != 1 {
			t.Errorf("svc_config_reloads_total{restarted} = %v in the new process", n)
		}

		// Last good waits for the end of the probation, rollbacks do not.
		if got := lastGood(t, next.Manager); got != int64(1) {
			t.Errorf("last good is %v before the new process has settled", got)
		}
		next.source.publish(t, pairYAML(3)+"workers: 3\n")
		synctest.Wait()
		if got := lastGood(t, next.Manager); got != int64(1) || next.Load().Config.Pair.A != 3 {
			t.Errorf("last good is %v before the new process has settled", got)
		}
		if _, _, err := next.history.content(last.Revision); err != nil {
			t.Errorf("no rollback to the restarted content: %v", err)
		}
		close(settled)
		synctest.Wait()
		if got := lastGood(t, next.Manager); got != int64(3) {
			t.Errorf("last good is %v after the new process has settled", got)
		}

		// The third: without an entry, and on with the numbers.
		stopOld()
		next.Suspend()
		third := next.successor(t, applied.get(), withRestart)
		stopThird := third.start(t)
		synctest.Wait()
		if st := third.Status(); st.Last.ID != 3 || st.Last.Outcome != Applied || st.Revision != next.Load().ID {
			t.Errorf("status %+v", st)
		}
		if n := testutil.ToFloat64(third.metrics.successful); n != 1 {
			t.Errorf("svc_config_last_reload_successful = %v", n)
		}
		third.source.publish(t, pairYAML(4)+"workers: 3\n")
		synctest.Wait()
		if st := third.Status(); st.Last.ID != 4 {
			t.Errorf("status %+v", st)
		}
		stopNext()
		stopThird()
		checkHistory(t, dir, 4)
	})
}

// lastContent keeps what Options.Applied was called with last.

// checkHistory fails unless the index has the entries 1 to n, each once.

func checkHistory(t testing.TB, dir string, n int) {
	t.Helper()
	h, err := openHistory(newStore(dir))
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, e := range h.entries {
		ids = append(ids, e.ID)
	}
	var wantIDs []int64
	for i := range n {
		wantIDs = append(wantIDs, int64(i+1))
	}
	if !slices.Equal(ids, wantIDs) {
		t.Errorf("the index has the entries %v: %+v", ids, h.entries)
	}
}

// TestPinIsHandedOver: to a process for the pinned content, and to one for

// another, where the pinned one has not come into force yet.

func TestHandedStartAndASourceInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied := &lastContent{}
		r := newRig(t, pairYAML(5), func(o *Options[settings]) { o.Applied = applied.set })
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.source.replace(t, "")
		next := r.successor(t, applied.get(), nil)
		next.start(t)
		time.Sleep(confirmEmpty / 2)
		next.source.publish(t, pairYAML(5))
		time.Sleep(time.Minute)
		if got := next.Load().Config.Pair.A; got != 5 || len(next.History()) != 0 {
			t.Errorf("pair %d, history %+v: a moment of emptiness was applied", got, next.History())
		}
		next.source.fail(configsrc.ErrNotFound, "gone")
		time.Sleep(time.Minute)
		if st := next.Status(); !st.Sources[0].Stale || next.Load().Config.Pair.A != 5 {
			t.Errorf("status %+v", st)
		}
		next.source.publish(t, pairYAML(6))
		time.Sleep(time.Minute)
		if got := next.Load().Config.Pair.A; got != 6 {
			t.Errorf("pair %d", got)
		}
	})
}

// TestHandedToANewerProgram: which knows a setting by another name.
