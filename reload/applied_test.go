package reload

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
)

type lastContent struct {
	mu      sync.Mutex
	content []byte
	calls   int
}

func (l *lastContent) set(content []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.content = content
	l.calls++
}

func (l *lastContent) get() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.content
}

func TestAppliedIsWhatAHandedStartTakes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		applied := &lastContent{}
		r := newRig(t, pairYAML(1)+"token: hush\n", func(o *Options[settings]) { o.StateDir, o.Applied = dir, applied.set })
		r.start(t)
		check := func(calls int, what string) {
			t.Helper()
			synctest.Wait()
			if applied.calls != calls {
				t.Fatalf("%s: Applied was called %d times, want %d", what, applied.calls, calls)
			}
			next := r.successor(t, applied.get(), func(o *Options[settings]) { o.StateDir = ""; o.Applied = func([]byte) { panic("hush") } })
			if err := next.Start(t.Context()); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if diff := cmp.Diff(r.Load().Config, next.Load().Config); diff != "" || next.Load().ID != r.Load().ID {
				t.Errorf("%s: the next process has another config: %s", what, diff)
			}
			if text := next.logs.String(); strings.Contains(text, "hush") || !strings.Contains(text, "panicked") {
				t.Errorf("%s: log %s", what, text)
			}
		}
		check(1, "cold start")
		first := r.Load().ID
		r.source.publish(t, pairYAML(2)+"token: hush\npublic: {list: [1, {x: y}], empty: {}}\n")
		check(2, "change in place")
		r.source.publish(t, pairYAML(3)+"workers: 9\n")
		check(3, "live part")
		if c := r.Load().Config; c.Workers != 4 || c.Pair.A != 3 {
			t.Errorf("config %+v", c)
		}
		r.source.publish(t, "pair: {a: 1, b: 2}\n")
		check(3, "refused")
		if _, err := r.Rollback(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		check(4, "rollback")
	})
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"from last good": func(t *testing.T, dir string) { t.Helper(); saveLastGood(t, openStore(t, dir), 7) },
		"from a pin": func(t *testing.T, dir string) {
			t.Helper()
			data, err := encodeRecord("memory here", testContent(7))
			if err == nil {
				err = openStore(t, dir).write(pinFile, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			prepare(t, dir)
			applied := &lastContent{}
			r := newRig(t, "", func(o *Options[settings]) { o.StateDir, o.Applied = dir, applied.set })
			r.source.fail(configsrc.ErrNotFound, "gone")
			if err := r.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			next := r.successor(t, applied.get(), nil)
			if err := next.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if applied.calls != 1 || next.Load().Config.Pair.A != 7 || next.Status().Fallback != r.Status().Fallback {
				t.Errorf("%d calls, config %+v, fallback %q, was %q", applied.calls, next.Load().Config, next.Status().Fallback, r.Status().Fallback)
			}
		})
	}
}

func TestPinIsHandedOver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		asked := newRestarts()
		options := func(o *Options[settings]) { o.StateDir, o.Restart = dir, asked.restart }
		old := newRig(t, pairYAML(1)+"workers: 2\n", options)
		old.start(t)
		first := old.Load().ID
		old.source.publish(t, pairYAML(2)+"workers: 3\n")
		call, _, _ := asked.next(t)
		next := old.successor(t, call.content, options)
		next.start(t)
		call.answer <- nil
		synctest.Wait()
		if next.Status().Pinned != "" {
			t.Fatalf("status %+v", next.Status())
		}

		rollback := make(chan Entry, 1)
		go func() {
			e, err := next.Rollback(t.Context(), first)
			if err != nil {
				t.Errorf("Rollback: %v", err)
			}
			rollback <- e
		}()
		call, head, _ := asked.next(t)
		if head.Entry.Trigger != TriggerRollback {
			t.Errorf("entry %+v", head.Entry)
		}
		third := next.successor(t, call.content, options)
		third.start(t)
		call.answer <- nil
		want(t, <-rollback, Restarted)
		synctest.Wait()
		if st := third.Status(); st.Pinned != first || st.Revision != first || st.Last.Trigger != TriggerRollback || third.Load().Config.Workers != 2 {
			t.Errorf("status %+v", st)
		}
		asked.none(t)

		// A process without a change, while the pinned content waits for its restart.
		third.source.publish(t, pairYAML(2)+"workers: 5\n")
		synctest.Wait()
		resumed := make(chan error, 1)
		go func() { _, err := third.Resume(t.Context()); resumed <- err }()
		call, _, _ = asked.next(t)
		call.answer <- errors.New("no")
		if err := <-resumed; err != nil {
			t.Fatal(err)
		}
		second := old.Status().Last.Revision
		go func() { _, err := third.Rollback(t.Context(), second); resumed <- err }()
		call, _, _ = asked.next(t)
		call.answer <- errors.New("no")
		if err := <-resumed; err != nil || third.Status().Pinned != second || third.Load().Config.Workers != 2 {
			t.Fatalf("%v, status %+v", err, third.Status())
		}
		third.Suspend()
		data, err := third.encodeHanded(third.Load().content, nil, stages{})
		if err != nil {
			t.Fatal(err)
		}
		fourth := third.successor(t, data, options)
		fourth.start(t)
		call, _, values := asked.next(t)
		if values["workers"].Raw != int64(3) || fourth.Status().Pinned != second {
			t.Errorf("status %+v", fourth.Status())
		}
		call.answer <- nil
	})
}

func TestHandedToANewerProgram(t *testing.T) {
	type older struct {
		Old struct {
			Timeout time.Duration `config:"timeout"`
		} `config:"old"`
	}
	source := newMemory(t, "old: {timeout: 7s}\n")
	layers := []Layer{{Name: "memory", Address: "here", Source: source}}
	applied := &lastContent{}
	before := newManager(t, Options[older]{Layers: layers, Applied: applied.set})
	if err := before.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := newManager(t, Options[settings]{Default: defaults, Layers: layers, Handed: applied.get()})
	if err := after.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := after.Load().Config.Timeout; got != 7*time.Second {
		t.Errorf("timeout %v", got)
	}
}
