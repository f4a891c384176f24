package certs

import (
	"context"
	"time"
)

const (
	// settle is the time between two reads that must see the same, and the least
	// time between any two reads.
	settle = 100 * time.Millisecond
	// reread is the time between two reads where no event comes.
	reread = 30 * time.Second
	// patience is how long files may be no good without a warning: a certificate
	// and its key are replaced one after the other.
	patience = 3 * time.Second
)

// run follows the files, where there are any, and the end of the certificate,
// until ctx ends. expiry is the time until the next look at that.
func (s *Store) run(ctx context.Context, loaded set, expiry time.Duration) {
	end := time.NewTimer(expiry)
	defer end.Stop()
	// The first read is at once: what changed since Open was not watched.
	read := time.NewTimer(0)
	defer read.Stop()
	f := follower{store: s, inForce: loaded, paths: loaded.paths()}
	if len(f.paths) == 0 {
		read.Stop()
	} else {
		f.notice = s.notifier()
		defer f.notice.close()
	}
	due := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			end.Reset(s.warnOfEnd())
		case <-f.notice.woken:
			if time.Until(due) > settle {
				due = time.Now().Add(settle)
				read.Reset(settle)
			}
		case <-read.C:
			wait, swapped := f.look(ctx)
			if swapped {
				end.Reset(s.warnOfEnd())
			}
			due = time.Now().Add(wait)
			read.Reset(wait)
		}
	}
}

// notifier is that of the system, or none, with a warning: the rereads remain.
func (s *Store) notifier() notifier {
	n, err := s.sys.notify()
	if err != nil {
		s.log.Warn("changes of certificate files are noticed up to 30 seconds late: they cannot be watched", "error", err)
		return notifier{follow: func([]string) error { return nil }, close: func() {}}
	}
	return n
}

// follower is what run remembers between two reads.
type follower struct {
	store   *Store
	paths   []string
	notice  notifier
	inForce set // what the material in force was made of
	last    set // the read before, where it was of something else

	pause  time.Duration // before the next try, while the files are no good
	since  time.Time     // when they began to be
	warned string        // what was said about them
	blind  bool          // a failing watch was warned of
}

// look reads the files and brings what is in them into force where it is good.
// It returns the time until the next look.
func (f *follower) look(ctx context.Context) (wait time.Duration, swapped bool) {
	s := f.store
	// Before the read: what changes after it wakes.
	if err := f.notice.follow(places(f.paths)); err != nil && !f.blind {
		f.blind = true
		s.log.Warn("changes of certificate files may be noticed up to 30 seconds late: a watch failed", "error", err)
	} else if err == nil {
		f.blind = false
	}
	read, err := s.read(ctx, f.inForce)
	switch {
	case ctx.Err() != nil:
		return reread, false
	case err != nil:
		f.last = set{}
		return f.refuse(err), false
	case read.equal(&f.inForce):
		f.last = set{}
		f.accept()
		return reread, false
	case !read.equal(&f.last):
		f.last = read
		return settle, false
	}
	// An outdated certificate takes the place of an outdated one only.
	valid := s.Load().outdated(time.Now()) == ""
	m, err := s.check(read, valid)
	if err != nil {
		return f.refuse(err), false
	}
	changed := read.differ(&f.inForce)
	f.inForce, f.last = read, set{}
	f.accept()
	s.current.Store(m)
	s.log.Info("certificate files changed and are in force", "changed", changed, "subject", m.Subject(), "not_after", stamp(m.NotAfter()))
	return reread, true
}

// refuse keeps what is in force, and returns when to try again. A problem is
// warned of once, when the files have been no good for a while.
func (f *follower) refuse(err error) time.Duration {
	now := time.Now()
	if f.since.IsZero() {
		f.since, f.pause = now, settle
	}
	if text := err.Error(); now.Sub(f.since) >= patience && text != f.warned {
		f.warned = text
		f.store.log.Warn("certificate files are not used: what was in force stays", "error", err)
	}
	wait := f.pause
	f.pause = min(2*wait, reread)
	return wait
}

// accept notes that the files are good.
func (f *follower) accept() {
	if f.warned != "" {
		f.store.log.Info("certificate files are good again")
	}
	f.since, f.warned = time.Time{}, ""
}
