package keeper

import "time"

// stop drains everything; a second time it ends everything.
func (k *keeper) stop(why string) {
	if k.stopping {
		k.log.Warn("stopping at once: requests under way are cut", "reason", why)
		for _, g := range k.alive {
			k.send(g, message{Kind: kindStopNow})
			g.steps, g.killed = 1, "a second signal stopped it"
			g.deadline = time.Now().Add(dumpTime)
		}
		return
	}
	k.stopping = true
	k.log.Info("stopping: finishing the requests under way; a second signal stops at once", "reason", why)
	k.manager.stopping()
	k.respawn = time.Time{}
	for _, a := range []*attempt{k.newer, k.later} {
		if a != nil {
			a.end(errStopping())
		}
	}
	k.newer, k.later = nil, nil
	longest := time.Duration(0)
	for _, g := range k.alive {
		if g == k.next && !g.committed {
			g.kill(errStopping().Text)
			continue
		}
		if g.state != StateDraining || g == k.previous {
			g.enter(StateDraining)
			g.reason = "stopping"
			g.began = time.Now()
			k.setEnd(g, g.began.Add(g.limits.Timeout))
		}
		longest = max(longest, g.limits.Timeout)
		k.send(g, message{Kind: kindStop, Reason: why})
	}
	k.manager.extend(longest + drainGrace + dumpTime)
	// Whoever connects from now on is to be refused, not to wait: the workers
	// close theirs at once.
	for _, l := range k.sockets.list {
		clear(l.wanted)
	}
}
