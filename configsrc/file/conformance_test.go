package file

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/configsrc/configsrctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance runs the suite on real files, as a user that file modes mean
// something to.
func TestConformance(t *testing.T) {
	if os.Getuid() == 0 {
		rerunAsNobody(t, "^TestConformance$")
		return
	}
	configsrctest.Run(t, configsrctest.Harness{
		Backend: disk,
		// The first read, and a look each Options.Poll: a file that may not be
		// read may not be watched. Where it may, see TestBackstop.
		IdleRequests: 4,
		Idle:         3 * time.Second,
		Within:       2 * time.Second,
		Quiet:        500 * time.Millisecond,
		Resync:       4 * time.Second,
		Missing: map[string]string{
			"a call on a backend that hangs ends with its context":    "a file system call cannot be given up; TestHangingFileSystem",
			"a call in the middle of an answer ends with its context": "a file system call cannot be given up; TestHangingFileSystem",
			"an answer that is none is an error":                      "a file has no protocol",
			"a redirect is an error and nothing follows it":           "a file has no protocol",
			"no secret shows in an error, label or log":               "a file is read without credentials",
		},
	})
}

// disk is a directory for one file. The backend is the file system; only what
// a disk does of its own accord is put in between: errors, and no more watches.
func disk(t *testing.T) *configsrctest.Backend {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	var (
		mu     sync.Mutex
		opens  int
		down   bool
		failIn = -1
		mode   = fs.FileMode(0o644)
		last   []byte
		full   atomic.Bool
	)
	open := func(p string) (*os.File, error) {
		mu.Lock()
		defer mu.Unlock()
		opens++
		if failIn == 0 || down {
			failIn = -1
			return nil, &fs.PathError{Op: "open", Path: p, Err: errors.New("input/output error")}
		}
		if failIn > 0 {
			failIn--
		}
		return realSystem().open(p)
	}
	publish := func(data []byte) {
		mu.Lock()
		last = data
		m := mode
		mu.Unlock()
		replaceFile(t, path, data, m)
	}
	set := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}
	chmod := func(m fs.FileMode) {
		set(func() { mode = m })
		must(t, os.Chmod(path, m))
	}
	encode := func(content any) []byte {
		data, err := json.Marshal(content) // JSON is YAML
		must(t, err)
		return data
	}
	return &configsrctest.Backend{
		New: func() (configsrc.Source, error) {
			s, err := New(path, Options{})
			if err != nil {
				return nil, err
			}
			s.sys.open = open
			s.sys.newWatcher = func() (*fsnotify.Watcher, error) {
				if full.Load() {
					return nil, errors.New("no more watches")
				}
				return fsnotify.NewWatcher()
			}
			return s, nil
		},
		Publish:      func(content map[string]string) { publish(encode(content)) },
		PublishTree:  func(content map[string]any) { publish(encode(content)) },
		PublishEmpty: func() { publish([]byte("{}")) },
		Delete:       func() { must(t, os.Remove(path)) },
		Touch:        func() { publish(last) },
		Break:        func(text string) { publish([]byte("{broken: [" + text)) },
		Deny:         func() { chmod(0) },
		Allow:        func() { chmod(0o644) },
		Down:         func() { set(func() { down = true }) },
		Up:           func() { set(func() { down = false }) },
		Fail:         func(skip int) { set(func() { failIn = skip }) },
		LoseSignals:  func() { full.Store(true) },
		Rewind: func(content map[string]string) {
			// As from a backup: older than what was there.
			temp := path + ".restored"
			must(t, os.WriteFile(temp, encode(content), 0o600))
			old := time.Now().Add(-24 * time.Hour)
			must(t, os.Chtimes(temp, old, old))
			must(t, os.Rename(temp, path))
		},
		Requests: func() int {
			mu.Lock()
			defer mu.Unlock()
			return opens
		},
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// replaceFile writes beside the path and renames over it.
func replaceFile(tb testing.TB, path string, data []byte, mode fs.FileMode) {
	tb.Helper()
	temp := path + "~"
	must(tb, os.WriteFile(temp, data, 0o600))
	must(tb, os.Chmod(temp, mode))
	must(tb, os.Rename(temp, path))
}
