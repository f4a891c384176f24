package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxLinks is where Linux gives up as well.
const maxLinks = 40

// system is the part of the operating system that tests replace.
type system struct {
	open       func(path string) (*os.File, error)
	newWatcher func() (*fsnotify.Watcher, error)
	traits     func(path string) traits
	tick       time.Duration // the constant of that name
}

func realSystem() system {
	return system{
		open: func(path string) (*os.File, error) {
			return os.OpenFile(path, os.O_RDONLY|openFlags, 0) //nolint:gosec // the path is what the user configured
		},
		newWatcher: fsnotify.NewWatcher,
		traits:     traitsOf,
		tick:       tick,
	}
}

// traits is what a file system can be relied on for.
type traits struct {
	events bool // the kernel reports every change
	times  bool // a change shows in size, times or identity
}

// watch is what wakes a call.
type watch struct {
	watcher  *fsnotify.Watcher // nil where none can be had
	trail    trail
	interval time.Duration // between two looks; the short one if an event may be missed
	times    bool          // traits.times of all places

	stale atomic.Bool   // it may be set on what is no longer there
	woken chan struct{} // holds one
	over  chan struct{} // closed when the watcher is
	drain sync.WaitGroup
}

// watch sets up a watch on everything that decides what the path means.
func (s *Source) watch() *watch {
	t := s.trail()
	w := &watch{trail: t, interval: s.opts.Poll, times: true, woken: make(chan struct{}, 1), over: make(chan struct{})}
	complete := true
	for _, p := range t.places() {
		tr := s.sys.traits(p)
		complete = complete && tr.events
		w.times = w.times && tr.times
	}
	watcher, err := s.sys.newWatcher()
	if err != nil {
		return w
	}
	w.watcher = watcher
	// Before the first Add: the watcher keeps its lock while it hands out some
	// of its errors, and each Add, and Close, would wait for it.
	w.drain.Go(w.listen)
	for _, p := range t.places() {
		if err := watcher.Add(p); err != nil {
			complete = false
		}
	}
	if complete {
		w.interval = s.opts.Backstop
	}
	return w
}

// close takes the watch down and waits until nothing of it is left.
func (w *watch) close() {
	if w.watcher == nil {
		return
	}
	_ = w.watcher.Close()
	close(w.over)
	w.drain.Wait()
}

// listen takes what the watcher hands out, at once and all of it, and wakes the
// call for what concerns it.
func (w *watch) listen() {
	events, errs := w.watcher.Events, w.watcher.Errors
	for {
		select {
		case <-w.over:
			return
		case event, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if !w.concerns(event) {
				continue
			}
			// A watch is on what had the name when it was set.
			if event.Has(fsnotify.Create) || event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
				w.stale.Store(true)
			}
		case _, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			w.stale.Store(true) // events were dropped, or a watch was
		}
		select {
		case w.woken <- struct{}{}:
		default:
		}
	}
}

// concerns reports whether an event is about the trail. An editor's temporary
// files beside the file are not. Some file systems ignore case.
func (w *watch) concerns(e fsnotify.Event) bool {
	same := func(p string) bool { return strings.EqualFold(p, e.Name) }
	return slices.ContainsFunc(w.trail.names, same) || slices.ContainsFunc(w.trail.dirs, same)
}

// trail is the way from the path to the file: each link on it, and the end.
type trail struct {
	names []string // the links and the file, each without a link before it
	dirs  []string // the directories these are in
	file  string   // the last name, where it is a regular file
}

// places is what to watch: the directories, because a rename shows only there,
// and the file, because a file that is mounted alone shows only itself.
func (t trail) places() []string {
	if t.file == "" {
		return t.dirs
	}
	return append(slices.Clip(t.dirs), t.file)
}

func (t *trail) add(dir, name string) {
	t.names = append(t.names, name)
	if !slices.Contains(t.dirs, dir) {
		t.dirs = append(t.dirs, dir)
	}
}

// trail walks the path. Where it ends early (a name is missing, a loop), the
// last directory that is there is in it: that is where the rest will appear.
func (s *Source) trail() trail {
	var t trail
	split := func(p string) []string {
		return strings.Split(filepath.ToSlash(p), "/")
	}
	start := func(p string) (root string, rest []string) {
		root = filepath.VolumeName(p) + string(filepath.Separator)
		return root, split(p[len(filepath.VolumeName(p)):])
	}
	at, rest := start(s.path)
	links := 0
	for len(rest) > 0 {
		step := rest[0]
		rest = rest[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, step)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			t.add(at, next)
			return t
		case info.Mode()&os.ModeSymlink != 0:
			t.add(at, next)
			target, err := os.Readlink(next)
			links++
			if err != nil || links > maxLinks {
				return t
			}
			if filepath.IsAbs(target) {
				var more []string
				at, more = start(target)
				rest = append(more, rest...)
			} else {
				rest = append(split(target), rest...)
			}
		case len(rest) == 0:
			t.add(at, next)
			if info.Mode().IsRegular() {
				t.file = next
			}
		default:
			at = next
		}
	}
	return t
}
