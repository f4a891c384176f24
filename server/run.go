package server

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/liveconn"
	"github.com/hotsvc/svc/server/socket"
)

// stage is what Run is doing.
type stage uint8

const (
	stageServing stage = iota
	stageHanding       // a successor has taken over; it may still be undone
	stageEnding        // the context has ended, Close was called, or a listener broke
)

// run is the state of Run, whose goroutine alone uses it.
type run struct {
	server    *Server
	ctx       context.Context //nolint:containedctx // of Run, without its end
	http      *http.Server
	options   liveconn.ListenerOptions // of all listeners, without a key
	tls       *tls.Config              // nil: there is none
	feed      *feed                    // nil: nothing comes from elsewhere yet
	accepting []*accepting
	adopting  []*adoption
	mover     *mover // nil: nothing moves

	stage   stage
	began   time.Time // the drain, or its last stage
	by      time.Time // when a handover must have ended
	settled bool
	ended   bool      // everything was closed since the drain's time was over
	told    drainTold // what the registry was told last
	scan    scan
	errs    []error
}

// drainTold are what handlers are told of a drain.
type drainTold struct {
	by     time.Time
	spread time.Duration
}

// scan limits how often the connections are looked at: that takes up to a
// microsecond for each of them, and what happens to any of them may be a reason.
type scan struct {
	next time.Time // not before
	due  time.Time // what the last one said; zero: never
	need bool      // something has changed since
}

const (
	scanPause = 10 * time.Millisecond
	// scanShare is how many times as long as a look the pause after it is.
	scanShare = 20
)

func (r *run) note(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// loop is Run's.
func (r *run) loop(ctx context.Context) {
	s := r.server
	timer := time.NewTimer(0)
	defer timer.Stop()
	done, stop := ctx.Done(), s.stop
	for {
		wait, over := r.step(time.Now())
		if over {
			return
		}
		timer.Reset(wait)
		select {
		case <-done:
			done = nil
			r.end()
		case <-stop:
			stop = nil
			r.end()
		case f := <-s.commands:
			f(r)
		case <-s.registry.Changed():
			r.scan.need = true
		case <-s.woken:
		case <-timer.C:
		}
	}
}

// step does what is due. It returns when it should be called again at the
// latest, and whether Run is over.
func (r *run) step(now time.Time) (wait time.Duration, over bool) {
	s := r.server
	if err := r.broken(); err != nil {
		if !s.stopped() { // otherwise Close closed the listener
			r.note(err)
		}
		r.end()
	}
	r.adopting = slices.DeleteFunc(r.adopting, (*adoption).over)
	if r.mover != nil && r.mover.over() {
		s.log.Warn("idle connections stay here, the successor does not take them", "error", r.mover.err)
		r.stopMoving(nil)
	}
	next := r.shutReleased(now)
	if r.stage == stageServing {
		return untilNext(now, next, time.Hour), false
	}
	if s.stopped() && !r.ended {
		r.cutOff(nil)
	}
	by := r.limit()
	r.tell(by)
	last := by.Add(-r.linger(by))
	s.leaving.Store(!last.After(now))
	if last.After(now) {
		next = sooner(next, last)
	}
	if !r.ended {
		next = sooner(next, r.closeIdle(now, by))
	}
	drained := r.drained()
	if !drained && !r.ended && !by.After(now) {
		r.cutOff(ErrDrainTimeout)
	}
	if drained || r.ended {
		// Nothing is left to move, and the successor waits for the end of it.
		r.stopMoving(nil)
		if r.stage == stageEnding || r.settled {
			return 0, true
		}
		return untilNext(now, next, time.Hour), false
	}
	return untilNext(now, sooner(next, by), drainCheck), false
}

// untilNext is the time until next, of which zero is never, and at most limit.
func untilNext(now, next time.Time, limit time.Duration) time.Duration {
	if next.IsZero() {
		return limit
	}
	return max(min(next.Sub(now), limit), 0)
}

// limit is when the drain must have ended.
func (r *run) limit() time.Time {
	if r.stage == stageHanding {
		return r.by
	}
	by := r.began.Add(r.server.config(r.ctx).Drain.Timeout)
	return sooner(by, r.by)
}

// tell lets the registry know of the drain's times.
func (r *run) tell(by time.Time) {
	if told := (drainTold{by, r.server.config(r.ctx).Drain.Spread}); told != r.told {
		r.told = told
		r.server.registry.Drain(told.by, told.spread)
	}
}

// closeIdle closes what is idle for long enough. A connection that a successor
// cannot be given is left to its client after a handover, until shortly before
// the end: there is no hurry, and closing it in the moment in which a request is
// sent would lose that.
func (r *run) closeIdle(now, by time.Time) time.Time {
	due := r.scan.due
	if !r.scan.need && (due.IsZero() || due.After(now)) {
		return due
	}
	if r.scan.next.After(now) {
		return r.scan.next
	}
	linger := r.linger(by)
	var keep time.Time
	if r.stage == stageHanding {
		keep = by.Add(-linger)
	}
	r.scan.due = r.server.registry.CloseIdle(now, r.began, linger, keep)
	r.scan.need, r.scan.next = false, now.Add(max(scanPause, scanShare*time.Since(now)))
	return r.scan.due
}

// linger is how long an idle connection stays open, and how long before the end
// of a drain that must have ended by then the last ones are told. Half the time
// leaves the closed ones time to be gone.
func (r *run) linger(by time.Time) time.Duration {
	return min(maxLinger, by.Sub(r.began)/2)
}

// drained reports whether nothing is left here.
func (r *run) drained() bool {
	return len(r.accepting) == 0 && len(r.adopting) == 0 && r.server.finished()
}

// end begins the last drain.
func (r *run) end() {
	if r.stage == stageEnding {
		return
	}
	r.stage, r.began = stageEnding, time.Now()
	r.scan = scan{need: true}
	r.server.registry.Kept(nil)
	r.tell(r.limit()) // readiness fails from here on
	r.shut(every)
	for _, a := range r.adopting {
		a.cancel() // the predecessor goes on with them
	}
}

// handOver begins the drain in favour of a successor, or changes the successor.
func (r *run) handOver(h keeper.Handover) {
	if r.stage == stageEnding {
		closeMoves(h)
		return
	}
	now := time.Now()
	if r.by = h.By; h.By.IsZero() {
		r.by = now.Add(r.server.config(r.ctx).Drain.Timeout)
	}
	if r.stage == stageServing {
		r.stage, r.began = stageHanding, now
	}
	keys := map[string]bool{}
	if h.Moves != nil && r.tls == nil && !r.ended {
		maps.Copy(keys, h.Kept)
		maps.DeleteFunc(keys, func(_ string, movable bool) bool { return !movable })
	}
	// Connections stay open for the move before answers begin to end them, and
	// whatever the former successor has not taken goes to this one.
	r.stopMoving(keys)
	r.scan = scan{need: true}
	r.server.registry.Kept(h.Kept) // a load balancer is to stay
	r.tell(r.by)
	r.shut(func(a *accepting) bool { _, kept := h.Kept[a.key]; return kept })
	if len(keys) == 0 {
		closeMoves(h)
		return
	}
	r.startFeed()
	r.mover = startMover(r.ctx, r.server.registry, h.Moves, r.server.wake)
}

// stopMoving ends the move, and serves here what the successor has not taken. If
// it is replaced by another one, keys are those of the listeners whose
// connections move then.
func (r *run) stopMoving(keys map[string]bool) {
	registry := r.server.registry
	if len(keys) == 0 {
		keys = nil
	}
	registry.Move(keys)
	if r.mover == nil {
		return
	}
	left := r.mover.stop()
	r.mover = nil
	left = append(left, registry.Take(registry.Leaving())...)
	for _, c := range registry.Restore(left) {
		r.feed.serve(c)
	}
}

// resume undoes a handover.
func (r *run) resume(listeners []net.Listener) {
	if r.stage == stageEnding {
		r.note(closeAll(listeners))
		return
	}
	r.stopMoving(nil)
	r.server.registry.Kept(nil)
	r.server.registry.Resume()
	r.stage, r.by, r.ended, r.settled, r.told = stageServing, time.Time{}, false, false, drainTold{}
	r.server.leaving.Store(false)
	serving := map[string]*accepting{}
	for _, a := range r.accepting {
		a.released = time.Time{}
		serving[a.key] = a
	}
	for _, ln := range listeners {
		if serving[socket.KeyOf(ln)] != nil {
			r.note(closeAll([]net.Listener{ln})) // it is the same socket
			continue
		}
		r.accept(ln)
	}
	r.publish()
}

// publish lets Addrs and Close know the listeners.
func (r *run) publish() {
	listeners := make([]net.Listener, len(r.accepting))
	for i, a := range r.accepting {
		listeners[i] = a.Listener
	}
	s := r.server
	s.mu.Lock()
	s.listeners = listeners
	s.mu.Unlock()
}

// startFeed lets connections be served that no listener accepts.
func (r *run) startFeed() {
	if r.feed != nil {
		return
	}
	f := newFeed()
	r.feed = f
	go func() { // close waits for it
		defer close(f.over)
		_ = r.http.Serve(f) // ends when it is closed
	}()
}

// release has the sockets closed as soon as nothing comes on them any more.
func (r *run) release(keys []string) {
	now := time.Now()
	for _, a := range r.accepting {
		if a.released.IsZero() && slices.Contains(keys, a.key) {
			a.released, a.quiet, a.seen = now, now, a.accepted.Load()
		}
	}
}

// enter takes note of a stream that is to be read.
func (r *run) enter(a *adoption) error {
	switch {
	case r.stage == stageEnding || r.ended:
		return errNotServing
	case r.tls != nil:
		return errors.New("the server speaks TLS, which connections without it cannot move to")
	}
	r.startFeed()
	a.feed, a.options = r.feed, r.options
	r.adopting = append(r.adopting, a)
	return nil
}

// close ends what is left, when nothing is served any more.
func (r *run) close() {
	r.stopMoving(nil)
	r.shut(every)
	if r.feed != nil {
		_ = r.feed.Close()
		<-r.feed.over
	}
	// Nothing is left that it could cut off; it releases what is its own.
	_ = r.http.Close()
}

// sooner is the earlier one of two times of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
