package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/hotsvc/svc/configsrc"
)

// TestWatcherWithAnErrorToTell: a watcher that has an error to hand out holds
// up neither the watches that are set after it nor the end of the call.
func TestWatcherWithAnErrorToTell(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, doc("1"))
	gone := filepath.Join(t.TempDir(), "gone")
	s := newSource(t, path, Options{})
	s.sys.newWatcher = func() (*fsnotify.Watcher, error) {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return nil, err
		}
		must(t, os.Mkdir(gone, 0o700))
		must(t, w.Add(gone))
		// The watcher learns of the rename when the kernel has dropped the watch.
		must(t, os.Rename(gone, gone+".old"))
		must(t, os.Remove(gone+".old"))
		time.Sleep(20 * time.Millisecond)
		return w, nil
	}
	v := start(t, s, configsrc.Version{}).value("1")
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := s.Next(ctx, v)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Next must block, and returned %v", err)
		}
		// What holds the turn is still at work.
		ctx, cancel = context.WithTimeout(t.Context(), soon)
		snap, err := s.Next(ctx, configsrc.Version{})
		cancel()
		if err != nil || snap.Version != v {
			t.Fatalf("the call after one that was given up: %v", err)
		}
	}
}

// TestDirectorySwaps: the file's directory is moved away, made again and filled,
// over and over, under calls that go on and calls that are given up.
func TestDirectorySwaps(t *testing.T) {
	t.Parallel()
	for files := 1; files <= 2; files++ {
		t.Run(fmt.Sprint(files, " files"), func(t *testing.T) {
			t.Parallel()
			conf := filepath.Join(t.TempDir(), "conf")
			must(t, os.Mkdir(conf, 0o700))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			const swaps = 1000
			last := fmt.Sprint("swap ", swaps)
			var followers sync.WaitGroup
			defer followers.Wait()
			var paths []string
			for i := range files {
				path := filepath.Join(conf, fmt.Sprint("config", i, ".yaml"))
				paths = append(paths, path)
				write(t, path, doc("0"))
				for _, patience := range []time.Duration{time.Hour, 30 * time.Millisecond} {
					s := newSource(t, path, Options{Backstop: time.Hour})
					followers.Go(func() {
						if err := followTo(ctx, s, last, patience); err != nil {
							t.Errorf("%s, calls of %v at most: %v", path, patience, err)
						}
					})
				}
			}
			for n := 1; n <= swaps; n++ {
				must(t, os.Rename(conf, conf+".old"))
				must(t, os.Mkdir(conf, 0o700))
				for _, path := range paths {
					write(t, path, doc(fmt.Sprint("swap ", n)))
				}
				must(t, os.RemoveAll(conf+".old"))
				if n%4 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			time.AfterFunc(soon, cancel)
		})
	}
}

// followTo calls Next until it returns a content with the value want at "a", and
// gives each call up after some time.
func followTo(ctx context.Context, s *Source, want string, patience time.Duration) error {
	var after configsrc.Version
	seen := 0
	for {
		call, cancel := context.WithTimeout(ctx, patience)
		snap, err := s.Next(call, after)
		cancel()
		e, isError := errors.AsType[*configsrc.Error](err)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("not at the last content after %d others: %w", seen, ctx.Err())
		case errors.Is(err, context.DeadlineExceeded):
		case isError:
			seen++
			after = e.Version
		case err != nil:
			return err
		case snap.Values["a"].Raw == want:
			return nil
		default:
			seen++
			after = snap.Version
		}
	}
}
