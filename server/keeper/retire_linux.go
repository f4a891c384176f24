package keeper

import (
	"errors"
	"time"
)

// giveUp plans the end of the sockets that the new generation has no use for.
// The one before may need them again until probation is over.
func (k *keeper) giveUp(g *generation) {
	for _, l := range k.sockets.list {
		if !l.wantedBy(g) && l.retire.IsZero() && len(l.holders) > 0 {
			l.retire = g.since.Add(max(g.limits.Overlap, probation))
		}
	}
}

// retire ends sockets that were given up: first nobody is let in, then the
// generations take what is queued and close theirs. What the generation that is
// being started has asked for waits until it accepts, or is gone: it would get a
// socket that lets nobody in.
func (k *keeper) retire(now time.Time) {
	var released []*listening
	for _, l := range k.sockets.list {
		switch {
		case l.retire.IsZero() || now.Before(l.retire) || l.wantedBy(k.next):
		case l.release.IsZero():
			if !l.inherited {
				if err := errors.Join(l.Refuse(), l.Unlink()); err != nil {
					k.log.Warn("listening socket that was given up", "address", l.key, "error", err)
				}
			}
			l.release = now.Add(lull)
		case !l.released && !now.Before(l.release):
			l.released = true
			clear(l.wanted)
			released = append(released, l)
		}
	}
	for _, g := range k.alive {
		var keys []string
		for _, l := range released {
			if l.holders[g.number] {
				keys = append(keys, l.key)
			}
		}
		if len(keys) > 0 {
			k.send(g, message{Kind: kindRelease, Keys: keys})
		}
	}
	for _, l := range released {
		if l.inherited { // it waits for whoever names it again
			l.wanted[nobody] = claim{}
			l.use()
		}
	}
}

// retireDue is when retire has something to do for a socket; zero: not yet.
func (k *keeper) retireDue(l *listening) time.Time {
	switch {
	case l.wantedBy(k.next) || l.released:
		return time.Time{}
	case l.release.IsZero():
		return l.retire
	}
	return l.release
}

// orphaned plans the end of the sockets that only generations want that drain,
// after one that was being started is gone.
func (k *keeper) orphaned() {
	if k.serving == nil || k.stopping {
		return
	}
	for _, l := range k.sockets.list {
		if !l.inherited && !l.wantedBy(k.serving) && l.retire.IsZero() && !l.wantedBy(k.next) {
			l.retire = time.Now()
		}
	}
}
