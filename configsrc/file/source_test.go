package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/hotsvc/svc/configsrc"
)

// soon is how long a call may take on a busy machine.
const soon = 5 * time.Second

// newEventSource makes a source whose calls only events can wake.
func newEventSource(tb testing.TB, path string) *Source {
	tb.Helper()
	s := newSource(tb, path, Options{Poll: time.Hour, Backstop: time.Hour})
	s.sys.tick = 0
	return s
}

func newSource(tb testing.TB, path string, o Options) *Source {
	tb.Helper()
	s, err := New(path, o)
	must(tb, err)
	return s
}

// pending is a Next that runs.
type pending struct {
	t   testing.TB
	src *Source
	*outcome
}

// outcome is that of one call, once done is closed.
type outcome struct {
	done chan struct{}
	snap configsrc.Snapshot
	err  error
}

func start(tb testing.TB, s *Source, after configsrc.Version) *pending {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	o := &outcome{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.snap, o.err = s.Next(ctx, after)
	}()
	tb.Cleanup(func() {
		cancel()
		<-o.done
	})
	return &pending{tb, s, o}
}

func (p *pending) blocks(d time.Duration) {
	p.t.Helper()
	select {
	case <-p.done:
		p.t.Fatalf("Next must block, and returned %v, %v", p.snap.Values.Keys(), p.err)
	case <-time.After(d):
	}
}

// until waits for an outcome. Most edits are several steps, and a state between
// two of them may be seen: the calls after it go on from there, as the caller of
// a source does.
func (p *pending) until(what string, done func(err *configsrc.Error) bool) {
	p.t.Helper()
	for end := time.After(soon); ; {
		select {
		case <-p.done:
		case <-end:
			p.t.Fatalf("Next did not return %s within %v", what, soon)
		}
		after := p.snap.Version
		var e *configsrc.Error
		if p.err != nil {
			if !errors.As(p.err, &e) {
				p.t.Fatalf("want %s, got %v", what, p.err)
			}
			after = e.Version
		}
		switch {
		case done(e):
			return
		case after.IsZero():
			p.t.Fatalf("want %s, got %v", what, p.err)
		}
		p.outcome = start(p.t, p.src, after).outcome
	}
}

// value waits for a content by its key "a" and returns its version.
func (p *pending) value(want string) configsrc.Version {
	p.t.Helper()
	p.until("a="+want, func(err *configsrc.Error) bool {
		return err == nil && fmt.Sprint(p.snap.Values["a"].Raw) == want
	})
	return p.snap.Version
}

// fails waits for an error of that kind and returns its version.
func (p *pending) fails(kind error) (v configsrc.Version) {
	p.t.Helper()
	p.until(fmt.Sprintf("the error %v", kind), func(err *configsrc.Error) bool {
		if err == nil || err.Kind != kind { //nolint:errorlint // Kind is a sentinel
			return false
		}
		v = err.Version
		return true
	})
	return v
}

func write(tb testing.TB, path, data string) {
	tb.Helper()
	must(tb, os.WriteFile(path, []byte(data), 0o600))
}

func doc(v string) string { return `{"a": "` + v + `"}` }

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path string
		o    Options
		want string
	}{
		"no extension":      {"config", Options{}, "known are .yaml, .yml, .json, .toml and .properties"},
		"unknown extension": {"config.ini", Options{}, `extension ".ini" is not known`},
		"editor's backup":   {"config.yaml~", Options{}, `extension ".yaml~" is not known`},
		"no path":           {"", Options{}, "empty"},
		"negative interval": {"config.yaml", Options{Poll: -1}, "negative"},
		"negative backstop": {"config.yaml", Options{Backstop: -1}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := New(c.path, c.o)
			if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v; want an error with %q", s, err, c.want)
			}
		})
	}
}

func TestSnapshotDescribesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, doc("1"))
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	must(t, os.Chtimes(path, at, at))
	s := newSource(t, path, Options{Name: "base"})
	before := time.Now()
	p := start(t, s, configsrc.Version{})
	v := p.value("1")
	snap := p.snap
	if snap.Label != "2024-05-06T07:08:09Z" {
		t.Errorf("Label %q, want the modification time", snap.Label)
	}
	if snap.Notified.Before(before) || snap.Fetched.Before(snap.Notified) {
		t.Errorf("Notified %v, Fetched %v, called at %v", snap.Notified, snap.Fetched, before)
	}
	if o := snap.Values["a"].Origin; o.Source != "base" || o.Name != path {
		t.Errorf("Origin %+v", o)
	}
	p = start(t, s, v)
	p.blocks(50 * time.Millisecond)
	edited := time.Now()
	write(t, path, doc("2"))
	p.value("2")
	if p.snap.Notified.Before(edited) {
		t.Errorf("Notified %v is before the edit at %v", p.snap.Notified, edited)
	}
}

// TestEvents are the ways in which files change. Only events can wake a call
// here, so each step shows that its events are watched.
func TestEvents(t *testing.T) {
	t.Parallel()
	type steps struct {
		t    *testing.T
		dir  string
		path string // dir/config.yaml
		at   configsrc.Version
		src  *Source
	}
	// expect runs edit under a call that blocks.
	expect := func(s *steps, want string, edit func()) {
		s.t.Helper()
		p := start(s.t, s.src, s.at)
		p.blocks(50 * time.Millisecond)
		edit()
		s.at = p.value(want)
	}
	expectError := func(s *steps, kind error, edit func()) {
		s.t.Helper()
		p := start(s.t, s.src, s.at)
		p.blocks(50 * time.Millisecond)
		edit()
		s.at = p.fails(kind)
		if s.at.IsZero() {
			s.t.Fatal("the error has no Version")
		}
		start(s.t, s.src, s.at).blocks(50 * time.Millisecond)
	}
	link := func(t *testing.T, target, at string) {
		t.Helper()
		must(t, os.Symlink(target, at+".new"))
		must(t, os.Rename(at+".new", at))
	}
	for name, run := range map[string]func(s *steps){
		"write in place": func(s *steps) {
			for i := range 5 {
				v := fmt.Sprint("in place ", i)
				expect(s, v, func() { write(s.t, s.path, doc(v)) })
			}
		},
		"equal length in one tick": func(s *steps) {
			for i := range 9 {
				v := fmt.Sprint(i + 1)
				expect(s, v, func() { write(s.t, s.path, doc(v)) })
			}
		},
		"rename over": func(s *steps) {
			for i := range 5 {
				v := fmt.Sprint("renamed ", i)
				expect(s, v, func() { replaceFile(s.t, s.path, []byte(doc(v)), 0o600) })
			}
		},
		"vim": func(s *steps) {
			for i := range 3 {
				v := fmt.Sprint("vim ", i)
				expect(s, v, func() {
					write(s.t, filepath.Join(s.dir, "4913"), "")
					must(s.t, os.Remove(filepath.Join(s.dir, "4913")))
					write(s.t, filepath.Join(s.dir, ".config.yaml.swp"), "b0VIM")
					must(s.t, os.Rename(s.path, s.path+"~"))
					write(s.t, s.path, doc(v))
					must(s.t, os.Remove(s.path+"~"))
				})
			}
		},
		"old file kept under another name": func(s *steps) {
			must(s.t, os.Link(s.path, s.path+".1"))
			expect(s, "new", func() { replaceFile(s.t, s.path, []byte(doc("new")), 0o600) })
			expect(s, "newer", func() { write(s.t, s.path, doc("newer")) })
		},
		"delete and create again": func(s *steps) {
			expectError(s, configsrc.ErrNotFound, func() { must(s.t, os.Remove(s.path)) })
			expect(s, "0", func() { replaceFile(s.t, s.path, []byte(doc("0")), 0o600) })
		},
		"directory removed and back": func(s *steps) {
			expectError(s, configsrc.ErrNotFound, func() { must(s.t, os.RemoveAll(s.dir)) })
			expect(s, "back", func() {
				must(s.t, os.Mkdir(s.dir+".new", 0o700))
				write(s.t, filepath.Join(s.dir+".new", "config.yaml"), doc("back"))
				must(s.t, os.Rename(s.dir+".new", s.dir))
			})
			expect(s, "and followed", func() { write(s.t, s.path, doc("and followed")) })
		},
		"directory replaced": func(s *steps) {
			must(s.t, os.Mkdir(s.dir+".new", 0o700))
			write(s.t, filepath.Join(s.dir+".new", "config.yaml"), doc("other"))
			expect(s, "other", func() {
				must(s.t, os.Rename(s.dir, s.dir+".old"))
				must(s.t, os.Rename(s.dir+".new", s.dir))
			})
			expect(s, "and followed", func() { write(s.t, s.path, doc("and followed")) })
		},
		"Kubernetes volume": func(s *steps) {
			version := func(n int, v string) {
				data := filepath.Join(s.dir, fmt.Sprintf("..%d", n))
				must(s.t, os.Mkdir(data, 0o700))
				write(s.t, filepath.Join(data, "config.yaml"), doc(v))
				link(s.t, filepath.Base(data), filepath.Join(s.dir, "..data"))
			}
			must(s.t, os.Remove(s.path))
			version(0, "0")
			must(s.t, os.Symlink(filepath.Join("..data", "config.yaml"), s.path))
			for n := range 4 {
				v := fmt.Sprint("swap ", n)
				expect(s, v, func() { version(n+1, v) })
				must(s.t, os.RemoveAll(filepath.Join(s.dir, fmt.Sprintf("..%d", n))))
				start(s.t, s.src, s.at).blocks(50 * time.Millisecond)
			}
		},
		"link to another directory": func(s *steps) {
			far := s.t.TempDir()
			write(s.t, filepath.Join(far, "one"), doc("one"))
			write(s.t, filepath.Join(far, "two"), doc("two"))
			expect(s, "one", func() { link(s.t, filepath.Join(far, "one"), s.path) })
			expect(s, "uno", func() { write(s.t, filepath.Join(far, "one"), doc("uno")) })
			expect(s, "eins", func() { replaceFile(s.t, filepath.Join(far, "one"), []byte(doc("eins")), 0o600) })
			expect(s, "two", func() { link(s.t, filepath.Join(far, "two"), s.path) })
			// What the link led to before is no longer of interest.
			p := start(s.t, s.src, s.at)
			write(s.t, filepath.Join(far, "one"), doc("un"))
			p.blocks(100 * time.Millisecond)
		},
		"broken link": func(s *steps) {
			far := s.t.TempDir()
			expectError(s, configsrc.ErrNotFound, func() { link(s.t, filepath.Join(far, "not-yet"), s.path) })
			expect(s, "now", func() { write(s.t, filepath.Join(far, "not-yet"), doc("now")) })
		},
		"loop of links": func(s *steps) {
			must(s.t, os.Symlink("config.yaml", filepath.Join(s.dir, "other")))
			expectError(s, configsrc.ErrInvalid, func() { link(s.t, "other", s.path) })
			expect(s, "no loop", func() { replaceFile(s.t, s.path, []byte(doc("no loop")), 0o600) })
		},
		"directory at the path": func(s *steps) {
			expectError(s, configsrc.ErrInvalid, func() {
				must(s.t, os.Remove(s.path))
				must(s.t, os.MkdirAll(filepath.Join(s.path, "sub"), 0o700))
			})
			expect(s, "a file", func() {
				must(s.t, os.RemoveAll(s.path))
				replaceFile(s.t, s.path, []byte(doc("a file")), 0o600)
			})
		},
		"too large": func(s *steps) {
			expectError(s, configsrc.ErrInvalid, func() { must(s.t, os.Truncate(s.path, 100<<20)) })
			start(s.t, s.src, s.at).blocks(100 * time.Millisecond)
			expect(s, "small", func() { replaceFile(s.t, s.path, []byte(doc("small")), 0o600) })
		},
		"binary": func(s *steps) {
			expectError(s, configsrc.ErrInvalid, func() {
				replaceFile(s.t, s.path, []byte("\x7fELF\x00\x01\x02"), 0o600)
			})
		},
		"truncate and write in two steps": func(s *steps) {
			p := start(s.t, s.src, s.at)
			p.blocks(50 * time.Millisecond)
			f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_TRUNC, 0)
			must(s.t, err)
			defer f.Close() //nolint:errcheck // checked below by what is read
			s.at = p.fails(configsrc.ErrInvalid)
			expect(s, "whole", func() {
				_, err := f.WriteString(doc("whole"))
				must(s.t, err)
			})
		},
		"other files beside it": func(s *steps) {
			p := start(s.t, s.src, s.at)
			for _, name := range []string{"config.yaml~", ".config.yaml.swp", "4913", "config.yaml.bak"} {
				write(s.t, filepath.Join(s.dir, name), doc("not it"))
			}
			p.blocks(100 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "etc")
			must(t, os.Mkdir(dir, 0o700))
			s := &steps{t: t, dir: dir, path: filepath.Join(dir, "config.yaml")}
			write(t, s.path, doc("0"))
			s.src = newEventSource(t, s.path)
			s.at = start(t, s.src, configsrc.Version{}).value("0")
			run(s)
		})
	}
}

// TestSwapUnderTheWatch: a link that is swapped while its watch is being set
// leads to a file that is followed all the same.
func TestSwapUnderTheWatch(t *testing.T) {
	t.Parallel()
	one, two, dir := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(one, "config.yaml"), doc("1"))
	write(t, filepath.Join(two, "config.yaml"), doc("1"))
	link := filepath.Join(dir, "current")
	must(t, os.Symlink(one, link))
	s := newEventSource(t, filepath.Join(link, "config.yaml"))
	v := start(t, s, configsrc.Version{}).value("1")
	var swap sync.Once
	s.sys.newWatcher = func() (*fsnotify.Watcher, error) {
		swap.Do(func() {
			must(t, os.Remove(link))
			must(t, os.Symlink(two, link))
		})
		return fsnotify.NewWatcher()
	}
	p := start(t, s, v)
	p.blocks(100 * time.Millisecond)
	write(t, filepath.Join(two, "config.yaml"), doc("2"))
	p.value("2")
}

// TestEqualTimes: two writes in one tick of the clock leave the same times and
// the same size, and the second is found all the same.
func TestEqualTimes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, doc("1"))
	at := time.Now()
	must(t, os.Chtimes(path, at, at))
	s := newSource(t, path, Options{Poll: time.Hour})
	// A system that tells nothing but size and modification time, and no events.
	s.sys.newWatcher = func() (*fsnotify.Watcher, error) { return nil, errors.New("none") }
	v := start(t, s, configsrc.Version{}).value("1")
	p := start(t, s, v)
	p.blocks(100 * time.Millisecond)
	write(t, path, doc("2"))
	must(t, os.Chtimes(path, at, at))
	began := time.Now()
	select {
	case <-p.done:
	case <-time.After(tick + soon):
		t.Fatalf("not found within %v", tick+soon)
	}
	if took := time.Since(began); took < tick/2 {
		t.Errorf("found after %v: something else than the second read has told", took)
	}
	p.value("2")
}

func TestPollsWithoutWatches(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(s *Source){
		"no more watches": func(s *Source) {
			s.sys.newWatcher = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many open files") }
		},
		"no events": func(s *Source) {
			s.sys.traits = func(string) traits { return traits{times: true} }
			s.sys.newWatcher = func() (*fsnotify.Watcher, error) { return &fsnotify.Watcher{}, errors.New("no events") }
		},
		"no times either": func(s *Source) {
			s.sys.traits = func(string) traits { return traits{} }
			s.sys.newWatcher = func() (*fsnotify.Watcher, error) { return nil, errors.New("no events") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			write(t, path, doc("1"))
			s := newSource(t, path, Options{Poll: 50 * time.Millisecond, Backstop: time.Hour})
			breaks(s)
			v := start(t, s, configsrc.Version{}).value("1")
			p := start(t, s, v)
			p.blocks(150 * time.Millisecond)
			write(t, path, doc("2"))
			v = p.value("2")
			must(t, os.Remove(path))
			start(t, s, v).fails(configsrc.ErrNotFound)
		})
	}
}

// TestTraitsDecide: with events the interval is the long one; a file system
// that has none gets the short one though a watch could be set.
func TestTraitsDecide(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, doc("1"))
	s := newSource(t, path, Options{})
	interval := func() time.Duration {
		w := s.watch()
		defer w.close()
		return w.interval
	}
	if got := interval(); got != 10*time.Second {
		t.Errorf("a local file is looked at every %v, want 10s", got)
	}
	s.sys.traits = func(string) traits { return traits{times: true} }
	if got := interval(); got != time.Second {
		t.Errorf("a file without events is looked at every %v, want 1s", got)
	}
	s.sys.traits = traitsOf
	s.sys.newWatcher = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many open files") }
	if got := interval(); got != time.Second {
		t.Errorf("a file without a watch is looked at every %v, want 1s", got)
	}
}

// TestBackstop: a change without an event is found by the look at the times,
// and an unchanged file is not read again.
func TestBackstop(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, doc("1"))
	s := newSource(t, path, Options{Backstop: 100 * time.Millisecond, Poll: time.Hour})
	var opens atomic.Int64
	s.sys.open = func(p string) (*os.File, error) {
		opens.Add(1)
		return os.Open(p)
	}
	s.sys.newWatcher = deafWatcher
	v := start(t, s, configsrc.Version{}).value("1")
	opens.Store(0)
	p := start(t, s, v)
	p.blocks(3 * time.Second)
	// One each 100 ms; in the first two seconds a look is a read.
	if n := opens.Load(); n < 10 || n > 32 {
		t.Errorf("%d looks in 3 s, want about 30", n)
	}
	write(t, path, doc("2"))
	p.value("2")
}

// deafWatcher sets watches and hears nothing.
func deafWatcher() (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err == nil {
		w.Events = make(chan fsnotify.Event)
	}
	return w, err
}

// TestHangingFileSystem: a call returns in time though the kernel does not, no
// second call gets stuck beside it, and all is well when the kernel returns.
func TestHangingFileSystem(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, doc("1"))
	s := newSource(t, path, Options{})
	dead, stuck := make(chan struct{}), atomic.Int64{}
	s.sys.open = func(p string) (*os.File, error) {
		stuck.Add(1)
		<-dead
		return os.Open(p)
	}
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		began := time.Now()
		_, err := s.Next(ctx, configsrc.Version{})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
			t.Fatalf("returned %v after %v", err, time.Since(began))
		}
	}
	if n := stuck.Load(); n != 1 {
		t.Errorf("%d calls are stuck in the kernel, want 1", n)
	}
	close(dead)
	start(t, s, configsrc.Version{}).value("1")
}

// touchy is a context that runs a func whenever it is asked whether it has
// ended: before each piece that is read.
type touchy struct {
	context.Context
	asked func()
}

func (c touchy) Err() error {
	c.asked()
	return c.Context.Err()
}

// TestChangesWhileItIsRead: a file that changes under the read is read again,
// and one that always does is an error that can be retried.
func TestChangesWhileItIsRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	s := newSource(t, path, Options{})
	// look reads a file that changes under each of its first reads.
	look := func(changes int) (st state, reads int) {
		write(t, path, doc("0"))
		asked := 0 // twice a read: for all of it, and for the end
		st = s.look(touchy{t.Context(), func() {
			if asked++; asked%2 == 1 && asked/2 < changes {
				write(t, path, doc(strings.Repeat("x", asked)))
			}
		}}, time.Now())
		return st, asked / 2
	}
	for changes := range rereads {
		st, reads := look(changes)
		if st.err != nil || reads != changes+1 {
			t.Errorf("%d changes: %d reads, %v; want one more than changes", changes, reads, st.err)
		}
		want := "0"
		if changes > 0 {
			want = strings.Repeat("x", 2*changes-1)
		}
		if got := st.snap.Values["a"].Raw; got != want {
			t.Errorf("%d changes: a is %v, want %s", changes, got, want)
		}
	}
	st, reads := look(100)
	if !errors.Is(st.err, errChanging) || st.err.Kind != nil || !st.version().IsZero() {
		t.Errorf("a file that always changes: %v", st.err)
	}
	if reads != rereads {
		t.Errorf("read %d times, want %d", reads, rereads)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("n", 300)+".yaml") // no file system takes it
	p := start(t, newSource(t, path, Options{}), configsrc.Version{})
	if v := p.fails(nil); !v.IsZero() {
		t.Error("an error that says nothing of the state has a Version")
	}
	if e, ok := errors.AsType[*configsrc.Error](p.err); !ok || e.Address != path || e.Backend != "file" {
		t.Errorf("got %+v", p.err)
	}
	below := filepath.Join(dir, "file")
	write(t, below, "")
	p = start(t, newSource(t, filepath.Join(below, "config.yaml"), Options{}), configsrc.Version{})
	p.fails(configsrc.ErrNotFound)
	if n := strings.Count(p.err.Error(), below); n != 1 {
		t.Errorf("the path is %d times in: %v", n, p.err)
	}
}

func TestRelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "config.yaml", doc("1"))
	s := newSource(t, "config.yaml", Options{})
	t.Chdir(t.TempDir())
	p := start(t, s, configsrc.Version{})
	p.value("1")
	if got := p.snap.Values["a"].Origin.Name; got != "config.yaml" {
		t.Errorf("the origin is %q, want the path as it was given", got)
	}
}
