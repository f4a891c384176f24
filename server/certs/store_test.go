package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// disk is a fake file system with a fake watch, for the virtual clock. Files are
// known by the last element of their path.
type disk struct {
	mu       sync.Mutex
	files    map[string]string
	hang     chan struct{} // reads wait until it is closed; nil: they do not
	reads    int
	watched  []string
	watchErr error

	events chan struct{}
	closed bool
}

func newDisk(c Config) *disk {
	d := &disk{files: map[string]string{}, events: make(chan struct{}, 1)}
	d.put(c)
	return d
}

// put replaces the files, without an event; an empty part removes its file.
func (d *disk) put(c Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, text := range map[string]string{"cert": c.Cert, "key": string(c.Key), "client_ca": c.ClientCA} {
		if text == "" {
			delete(d.files, name)
		} else {
			d.files[name] = text
		}
	}
}

// change is put with an event.
func (d *disk) change(c Config) {
	d.put(c)
	d.event()
}

func (d *disk) event() {
	select {
	case d.events <- struct{}{}:
	default:
	}
}

func (d *disk) system() system {
	return system{
		readFile: func(path string) ([]byte, error) {
			d.mu.Lock()
			text, ok := d.files[filepath.Base(path)]
			hang := d.hang
			d.reads++
			d.mu.Unlock()
			if hang != nil {
				<-hang
			}
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return []byte(text), nil
		},
		notify: func() (notifier, error) {
			if d.watchErr != nil {
				return notifier{}, d.watchErr
			}
			return notifier{
				follow: func(names []string) error {
					d.watched = names
					return nil
				},
				woken: d.events,
				close: func() { d.closed = true },
			}, nil
		},
	}
}

// onDisk names the files of a disk; client_ca only where clients need one.
func onDisk(mutual bool) Config {
	c := Config{Cert: "file:cert", Key: "file:key"}
	if mutual {
		c.ClientCA = "file:client_ca"
	}
	return c
}

// follow opens a store on the disk, until the test ends.
func (d *disk) follow(tb testing.TB, o Options) *Store {
	tb.Helper()
	s, err := open(tb.Context(), onDisk(o.Mutual), o, d.system())
	must(tb, err)
	tb.Cleanup(func() { must(tb, s.Close()) })
	return s
}

func wantSubject(tb testing.TB, s *Store, want string) {
	tb.Helper()
	if got := s.Load().Subject(); got != "CN="+want {
		tb.Errorf("in force is %s, want %s", got, want)
	}
}

const (
	logSwap    = "certificate files changed and are in force"
	logRefused = "certificate files are not used"
	logGood    = "certificate files are good again"
	logSoon    = "certificate expires soon"
	logExpired = "certificate has expired"
)

func TestWarningsOfTheEnd(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		lives := func(d time.Duration) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now(), time.Now().Add(d) }
		}
		var log journal
		// Inline: there is nothing to follow but the clock.
		s, err := Open(t.Context(), ca.config("long", lives(100*day)), Options{Logger: log.logger()})
		must(t, err)
		defer s.Close() //nolint:errcheck // it is closed below
		time.Sleep(70*day - time.Minute)
		log.want(t, 0, logSoon)
		time.Sleep(2 * time.Minute)
		log.want(t, 1, logSoon)
		time.Sleep(29 * day) // one more each day
		log.want(t, 30, logSoon)
		log.want(t, 0, logExpired)
		time.Sleep(day) // a minute past the end
		log.want(t, 1, logExpired)
		time.Sleep(2 * day)
		log.want(t, 3, logExpired)
		log.want(t, len(log.lines("")), `subject="CN=long"`)
		must(t, s.Close())
		time.Sleep(5 * day)
		log.want(t, 3, logExpired)

		// A third of a short life; at Open; at a swap.
		log = journal{}
		d := newDisk(ca.config("short", lives(9*time.Hour)))
		followed := d.follow(t, Options{Logger: log.logger()})
		time.Sleep(6*time.Hour - time.Minute)
		log.want(t, 0, logSoon)
		time.Sleep(2 * time.Minute)
		log.want(t, 1, logSoon)
		d.change(ca.config("next", lives(time.Hour)))
		time.Sleep(time.Minute)
		wantSubject(t, followed, "next")
		log.want(t, 1, logSoon)
		time.Sleep(45 * time.Minute)
		log.want(t, 2, logSoon)
		log.want(t, 1, `"certificate expires soon" subject="CN=next"`)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		d := newDisk(ca.config("one"))
		// The end of the context that opened it is not the end of the store.
		ctx, cancel := context.WithCancel(t.Context())
		s, err := open(ctx, onDisk(false), Options{}, d.system())
		must(t, err)
		cancel()
		d.change(ca.config("two"))
		time.Sleep(time.Second)
		wantSubject(t, s, "two")
		if want := []string{"cert", "key"}; !slices.EqualFunc(d.watched, want, func(a, b string) bool { return filepath.Base(a) == b }) {
			t.Errorf("watched are %q, want %q", d.watched, want)
		}
		must(t, s.Close())
		if !d.closed {
			t.Error("the watch was not closed")
		}
		must(t, s.Close())
		d.change(ca.config("three"))
		time.Sleep(time.Hour)
		wantSubject(t, s, "two")
	})
}

// A file system that hangs holds up neither Open nor Close for ever.
func TestHangingFileSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		d := newDisk(ca.config("one"))
		s, err := open(t.Context(), onDisk(false), Options{}, d.system())
		must(t, err)
		time.Sleep(time.Second)
		d.mu.Lock()
		d.hang = make(chan struct{})
		d.mu.Unlock()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := open(ctx, onDisk(false), Options{}, d.system()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open: %v, want the end of its time", err)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "does not answer") || time.Since(began) != closeGrace {
			t.Errorf("Close: %v after %v", err, time.Since(began))
		}
		wantSubject(t, s, "one")
		close(d.hang)
		must(t, s.Close())
	})
}
