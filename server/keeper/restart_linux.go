package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// spawn starts the process and says who it is.
func (k *keeper) spawn(a *attempt) (_ *generation, err error) {
	content := a.content
	if content < 0 && a.from == nil && k.serving != nil {
		content = k.current()
	}
	conn, theirs, err := newPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer closeFiles([]int{theirs})
	crash, err := newCrashFile()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	g := &generation{
		number: k.last + 1, control: newChannel(conn), crash: crash, content: -1,
		reason: a.reason, limits: DefaultLimits(),
	}
	if k.serving != nil {
		g.limits = k.serving.limits
	}
	start := message{Kind: kindStart, Protocol: protocolVersion, PID: unix.Getpid(), Version: k.options.Version, Generation: g.number, Reason: a.reason}
	var files []int
	if content >= 0 {
		start.Content = true
		files = append(files, content)
	}
	for name, fd := range k.states {
		start.States = append(start.States, name)
		files = append(files, fd)
	}
	if err := g.control.send(start, files...); err != nil {
		g.close()
		return nil, err
	}
	if g.pid, err = k.program.start(theirs, crash); err != nil {
		g.close()
		return nil, err
	}
	k.last++
	g.enter(StateStarting)
	g.deadline = g.since.Add(k.options.StartTimeout)
	k.workers.Go(func() { k.listenTo(g) })
	return g, nil
}

// current is the content in force: what the serving generation said last, also
// on probation.
func (k *keeper) current() int {
	if k.serving != nil && k.serving.content >= 0 {
		return k.serving.content
	}
	return k.content
}

// listenTo hands on what a generation says.
func (k *keeper) listenTo(g *generation) {
	for {
		m, files, err := g.control.receive()
		if err != nil {
			k.post(event{from: g, deaf: err})
			return
		}
		if !k.post(event{from: g, message: &m, files: files}) {
			closeFiles(files)
			return
		}
	}
}

// prepared has the generation accept, if it is still wanted.
func (k *keeper) prepared(g *generation, m message) {
	if g != k.next || g.state != StateStarting || g.killed != "" {
		return
	}
	g.enter(StatePrepared)
	g.plain = m.Kept
	if m.Limits != nil {
		g.limits = *m.Limits
	}
	if a := k.attempt; a.outdated && a.tries < maxTries {
		// It was started with what was in force then.
		a.outdated, a.anew = false, true
		a.tries++
		g.kill("the content in force has changed meanwhile")
		return
	}
	g.committed = true
	g.deadline = time.Now().Add(acceptTime)
	k.send(g, message{Kind: kindCommit})
}

// accepting is the point from which the new generation is the service.
func (k *keeper) accepting(ctx context.Context, g *generation) {
	if g == k.serving && g.resuming {
		g.resuming, g.deadline = false, time.Time{}
		// What it had closed for its successor may have been heard of after it was
		// given anew.
		for _, l := range k.sockets.list {
			if l.wantedBy(g) {
				l.holders[g.number] = true
			}
		}
		return
	}
	if g != k.next || !g.committed || g.killed != "" {
		return
	}
	old, a := k.serving, k.attempt
	k.next, k.attempt = nil, nil
	if k.stopping { // which it was told as well
		a.end(errStopping())
		return
	}
	if old != nil && old.state == StateProbation {
		k.settle(old) // its probation is over with this
	}
	k.serving = g
	g.enter(StateProbation)
	g.deadline = g.since.Add(probation)
	for _, l := range k.sockets.list {
		if !l.inherited {
			delete(l.wanted, nobody)
		}
		c, asked := l.wanted[g.number]
		if _, kept := g.plain[l.key]; !asked || !kept {
			delete(l.wanted, g.number)
			continue
		}
		l.use()
		if err := l.chmod(c.mode); err != nil {
			k.log.Error("unix socket keeps the mode that it had", "address", l.key, "error", err)
		}
	}
	if old != nil {
		k.previous = old
		old.enter(StateDraining)
		old.reason = fmt.Sprintf("generation %d took over: %s", g.number, a.reason)
		old.began = g.since
		k.setEnd(old, old.began.Add(g.limits.Timeout))
	}
	for _, d := range k.alive {
		if d.state == StateDraining {
			k.handOver(d, g)
		}
	}
	k.giveUp(g)
	for _, l := range k.sockets.list {
		if l.inherited && !l.wantedBy(g) {
			k.log.Warn("the service manager listens on an address that the configuration does not name: who connects there waits", "address", l.key)
		}
	}
	k.squeeze(g)
	k.trouble = ""
	seconds := g.since.Sub(a.at).Seconds()
	k.log.Info("generation accepts", "generation", g.number, "process", g.pid, "reason", a.reason, "seconds", seconds)
	if k.ready {
		k.done++
		k.seconds += seconds
		k.lastRestart = &Restart{At: a.at.UTC(), Reason: a.reason, Outcome: outcomeDone, Generation: g.number, Seconds: seconds}
	}
	k.ready = true
	a.end(nil)
	k.manager.ready(k.summary())
	k.follow(ctx)
}

// handOver tells a draining generation where its connections go.
func (k *keeper) handOver(from, to *generation) {
	var files []int
	// Nothing can move where the successor has no plaintext socket.
	if slices.Contains(valuesOf(to.plain), true) {
		if sender, receiver, err := unixPair(); err != nil {
			k.log.Warn("idle connections cannot move", "generation", from.number, "error", err)
		} else {
			if k.send(to, message{Kind: kindAdopt, Generation: from.number}, receiver) {
				files = append(files, sender)
			} else {
				closeFiles([]int{sender})
			}
			closeFiles([]int{receiver})
		}
	}
	k.send(from, message{Kind: kindHandover, Generation: to.number, Kept: to.plain, Left: time.Until(from.by)}, files...)
	closeFiles(files)
}

func unixPair() (a, b int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("make socket pair: %w", err)
	}
	return fds[0], fds[1], nil
}

// setEnd changes when a drain must have ended.
func (k *keeper) setEnd(g *generation, by time.Time) {
	g.by = by
	if g.steps == 0 {
		g.deadline = by.Add(drainGrace)
	}
}

// squeeze shortens the drain of the oldest generations when there are too many.
func (k *keeper) squeeze(g *generation) {
	draining := 0
	for _, d := range slices.Backward(k.alive) {
		if d.state != StateDraining {
			continue
		}
		draining++
		if end := time.Now().Add(squeezeTime); draining > max(1, g.limits.Generations) && d.by.After(end) {
			k.log.Warn("too many old generations: the oldest has to end", "generation", d.number, "allowed", g.limits.Generations)
			k.setEnd(d, end)
			k.send(d, message{Kind: kindDrainBy, Left: time.Until(end)})
		}
	}
}

// settle ends a probation that went well.
func (k *keeper) settle(g *generation) {
	g.enter(StateServing)
	if g.content >= 0 {
		closeFiles([]int{k.content})
		k.content = duplicate(g.content)
	}
	k.send(g, message{Kind: kindSettled})
	if k.previous != nil {
		k.send(k.previous, message{Kind: kindSettled})
		k.previous = nil
	}
	k.manager.status(k.summary())
}

func valuesOf(m map[string]bool) []bool {
	list := make([]bool, 0, len(m))
	for _, v := range m {
		list = append(list, v)
	}
	return list
}
