package keeper

import (
	"context"
	"fmt"
	"time"
)

// attempt is a restart that was asked for, until it has succeeded or failed.
type attempt struct {
	reason  string
	at      time.Time
	content int         // memory file; -1: what is in force
	from    *generation // that asked, where it brought a content
	id      int64       // of its question
	waiters []func(*Error)
	// also is one without a content that waited when this one began: it is done
	// with this one, or else has to be done after it.
	also *attempt
	// outdated says that the content in force has changed since the start of a
	// generation for an attempt without one; anew, that it begins anew for
	// that, for the tries-th time.
	outdated, anew bool
	tries          int
	superseded     bool
}

// maxWaiters bounds who may wait for one restart.
const maxWaiters = 256

// end tells all who wait.
func (a *attempt) end(err *Error) {
	for _, tell := range a.waiters {
		tell(err)
	}
	a.waiters = nil
	if a.also != nil {
		a.also.end(err)
		a.also = nil
	}
	if a.content >= 0 {
		closeFiles([]int{a.content})
		a.content = -1
	}
}

// join makes one of two attempts without a content, either of which may be nil.
func join(a, b *attempt) *attempt {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	room := max(0, maxWaiters-len(a.waiters))
	if len(b.waiters) > room {
		for _, tell := range b.waiters[room:] {
			tell(&Error{Text: fmt.Sprintf("%d wait for this restart already", maxWaiters), Environment: true})
		}
		b.waiters = b.waiters[:room]
	}
	a.waiters = append(a.waiters, b.waiters...)
	return a
}

func errStopping() *Error { return &Error{Text: "the service is stopping", Environment: true} }

func errSuperseded() *Error {
	return &Error{Text: "a newer content supersedes it", Environment: true}
}

// request asks for a restart. What brings a content supersedes what is under
// way, and comes next; what brings none comes after that, and there is one such
// at most: all who ask for it share it.
func (k *keeper) request(ctx context.Context, a *attempt) {
	switch {
	case k.stopping:
		a.end(errStopping())
	case k.next == nil:
		k.begin(ctx, a)
	case a.content >= 0:
		if k.newer != nil {
			k.newer.end(errSuperseded())
		}
		k.newer = a
		k.abort(errSuperseded().Text, true)
	default:
		k.later = join(k.later, a)
	}
}

// abort ends the generation that is being started, if it was not told to accept
// yet. superseded says that another one follows.
func (k *keeper) abort(why string, superseded bool) {
	if k.next == nil || k.next.committed {
		return // it may have accepted
	}
	// It may be ending already, to begin anew. That is off too.
	k.attempt.superseded = k.attempt.superseded || superseded
	k.attempt.anew = false
	if k.next.killed == "" {
		k.next.kill(why)
	}
}

// cancel takes a restart back that has not been committed.
func (k *keeper) cancel(g *generation, id int64) {
	is := func(a *attempt) bool { return a != nil && a.from == g && a.id == id }
	switch {
	case is(k.newer):
		k.newer.end(errSuperseded())
		k.newer = nil
	case is(k.attempt):
		k.abort(errSuperseded().Text, true)
	}
}

// begin starts a generation for an attempt.
func (k *keeper) begin(ctx context.Context, a *attempt) {
	k.attempt = a
	k.respawn = time.Time{}
	if a.content >= 0 {
		a.also, k.later = join(a.also, k.later), nil
	}
	if k.serving != nil {
		k.manager.reloading("restarting: " + a.reason)
	} else if !k.ready {
		k.manager.extend(k.options.StartTimeout + acceptTime)
	}
	g, err := k.spawn(a)
	if err != nil {
		k.failed(ctx, 0, &Error{Text: err.Error(), Environment: true})
		return
	}
	k.next = g
	k.alive = append(k.alive, g)
	k.log.Info("generation starts", "generation", g.number, "process", g.pid, "reason", a.reason)
}

// follow begins what waits. While nobody serves, something is always under way
// or planned.
func (k *keeper) follow(ctx context.Context) {
	if k.stopping || k.next != nil {
		return
	}
	if a := k.newer; a != nil {
		k.newer = nil
		if a.from == k.serving {
			k.begin(ctx, a)
			return
		}
		// Who brought it has handed over to another one meanwhile, which follows
		// the sources itself.
		a.end(&Error{Text: "another restart was faster", Environment: true})
	}
	switch a := k.later; {
	case a != nil:
		k.later = nil
		k.begin(ctx, a)
	case k.serving == nil && k.respawn.IsZero():
		k.pause()
	}
}

// abortDone is the end of a generation that had not come to accept.
func (k *keeper) abortDone(ctx context.Context, g *generation, cause *Error) {
	k.next = nil
	a := k.attempt
	switch {
	case k.stopping:
	case a.anew:
		a.anew = false
		k.begin(ctx, a)
		return
	case a.superseded && a.content < 0 && k.serving != nil:
		// Who asked for it gets what comes instead, or after that.
		k.log.Info("restart is put off", "generation", g.number, "reason", cause.Text)
		k.attempt = nil
		a.superseded, a.outdated = false, false
		k.later = join(a, k.later)
		k.follow(ctx)
		return
	}
	k.failed(ctx, g.number, cause)
}

// failed ends an attempt. Nothing was changed by it.
func (k *keeper) failed(ctx context.Context, number int, cause *Error) {
	a := k.attempt
	k.attempt = nil
	switch {
	case k.stopping:
		a.end(cause)
		return
	case !k.ready:
		// The first start: there is nothing to go back to.
		k.fatal = cause
		k.stopping = true
		a.end(cause)
		return
	}
	k.later, a.also = join(a.also, k.later), nil
	r := &Restart{
		At: a.at.UTC(), Reason: a.reason, Outcome: outcomeFailed, Error: cause.Text,
		Generation: number, Seconds: time.Since(a.at).Seconds(),
	}
	if a.superseded {
		r.Outcome = outcomeSuperseded
		k.log.Info("restart is superseded", "generation", number, "reason", cause.Text)
	} else {
		k.failures++
		k.log.Error("restart has failed; what served before goes on", "generation", number, "reason", cause.Text)
	}
	k.lastRestart = r
	a.end(cause)
	k.manager.ready(k.summary())
	if k.serving == nil {
		k.trouble = cause.Text
	}
	k.follow(ctx)
}
