package certs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
)

// maxLinks is where Linux gives up as well.
const maxLinks = 40

// system is the part of the operating system that tests replace.
type system struct {
	readFile func(path string) ([]byte, error)
	notify   func() (notifier, error)
}

func realSystem() system { return system{readFile: readFile, notify: newNotifier} }

// readFile reads a regular file and nothing else, so that a named pipe does not
// hold it up; of a file that is too large, one byte more than is allowed. Its
// errors are *fs.PathError, its data is never nil.
func readFile(path string) ([]byte, error) {
	// The look before keeps a pipe's writer from noticing.
	if err := regular(os.Stat(path)); err != nil {
		return nil, pathError(path, err)
	}
	file, err := os.Open(path) //nolint:gosec // the path is what the user configured
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	if err := regular(file.Stat()); err != nil {
		return nil, pathError(path, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, pathError(path, err)
	}
	return data, nil
}

func regular(info fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("is a directory, not a regular file")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	}
	return nil
}

// pathError makes err a *fs.PathError where it is none.
func pathError(path string, err error) error {
	if errors.As(err, new(*fs.PathError)) {
		return err
	}
	return &fs.PathError{Op: "read", Path: path, Err: err}
}

// places are the names that decide what the paths lead to: each symbolic link on
// the way, and the file at its end.
func places(paths []string) []string {
	var names []string
	for _, path := range paths {
		for range maxLinks {
			// The outermost link: what is before it is no link, so ".." in its
			// target means what it says.
			link, target := "", ""
			for p := path; p != filepath.Dir(p); p = filepath.Dir(p) {
				if t, err := os.Readlink(p); err == nil {
					link, target = p, t
				}
			}
			if link == "" {
				break
			}
			names = append(names, link)
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(link), target)
			}
			path = filepath.Join(target, path[len(link):])
		}
		names = append(names, path)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// notifier tells of changes in directories.
type notifier struct {
	// follow makes names those that wake, and its error says which of their
	// directories could not be watched.
	follow func(names []string) error
	woken  <-chan struct{} // holds one
	close  func()          // waits until nothing is left of it
}

func newNotifier() (notifier, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return notifier{}, err
	}
	var names atomic.Pointer[[]string]
	woken, ended := make(chan struct{}, 1), make(chan struct{})
	// It runs before the first Add, and until the watcher has closed both channels:
	// a watcher waits for whoever takes its events, and Add may wait for the watcher.
	go func() {
		defer close(ended)
		events, errs := watcher.Events, watcher.Errors
		for events != nil || errs != nil {
			select {
			case event, open := <-events:
				if !open {
					events = nil
					continue
				}
				// Some file systems ignore case.
				if n := names.Load(); n == nil || !slices.ContainsFunc(*n, func(name string) bool {
					return strings.EqualFold(name, event.Name)
				}) {
					continue
				}
			case _, open := <-errs:
				if !open {
					errs = nil
					continue
				}
				// Events were lost: any file may have changed.
			}
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	}()
	return notifier{
		follow: func(now []string) error {
			names.Store(&now)
			return watchDirs(watcher, now)
		},
		woken: woken,
		close: func() {
			_ = watcher.Close()
			<-ended
		},
	}, nil
}

// watchDirs makes the directories of names those that are watched. It adds all of
// them each time: a directory may have been replaced by another of its name.
func watchDirs(watcher *fsnotify.Watcher, names []string) error {
	var dirs []string
	for _, name := range names {
		if dir := filepath.Dir(name); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range watcher.WatchList() {
		if !slices.Contains(dirs, dir) {
			_ = watcher.Remove(dir) // or it is gone already
		}
	}
	var errs []error
	for _, dir := range dirs {
		if err := watcher.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, &fs.PathError{Op: "watch", Path: dir, Err: err})
		}
	}
	return errors.Join(errs...)
}
