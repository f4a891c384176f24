package reload

import (
	"cmp"
	"context"
	"slices"
)

// deferred is what came up while a restart was under way, and waits for its
// end: once the new process runs, which may be before this one hears of it,
// only that one writes to the state folder.
type deferred struct {
	trigger  Trigger       // of the decision that is due, since another content is wanted; "" where none is
	request  *request      // to be run before that
	complete []*rereading  // to be answered after it
	problems map[int]Entry // by source: why it has no content
}

// request is something that is asked of the manager's goroutine.
type request struct {
	// check tells whether it can be done at all; nil: it can. One that cannot
	// disturbs nothing.
	check func() error
	run   func(context.Context)
	// gone is set for what follows a Reload that was given up: what the other
	// sources have answered must not wait for the one that does not.
	gone *rereading
	err  error
	done chan struct{}
}

// deferUpdate takes in what a watcher has to say during a restart for c, and
// reports whether another content is wanted now.
func (m *Manager[T]) deferUpdate(u update, c content, pinned bool) bool {
	problem, write := m.note(u)
	if write {
		if m.deferred.problems == nil {
			m.deferred.problems = map[int]Entry{}
		}
		m.deferred.problems[u.index] = problem
	}
	complete, due := u.count(problem)
	m.deferred.complete = append(m.deferred.complete, complete...)
	if !due || !m.outdated(c, pinned) {
		return false
	}
	m.deferred.trigger = u.trigger()
	return true
}

// deferRequest does the same with a request. A rollback, and its end, are
// always another wish, even if it should be for the same content.
func (m *Manager[T]) deferRequest(r *request, c content, pinned bool) bool {
	if r.gone != nil {
		defer close(r.done)
		m.deferred.complete = slices.DeleteFunc(m.deferred.complete, func(other *rereading) bool { return other == r.gone })
		if !m.outdated(c, pinned) {
			return false
		}
		m.deferred.trigger = TriggerReload
		return true
	}
	if r.check != nil {
		if r.err = r.check(); r.err != nil {
			close(r.done)
			return false
		}
	}
	m.deferred.request, m.deferred.trigger = r, TriggerChange
	return true
}

// outdated reports that the sources have another content than c.
func (m *Manager[T]) outdated(c content, pinned bool) bool {
	if pinned {
		return false
	}
	now, _, err := m.gather()
	return err != nil || now.hash != c.hash
}

// catchUp does what a restart has put off. That may lead to the next restart,
// and so to more.
func (m *Manager[T]) catchUp(ctx context.Context) {
	for ctx.Err() == nil && !m.handover.isAway() {
		d := m.deferred
		m.deferred = deferred{problems: d.problems}
		switch {
		case d.request != nil:
			m.serve(ctx, d.request)
			// It may not have come to anything, and the sources' content was
			// not decided about.
			m.deferred.trigger = cmp.Or(m.deferred.trigger, d.trigger)
			m.deferred.complete = append(d.complete, m.deferred.complete...)
		case d.trigger != "" || len(d.complete) > 0:
			// Without another content, the outcome of the restart is the answer.
			m.decideFor(ctx, d.complete, cmp.Or(d.trigger, TriggerChange))
		default:
			m.deferred = deferred{}
			for i, s := range m.Status().Sources {
				if problem, ok := d.problems[i]; ok && s.Stale {
					m.finish(problem, stages{}, rejectedParse)
				}
			}
			return
		}
	}
}

// dropDeferred ends what is not done here any more. Who waits for the sources
// hears of it elsewhere; problems stay, for the case that this process goes on.
func (m *Manager[T]) dropDeferred(err error) {
	if r := m.deferred.request; r != nil {
		r.err = err
		close(r.done)
	}
	m.deferred = deferred{problems: m.deferred.problems}
}

// serve runs a request.
func (m *Manager[T]) serve(ctx context.Context, r *request) {
	defer close(r.done)
	if r.check != nil {
		if r.err = r.check(); r.err != nil {
			return
		}
	}
	r.run(ctx)
}

// do has a request run by the manager's goroutine.
func (m *Manager[T]) do(ctx context.Context, r *request) error {
	r.done = make(chan struct{})
	turn := m.handover.now()
	select {
	case m.requests <- r:
	case <-turn.over:
		return ErrHandedOver
	case <-m.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	// It has begun, and its result is worth having.
	<-r.done
	return r.err
}
