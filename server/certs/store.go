package certs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// closeGrace is how long Close waits for a file system that does not answer.
const closeGrace = 5 * time.Second

// Options are the rules for the material of a [Store].
type Options struct {
	// Mutual: every client must have a certificate of one of the authorities in
	// ClientCA, which is required then. Without it, and with a ClientCA, a client
	// may come without a certificate, and one that it shows is verified.
	Mutual bool
	// AllowOutdated lets Open take a server certificate that has expired or is
	// not valid yet, with a warning. It is for a cold start, where serving an old
	// certificate beats not serving.
	AllowOutdated bool
	// Logger gets swaps, files that are no good, and certificates near their
	// end. nil: they are dropped.
	Logger *slog.Logger
}

// Store is the material of one config, followed where that names files. Its
// methods may be called from any goroutine.
type Store struct {
	current atomic.Pointer[Material]
	log     *slog.Logger
	mutual  bool
	sys     system
	cancel  context.CancelFunc
	ended   chan struct{} // closed when run has returned
}

// Open reads the files, checks everything, and returns a store that has its
// material in force. ctx bounds the reading only; the store is followed until
// Close.
//
// What is wrong with the content is a [*configsrc.InvalidError] with all
// problems, keyed cert, key and client_ca, each with its file. Where a file cannot
// be had (missing, not readable, a directory) the error is a [*fs.PathError] and not
// an InvalidError: the same config may work later.
//
// Open starts one goroutine, which Close ends.
func Open(ctx context.Context, c Config, o Options) (*Store, error) {
	return open(ctx, c, o, realSystem())
}

func open(ctx context.Context, c Config, o Options, sys system) (*Store, error) {
	if problems := c.Problems(o); problems != nil {
		return nil, &configsrc.InvalidError{Problems: problems}
	}
	named := newSet(c)
	for _, t := range named.texts() {
		if t.path == "" {
			continue
		}
		abs, err := filepath.Abs(t.path)
		if err != nil {
			return nil, fmt.Errorf("make the path of %s absolute: %w", t.key, err)
		}
		t.path = abs
	}
	s := &Store{log: o.Logger, mutual: o.Mutual, sys: sys, ended: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	loaded, err := s.firstRead(ctx, named)
	if err != nil {
		return nil, err
	}
	m, err := s.check(loaded, !o.AllowOutdated)
	if err != nil {
		return nil, err
	}
	s.current.Store(m)
	// The store outlives the call that opened it.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	next := s.warnOfEnd()
	go func() {
		defer close(s.ended)
		s.run(running, loaded, next)
	}()
	return s, nil
}

// Load is the material in force: one atomic load, never nil, also after Close.
func (s *Store) Load() *Material { return s.current.Load() }

// Close ends the following of files and waits until nothing of the store is
// left. It may be called more than once. The material stays what it was. The
// error, after 5 seconds, is that of a file system that does not answer.
func (s *Store) Close() error {
	s.cancel()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-s.ended:
		return nil
	case <-grace.C:
		return errors.New("close certificates: a file system does not answer")
	}
}

// firstRead reads the files, and leaves a read that hangs behind when ctx ends.
func (s *Store) firstRead(ctx context.Context, named set) (set, error) {
	type result struct {
		set set
		err error
	}
	done := make(chan result, 1)
	go func() {
		loaded, err := s.read(ctx, named)
		done <- result{loaded, err}
	}()
	select {
	case r := <-done:
		return r.set, r.err
	case <-ctx.Done():
		return set{}, fmt.Errorf("read certificates: %w", context.Cause(ctx))
	}
}

// read is named with what is in its files now.
func (s *Store) read(ctx context.Context, named set) (set, error) {
	for _, t := range named.texts() {
		if t.path == "" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return set{}, fmt.Errorf("read certificates: %w", err)
		}
		data, err := s.sys.readFile(t.path)
		if err != nil {
			return set{}, fmt.Errorf("read %s: %w", t.key, err)
		}
		t.pem = data
	}
	return named, nil
}

// check makes a material of what was read. mustBeValid refuses a certificate that
// is not valid now.
func (s *Store) check(loaded set, mustBeValid bool) (*Material, error) {
	m, problems := loaded.parse(s.mutual)
	if problems != nil {
		return nil, &configsrc.InvalidError{Problems: problems}
	}
	if reason := m.outdated(time.Now()); mustBeValid && reason != "" {
		return nil, &configsrc.InvalidError{Problems: []configsrc.Problem{loaded.cert.problem(reason)}}
	}
	return m, nil
}

// warnOfEnd says when the certificate in force is outdated, or soon will be, and
// returns when to look again: after a day, or where that is sooner, when it
// becomes due or expires.
func (s *Store) warnOfEnd() time.Duration {
	m, now := s.Load(), time.Now()
	attrs := []any{"subject", m.Subject(), "not_after", stamp(m.NotAfter())}
	wait := 24 * time.Hour
	switch soon := m.expiresSoon(); {
	case now.After(m.NotAfter()):
		s.log.Warn("certificate has expired: clients refuse it", attrs...)
	case now.Before(m.leaf.NotBefore):
		s.log.Warn("certificate is not valid yet: clients refuse it", append(attrs, "not_before", stamp(m.leaf.NotBefore))...)
	case !now.Before(soon):
		s.log.Warn("certificate expires soon", attrs...)
		// A second later, because it is still valid at that instant.
		wait = min(wait, m.NotAfter().Sub(now)+time.Second)
	default:
		wait = min(wait, soon.Sub(now))
	}
	return wait
}
