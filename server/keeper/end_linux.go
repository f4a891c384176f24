package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// died notes that processes have ended.
func (k *keeper) died(ctx context.Context, ended []exited) {
	for _, x := range ended {
		i := slices.IndexFunc(k.alive, func(g *generation) bool { return g.pid == x.pid })
		if i < 0 {
			continue // an orphan
		}
		g := k.alive[i]
		g.gone, g.status = true, x.status
		if !g.deaf {
			g.deadline = time.Now().Add(goneTime)
			// What it has said is heard, and then there is an end also where
			// something that it started still has its end of the pair.
			g.control.closeRead()
		}
		k.bury(ctx, g)
	}
}

// deaf notes that a generation says nothing more.
func (k *keeper) deaf(ctx context.Context, g *generation, err error) {
	g.deaf = true
	if errors.Is(err, errMessage) {
		k.log.Error("generation says what is no message", "generation", g.number, "error", err)
		if !g.gone {
			g.kill("what it said was no message")
		}
	}
	if !g.gone {
		g.deadline = time.Now().Add(goneTime)
	}
	k.bury(ctx, g)
}

// escalate is what happens to a generation that has missed its deadline.
func (k *keeper) escalate(g *generation, now time.Time) {
	switch {
	case g.gone:
		g.control.close()
		g.deadline = time.Time{}
		return
	case g.deaf:
		g.kill("it closed its end of the control socket, and went on")
		return
	case g.state == StateProbation && g.steps == 0:
		k.settle(g)
		return
	}
	g.steps++
	g.deadline = now.Add(dumpTime)
	if g.steps == 1 {
		switch g.state {
		case StateDraining:
			g.killed = "its drain did not end"
		default:
			g.killed = fmt.Sprintf("it was not ready within %v", now.Sub(g.since).Round(time.Millisecond))
		}
		k.log.Error("generation is stuck", "generation", g.number, "process", g.pid, "state", g.state, "reason", g.killed)
		g.signal(unix.SIGABRT) // the runtime writes all goroutines
		return
	}
	g.kill(g.killed)
}

// bury takes a generation out once its process has ended and everything that it
// said was heard.
func (k *keeper) bury(ctx context.Context, g *generation) {
	if !g.gone || !g.deaf || !slices.Contains(k.alive, g) {
		return
	}
	k.alive = slices.DeleteFunc(k.alive, func(x *generation) bool { return x == g })
	cause := g.end()
	state := g.state
	g.state = StateGone
	g.close()
	switch g {
	case k.next:
		k.abortDone(ctx, g, cause)
	case k.serving:
		k.servingGone(g, state, cause) //nolint:contextcheck // what Admit opens does not block
	default:
		if g == k.previous {
			k.previous = nil
		}
		k.drained(g, cause)
	}
	k.sockets.drop(g.number)
	k.orphaned()
	k.manager.status(k.summary())
}

// drained is the end of a generation that was to end.
func (k *keeper) drained(g *generation, cause *Error) {
	if g.failure == nil && g.status == 0 {
		k.log.Info("generation has ended", "generation", g.number, "process", g.pid)
		return
	}
	k.log.Warn("generation has ended", "generation", g.number, "process", g.pid, "reason", cause.Text)
	if k.stopping {
		k.fatal = errors.Join(k.fatal, cause)
	}
}

// servingGone is the end of the generation that accepts.
func (k *keeper) servingGone(g *generation, state State, cause *Error) {
	k.serving = nil
	if k.stopping {
		k.drained(g, cause)
		return
	}
	k.log.Error("generation has died", "generation", g.number, "process", g.pid, "state", state, "reason", cause.Text)
	if state == StateProbation && k.previous != nil {
		k.undo(g, cause)
		return
	}
	// The sockets stay open, and their queues with them.
	for _, l := range k.sockets.list {
		if c, wanted := l.wanted[g.number]; wanted {
			l.wanted[nobody] = c
		}
	}
	k.previous = nil
	k.trouble = fmt.Sprintf("generation %d died: %s", g.number, cause.Text)
	if time.Since(g.since) >= steady {
		k.crashes = 0
	}
	if k.next == nil { // else it takes over, or its failure is followed by another
		k.pause()
	}
}

// pause waits before a worker is started again.
func (k *keeper) pause() {
	wait := time.Duration(0)
	if k.crashes > 0 {
		wait = min(maxPause, firstPause<<min(k.crashes-1, 16))
	}
	k.crashes++
	k.respawn = time.Now().Add(wait)
}

// undo gives the service back to the generation before.
func (k *keeper) undo(dead *generation, cause *Error) {
	old := k.previous
	k.previous, k.serving = nil, old
	text := fmt.Sprintf("generation %d died %v after it had taken over: %s", dead.number, time.Since(dead.since).Round(time.Millisecond), cause.Text)
	k.trouble = text
	r := Restart{At: dead.since.UTC(), Reason: dead.reason, Generation: dead.number}
	if k.lastRestart != nil && k.lastRestart.Generation == dead.number {
		r = *k.lastRestart
	} // else another one has been tried meanwhile
	r.Outcome, r.Error = outcomeUndone, text
	k.failures++
	k.lastRestart = &r
	old.enter(StateServing)
	// It is told, which does not mean that it does.
	old.resuming, old.deadline = true, old.since.Add(acceptTime)
	old.reason = text
	old.by = time.Time{}
	var files []int
	resume := message{Kind: kindResume, Error: text, Generation: dead.number}
	for _, l := range k.sockets.list {
		c, wanted := l.wanted[old.number]
		if !wanted {
			continue
		}
		if err := errors.Join(l.admit(), l.chmod(c.mode)); err != nil {
			k.log.Error("listening socket is needed again", "address", l.key, "error", err)
		}
		l.use()
		l.holders[old.number] = true
		resume.Sockets = append(resume.Sockets, l.given(old))
		files = append(files, l.FD())
	}
	k.send(old, resume, files...)
	for _, d := range k.alive {
		if d.state == StateDraining {
			k.handOver(d, old)
		}
	}
	k.abort(text, false)
}
