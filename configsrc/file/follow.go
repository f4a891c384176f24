package file

import (
	"context"
	"slices"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

const (
	// tick is how long two writes may leave the same times: the coarsest file
	// system clock in use, FAT's.
	tick = 2 * time.Second
	// breath is the least time between two looks in one call.
	breath = 10 * time.Millisecond
)

// follow is Next, without the guard against a file system that hangs.
func (s *Source) follow(ctx context.Context, after configsrc.Version) state {
	notified := time.Now()
	if after.IsZero() {
		return s.look(ctx, notified)
	}
	w := s.watch() // before the read: what changes from here on wakes
	defer func() { w.close() }()
	var seen sight
	var since time.Time // seen was seen first
	for {
		started := time.Now()
		st := s.look(ctx, notified)
		if ctx.Err() != nil || st.version().IsZero() || st.version().Content != after.Content {
			return st
		}
		if st.sight != seen || since.IsZero() {
			seen, since = st.sight, started
		}
		if w.stale.Load() || !slices.Equal(w.trail.names, s.trail().names) {
			// What the path means has changed, perhaps while the watch was being
			// set; what the read saw went before the new one.
			w.close()
			w = s.watch()
			notified = time.Now()
		} else {
			// A read that began after the clock had ticked cannot have missed a
			// write that left the same times. Going by our own clock alone, a
			// server's clock that is wrong does not matter.
			settled := time.Time{}
			if w.times && started.Sub(since) < s.sys.tick {
				settled = since.Add(s.sys.tick)
			}
			notified = s.await(ctx, w, seen, settled)
		}
		if ctx.Err() != nil || !pause(ctx, breath-time.Since(started)) {
			return state{}
		}
	}
}

// await blocks until the file should be read again, and returns when that
// became known; or until ctx ends. A non-zero settled is the time from which
// one more read is due, and until which equal times prove nothing.
func (s *Source) await(ctx context.Context, w *watch, seen sight, settled time.Time) time.Time {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := w.interval
		if !settled.IsZero() {
			next = min(next, max(time.Until(settled), 0))
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return time.Time{}
		case <-timer.C:
		case <-w.woken:
		}
		now := time.Now()
		if !w.times || !settled.IsZero() || w.stale.Load() || s.glance() != seen {
			return now
		}
		if !pause(ctx, breath) {
			return time.Time{}
		}
	}
}
