package keeper

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// message obeys a worker. Its files are closed unless they are kept.
func (k *keeper) message(ctx context.Context, g *generation, m message, files []int) {
	defer func() { closeFiles(files) }()
	switch m.Kind {
	case kindHello:
		if m.Protocol != protocolVersion {
			g.failure = &Error{Text: "the new program speaks another protocol with its keeper than the one that runs: stop the service and start it again"}
			g.kill(g.failure.Text)
		}
		g.version = m.Version
	case kindListen:
		k.listen(ctx, g, m)
	case kindPrepared:
		k.prepared(g, m)
	case kindAccepting:
		k.accepting(ctx, g)
	case kindFailed:
		g.failure = &Error{Text: m.Error, Environment: m.Retryable}
	case kindReleased:
		for _, l := range k.sockets.list {
			if slices.Contains(m.Keys, l.key) {
				delete(l.holders, g.number)
			}
		}
	case kindContent:
		if g == k.serving || g == k.next {
			if fd, ok := takeBlob(&files); ok {
				k.keepContent(g, fd)
			}
		}
	case kindKeep:
		if _, known := k.states[m.Name]; g == k.serving && (known || len(k.states) < maxStates) {
			if fd, ok := takeBlob(&files); ok {
				if known {
					closeFiles([]int{k.states[m.Name]})
				}
				k.states[m.Name] = fd
			}
		}
	case kindState:
		if k.serving != nil && k.serving != g && len(files) == 1 && checkBlob(files[0]) == nil {
			k.send(k.serving, message{Kind: kindRelayed, Generation: g.number, Name: m.Name}, files[0])
		}
	case kindRestart:
		k.restartAsked(ctx, g, m, &files)
	case kindCancel:
		k.cancel(g, m.ID)
	case kindStatus:
		k.tellTable(g, m.ID)
	case kindReport:
		k.report(g, m)
	case kindReloaded:
		if _, asked := k.reloads[m.ID]; asked {
			delete(k.reloads, m.ID)
			k.tellReady()
		}
	default: // of a newer version
	}
}

// takeBlob takes the one memory file out of those of a message.
func takeBlob(files *[]int) (int, bool) {
	if len(*files) != 1 || checkBlob((*files)[0]) != nil {
		return -1, false
	}
	fd := (*files)[0]
	*files = nil
	return fd, true
}

// keepContent notes what is in force in a generation.
func (k *keeper) keepContent(g *generation, fd int) {
	closeFiles([]int{g.content})
	g.content = fd
	if g != k.serving {
		return
	}
	if g.state == StateServing {
		closeFiles([]int{k.content})
		k.content = duplicate(fd)
	}
	if k.attempt != nil && k.attempt.content < 0 {
		k.attempt.outdated = true
	}
}

// restartAsked is a worker's wish. One that brings a content has it from the
// generation that serves, or it is outdated.
func (k *keeper) restartAsked(ctx context.Context, g *generation, m message, files *[]int) {
	tell := func(err *Error) {
		answer := message{Kind: kindResult, ID: m.ID}
		if err != nil {
			answer.Error, answer.Retryable = err.Text, err.Environment
		}
		k.send(g, answer)
	}
	if m.Content && g != k.serving {
		tell(&Error{Text: "another generation serves, which follows the sources itself", Environment: true})
		return
	}
	a := &attempt{reason: m.Reason, at: time.Now(), content: -1, waiters: []func(*Error){tell}}
	if m.Content {
		fd, ok := takeBlob(files)
		if !ok {
			tell(&Error{Text: "the content did not arrive: there may be too few file descriptors", Environment: true})
			return
		}
		a.content, a.from, a.id = fd, g, m.ID
	}
	k.request(ctx, a)
}

func (k *keeper) report(g *generation, m message) {
	if m.Held != nil {
		g.held = m.Held
	}
	if m.Limits == nil || *m.Limits == g.limits {
		return
	}
	g.limits = *m.Limits
	if g != k.serving {
		return
	}
	for _, d := range k.alive {
		if d.state == StateDraining && !k.stopping {
			by := d.began.Add(g.limits.Timeout)
			k.setEnd(d, by)
			k.send(d, message{Kind: kindDrainBy, Left: time.Until(by)})
		}
	}
	k.squeeze(g)
}

// table is what the keeper knows.
func (k *keeper) table() Table {
	t := Table{
		KeeperPID: unix.Getpid(), Version: k.options.Version, Since: k.since.UTC(), LastRestart: k.lastRestart,
		Restarts: k.done, RestartSeconds: k.seconds, Failed: k.failures,
		Trouble: k.trouble, Stopping: k.stopping, Generations: []Generation{},
		Listeners: k.sockets.keys(func(l *listening) bool {
			return l.retire.IsZero() && !k.alias(l) && (!l.inherited || l.wantedBy(k.serving))
		}),
	}
	if k.serving != nil {
		t.Serving = k.serving.number
	}
	for _, g := range k.alive {
		shown := Generation{
			Number: g.number, PID: g.pid, State: g.state, Since: g.since.UTC(), Version: g.version, Reason: g.reason,
			Connections: cloneHeld(g.held), Holds: k.sockets.keys(func(l *listening) bool { return l.holders[g.number] }),
		}
		if !g.by.IsZero() {
			by := g.by.UTC()
			shown.By = &by
		}
		t.Generations = append(t.Generations, shown)
	}
	return t
}

// alias says that a socket is there only because a wider one is.
func (k *keeper) alias(l *listening) bool {
	return k.serving != nil && l.wanted[k.serving.number].alias
}

// tellTable answers status. A table may be longer than a message.
func (k *keeper) tellTable(g *generation, id int64) {
	answer := message{Kind: kindTable, ID: id}
	data, err := json.Marshal(k.table())
	if err == nil {
		var fd int
		if fd, err = newBlob("table", data); err == nil {
			k.send(g, answer, fd)
			closeFiles([]int{fd})
			return
		}
	}
	answer.Error = err.Error()
	k.send(g, answer)
}
