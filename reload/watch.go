package reload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// watcher follows one source: it calls Next in a loop, for ever, whatever
// becomes of the snapshots. One goroutine runs it.
type watcher struct {
	layer   Layer
	index   int
	updates chan<- update

	// after is the state seen last, a snapshot's or an error's. It is zero after
	// an error that tells no state: only a read tells that the source is back.
	after   configsrc.Version
	keys    int // in the last snapshot
	pace    pace
	lastErr error // of the first read

	mu        sync.Mutex // guards what follows
	interrupt context.CancelFunc
	waiting   []*rereading // who asked for a read now, and is not served yet
	serving   bool         // the call under way serves those who asked before
}

// rereading is one request to read all sources now. It is decided about when
// the last of them has answered, so that what was published to several of them
// is applied as one.
type rereading struct {
	missing int        // sources that have not answered; the manager's goroutine counts
	worst   Entry      // of those that could not be read
	result  chan Entry // has room for the one answer
}

// update is what a watcher has to say: a snapshot or an error.
type update struct {
	index    int
	snapshot configsrc.Snapshot
	err      error
	waiting  []*rereading
}

// first makes the first read. It tries again while the source cannot be
// reached, until ctx ends; an answer of any kind is final.
func (w *watcher) first(ctx context.Context) update {
	for {
		snapshot, err := w.layer.Source.Next(ctx, configsrc.Version{})
		if w.fresh(snapshot, err) {
			snapshot, err = w.settle(ctx, snapshot, err)
		}
		if err == nil {
			w.saw(snapshot)
			return update{index: w.index, snapshot: snapshot}
		}
		if ctx.Err() == nil || w.lastErr == nil {
			w.lastErr = err // rather the source's own word than that the time is up
		}
		w.after = versionOf(err)
		if isNamed(err) || !sleep(ctx, w.pace.next(err)) {
			return update{index: w.index, err: w.lastErr}
		}
	}
}

// run follows the source until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		callCtx, after, waiting := w.begin(ctx)
		snapshot, err := w.next(callCtx, after, len(waiting) > 0)
		interrupted := callCtx.Err() != nil
		w.served()
		if err != nil && interrupted {
			// Interrupted by a request to read now, or the end. Those who
			// wait already go on waiting.
			w.again(waiting)
			continue
		}
		known := versionOf(err) // of an error; zero for a snapshot
		if err == nil {
			w.saw(snapshot)
			w.pace = pace{}
		} else {
			w.after = known
		}
		select {
		case w.updates <- update{index: w.index, snapshot: snapshot, err: err, waiting: waiting}:
		case <-ctx.Done():
			return
		}
		switch {
		case err == nil:
		case !known.IsZero() && known != after:
			// News, if bad news: Next blocks until there are others.
			w.pace = pace{}
		default:
			sleep(callCtx, w.pace.next(err))
		}
	}
}

// begin takes over the requests to read now that have come in. They read with
// the zero version.
func (w *watcher) begin(ctx context.Context) (context.Context, configsrc.Version, []*rereading) {
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.interrupt != nil {
		w.interrupt() // free the last call's context
	}
	w.interrupt = cancel
	waiting := w.waiting
	w.waiting = nil
	w.serving = len(waiting) > 0
	if len(waiting) > 0 {
		return ctx, configsrc.Version{}, waiting
	}
	return ctx, w.after, nil
}

// again puts requests back that an interrupted call had taken.
func (w *watcher) again(waiting []*rereading) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(waiting, w.waiting...)
}

// served ends a call. Who asked while it served others is next, without a pause.
func (w *watcher) served() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serving && len(w.waiting) > 0 {
		w.interrupt()
	}
	w.serving = false
}

// readNow makes the watcher read the source now. A read that serves an earlier request is not
// interrupted, or a storm of requests would never see one end: whoever asks
// meanwhile shares the next one.
func (w *watcher) readNow(r *rereading) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, r)
	if w.interrupt != nil && !w.serving {
		w.interrupt()
	}
}

// reset makes a watcher whose run has ended read its source anew: what it saw
// last may not have been taken from it, and those who wait have been answered.
func (w *watcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after, w.pace, w.waiting = configsrc.Version{}, pace{}, nil
}

// next is one call of the source's Next, and as many more as it takes until
// the content has settled.
func (w *watcher) next(ctx context.Context, after configsrc.Version, now bool) (configsrc.Snapshot, error) {
	snapshot, err := w.layer.Source.Next(ctx, after)
	// Who asks for a read now waits for the quiet time only where there is news.
	if w.layer.Quiet > 0 && (!now || err != nil || snapshot.Version.Content != w.after.Content) {
		snapshot, err = w.settle(ctx, snapshot, err)
	}
	// Empty is not taken for "all deleted" on one reading.
	if err == nil && len(snapshot.Values) == 0 && w.keys > 0 {
		if !sleep(ctx, max(w.layer.Quiet, confirmEmpty)) {
			return snapshot, ctx.Err()
		}
		return w.layer.Source.Next(ctx, configsrc.Version{})
	}
	return snapshot, err
}

// fresh reports a first state that may be of a publication still under way.
func (w *watcher) fresh(s configsrc.Snapshot, err error) bool {
	switch {
	case w.layer.Quiet == 0:
		return false
	case err != nil:
		return !versionOf(err).IsZero()
	}
	return len(s.Values) == 0 || !s.Published.IsZero() && s.Fetched.Sub(s.Published) < QuietMax
}

// confirmEmpty is how long after an empty snapshot a second one must agree.
const confirmEmpty = 300 * time.Millisecond

// settle waits until the source has been unchanged for the quiet time. A state
// that is an error counts as any other: an editor that writes a file in steps
// makes it missing, empty or cut short for a moment.
func (w *watcher) settle(ctx context.Context, snapshot configsrc.Snapshot, err error) (configsrc.Snapshot, error) {
	notified := snapshot.Notified
	ctxMax, cancel := context.WithTimeout(ctx, QuietMax)
	defer cancel()
	for {
		version := snapshot.Version
		if err != nil {
			if version = versionOf(err); version.IsZero() {
				return snapshot, err // no state to wait on
			}
		}
		// The content is as it was when it was fetched: how long the driver
		// took to return it is not to be waited for again.
		fetched := time.Now()
		if err == nil && !snapshot.Fetched.IsZero() {
			fetched = snapshot.Fetched
		}
		quiet, stop := context.WithDeadline(ctxMax, fetched.Add(w.layer.Quiet))
		next, nextErr := w.layer.Source.Next(quiet, version)
		over := quiet.Err() != nil
		stop()
		if nextErr != nil && over {
			if ctx.Err() != nil {
				return next, ctx.Err()
			}
			// What led here began with the first notice.
			if err == nil && !notified.IsZero() {
				snapshot.Notified = notified
			}
			return snapshot, err
		}
		snapshot, err = next, nextErr
		if notified.IsZero() {
			notified = snapshot.Notified
		}
	}
}

func (w *watcher) saw(s configsrc.Snapshot) {
	w.after, w.keys = s.Version, len(s.Values)
}

func versionOf(err error) configsrc.Version {
	if e, ok := errors.AsType[*configsrc.Error](err); ok {
		return e.Version
	}
	return configsrc.Version{}
}

// isNamed reports an error that is an answer of the backend.
func isNamed(err error) bool {
	return errors.Is(err, configsrc.ErrNotFound) || errors.Is(err, configsrc.ErrDenied) || errors.Is(err, configsrc.ErrInvalid)
}

// pace is the back-off between failed calls: exponential with full jitter.
// The zero value starts anew.
type pace struct {
	attempts int
	since    time.Time
}

const (
	paceFirst     = 200 * time.Millisecond
	paceShort     = 5 * time.Second // the most while the source is gone for less than paceShortFor
	paceShortFor  = 2 * time.Minute
	paceLong      = 30 * time.Second
	maxPaceDouble = 16
)

// next returns how long to wait before the next try.
func (p *pace) next(err error) time.Duration {
	now := time.Now()
	if p.attempts == 0 {
		p.since = now
	}
	limit := paceShort
	if isNamed(err) || now.Sub(p.since) > paceShortFor {
		limit = paceLong
	}
	upper := min(limit, paceFirst<<min(p.attempts, maxPaceDouble))
	p.attempts++
	// Never at once: an error that costs nothing must not become a busy loop.
	return paceFloor + rand.N(upper) //nolint:gosec // jitter needs no secrecy
}

const paceFloor = 20 * time.Millisecond

// sleep waits for d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
