package reload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fleet is a row of processes that hand over to each other, in one folder and
// with one source, as a keeper would have them. The last one serves.
type fleet struct {
	t      testing.TB
	dir    string
	source *memory

	mu     sync.Mutex
	row    []*process
	fault  bool              // the next processes do not start
	failed map[triple]bool   // contents whose restart has failed, or whose process has died
	known  map[string]triple // by revision, what was in force
}

type process struct {
	*rig
	applied lastContent
	stop    func() error
}

// triple is what the contents of this model are made of.
type triple struct{ pair, workers, timeout int }

func (c triple) yaml() string {
	return fmt.Sprintf("%sworkers: %d\ntimeout: %ds\n", pairYAML(c.pair), c.workers, c.timeout)
}

func tripleOf(c *settings) triple {
	return triple{c.Pair.A, c.Workers, int(c.Timeout.Seconds())}
}

// begin starts a process; without content, a cold one.
func (f *fleet) begin(content []byte) error {
	p := &process{}
	p.rig = newRig(f.t, "", func(o *Options[settings]) {
		o.Layers[0].Source = f.source
		o.StateDir, o.Handed, o.Applied, o.Restart = f.dir, content, p.applied.set, f.restart
	})
	f.mu.Lock()
	fault := f.fault && content != nil
	f.mu.Unlock()
	err := p.Start(context.Background())
	if fault {
		err = errors.New("cannot start")
	}
	if err != nil {
		return errors.Join(err, p.retireAll())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p.stop = func() error {
		cancel()
		return <-done
	}
	f.mu.Lock()
	f.row = append(f.row, p)
	f.mu.Unlock()
	go func() { done <- p.Run(ctx) }()
	return nil
}

func (f *fleet) restart(_ context.Context, content []byte) error {
	err := f.begin(content) //nolint:contextcheck // a process lives on when its start is over
	if err != nil {
		_, _, values, decodeErr := decodeHanded(content)
		if decodeErr != nil {
			return decodeErr
		}
		pair, _ := values["pair.a"].Raw.(int64)
		workers, _ := values["workers"].Raw.(int64)
		var timeout int
		text, _ := values["timeout"].Raw.(string)
		_, _ = fmt.Sscanf(text, "%ds", &timeout)
		f.mu.Lock()
		f.failed[triple{int(pair), int(workers), timeout}] = true
		f.mu.Unlock()
	}
	return err
}

func (f *fleet) serving() *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.row[len(f.row)-1]
}

// settle waits until the one that serves has decided about all there is.
func (f *fleet) settle(rt *rapid.T) *process {
	for range 1000 {
		p := f.serving()
		_, err := p.Reload(context.Background())
		if errors.Is(err, ErrHandedOver) || p != f.serving() || p.handover.isAway() {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			rt.Fatal(err)
		}
		return p
	}
	rt.Fatal("it never settles")
	return nil
}

// drop ends the last process or the first one of the row.
func (f *fleet) drop(rt *rapid.T, last bool) *process {
	f.mu.Lock()
	i := 0
	if last {
		i = len(f.row) - 1
	}
	p := f.row[i]
	f.row = slices.Delete(f.row, i, i+1)
	f.mu.Unlock()
	if err := p.stop(); err != nil {
		rt.Fatal(err)
	}
	return p
}

// TestModelOfProcesses drives a row of processes with random contents, requests
// and deaths, and looks after each step that what is wanted is in force, that
// one history tells of all, and that a cold start would find the same.
func TestModelOfProcesses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := &fleet{t: t, dir: t.TempDir(), source: newMemory(t, ""), failed: map[triple]bool{}, known: map[string]triple{}}
		published := triple{0, 4, 1}
		pinned := ""
		f.source.replace(t, published.yaml())
		if err := f.begin(nil); err != nil {
			rt.Fatal(err)
		}
		defer func() {
			for len(f.row) > 0 {
				f.drop(rt, true)
			}
		}()
		actions := map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				published = triple{
					rapid.IntRange(0, 3).Draw(rt, "pair"), rapid.IntRange(3, 5).Draw(rt, "workers"), rapid.IntRange(1, 3).Draw(rt, "timeout"),
				}
				f.source.replace(t, published.yaml())
			},
			"fault": func(rt *rapid.T) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.fault = rapid.Bool().Draw(rt, "fault")
			},
			"the new one dies": func(rt *rapid.T) {
				if len(f.row) < 2 {
					return
				}
				p := f.drop(rt, true)
				f.failed[tripleOf(p.Load().Config)] = true
				if pinned == "" {
					f.failed[published] = true // it may have died of what it was started for
				} else {
					f.failed[f.known[pinned]] = true
				}
				f.serving().Return(errors.New("died"))
			},
			"restart without a change": func(rt *rapid.T) {
				p := f.serving()
				if err := f.begin(p.applied.get()); err == nil {
					p.Suspend()
				}
			},
			"an old one is drained": func(rt *rapid.T) {
				if len(f.row) < 2 {
					return
				}
				f.drop(rt, false)
			},
			"all end, and a cold start": func(rt *rapid.T) {
				for len(f.row) > 0 {
					f.drop(rt, true)
				}
				if err := f.begin(nil); err != nil {
					rt.Fatal(err)
				}
			},
			"rollback": func(rt *rapid.T) {
				var revisions []string
				for revision := range f.known {
					revisions = append(revisions, revision)
				}
				slices.Sort(revisions)
				pinned = rapid.SampledFrom(revisions).Draw(rt, "revision")
				if _, err := f.serving().Rollback(context.Background(), pinned); err != nil {
					rt.Fatal(err)
				}
			},
			"resume": func(*rapid.T) {
				pinned = ""
				if _, err := f.serving().Resume(context.Background()); err != nil {
					rt.Fatal(err)
				}
			},
		}
		check := func() {
			p := f.settle(rt)
			wanted := published
			if pinned != "" {
				wanted = f.known[pinned]
			}
			has := tripleOf(p.Load().Config)
			good := func() bool {
				p = f.settle(rt)
				has = tripleOf(p.Load().Config)
				return has == wanted ||
					f.failed[wanted] && has.workers != wanted.workers && has.pair == wanted.pair && has.timeout == wanted.timeout
			}
			// A pin that has to be tried first is tried at once, but not yet.
			for range 200 {
				if good() {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if !good() {
				rt.Fatalf("in force is %+v, wanted %+v, pinned %q, failed %v, status %+v", has, wanted, pinned, f.failed, p.Status())
			}
			f.known[p.Load().ID] = has
			if got := p.Status().Pinned; got != pinned {
				rt.Fatalf("pinned to %q, want %q", got, pinned)
			}
			if _, err := os.Stat(filepath.Join(f.dir, pinFile)); errors.Is(err, fs.ErrNotExist) != (pinned == "") {
				rt.Fatalf("pinned to %q, on disk %v", pinned, err)
			}
			h, err := openHistory(newStore(f.dir))
			if err != nil {
				rt.Fatal(err)
			}
			for i, e := range h.entries {
				if e.ID != h.entries[0].ID+int64(i) {
					rt.Fatalf("history %+v", h.entries)
				}
			}
			record, _, err := newStore(f.dir).load(lastGoodFile)
			if err != nil || record.Revision != p.Load().ID {
				rt.Fatalf("last good is %s, in force %s, %v", record.Revision, p.Load().ID, err)
			}
		}
		check()
		// Fewer steps than Repeat would take: they write to the disk.
		names := slices.Sorted(maps.Keys(actions))
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			actions[rapid.SampledFrom(names).Draw(rt, "action")](rt)
			check()
		}
	})
}
