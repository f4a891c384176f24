package keeper

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// listen finds or opens the sockets that a generation asks for.
func (k *keeper) listen(ctx context.Context, g *generation, m message) {
	if g != k.next || g.killed != "" {
		return
	}
	var missing []opening
	for i, l := range k.sockets.assign(m.Addresses) {
		r := m.Addresses[i]
		if l != nil {
			l.wanted[g.number] = claim{mode: os.FileMode(r.Mode)} // from now on it is not retired
			continue
		}
		// Two that are new may overlap too.
		o := opening{request: r, beside: slices.ContainsFunc(m.Addresses, func(other request) bool {
			return other.Address != r.Address && (other.Address.Covers(r.Address) || r.Address.Covers(other.Address))
		})}
		for _, l := range k.sockets.overlapping(r.Address) {
			o.beside = true
			if err := l.ReusePort(); err != nil {
				k.log.Warn("listening socket beside a wider one", "address", l.key, "error", err)
			}
		}
		missing = append(missing, o)
	}
	wait := time.Duration(0)
	if k.unclean && !k.ready {
		wait = patience
	}
	// A path may have to be tried out, which takes time.
	k.workers.Go(func() {
		results := open(ctx, missing, wait)
		if !k.post(event{from: g, id: m.ID, wanted: m.Addresses, opened: results}) {
			endOpened(results)
		}
	})
}

// opened hands the sockets out.
func (k *keeper) opened(e event) {
	g := e.from
	if g != k.next || g.killed != "" || g.gone {
		endOpened(e.opened)
		return
	}
	answer := message{Kind: kindSockets, ID: e.id}
	given, err := k.give(g, e)
	var files []int
	for _, l := range given {
		answer.Sockets = append(answer.Sockets, l.given(g))
		files = append(files, l.FD())
	}
	if err == nil && !k.send(g, answer, files...) {
		err = fmt.Errorf("listen on %d addresses: their names are too long for one message", len(files))
	}
	if err != nil {
		// What was opened is closed with the generation, which ends of this.
		k.send(g, message{Kind: kindSockets, ID: e.id, Error: err.Error(), Retryable: true})
		return
	}
	for _, l := range given {
		l.holders[g.number] = true
	}
}

// give finds the sockets for a generation: what it has asked for, and what these
// cover.
func (k *keeper) give(g *generation, e event) ([]*listening, error) {
	for _, o := range e.opened {
		if o.err != nil {
			return nil, o.err
		}
		l := k.sockets.add(o.socket, o.mode)
		l.file = o.file
		l.wanted[g.number] = claim{mode: o.mode}
	}
	given := k.sockets.assign(e.wanted)
	for i, l := range given {
		if l == nil {
			return nil, fmt.Errorf("listening socket %s is gone", e.wanted[i].Address)
		}
		l.wanted[g.number] = claim{mode: os.FileMode(e.wanted[i].Mode)}
	}
	for _, r := range e.wanted {
		for _, l := range k.sockets.covered(r.Address) {
			if !l.wantedBy(g) {
				l.wanted[g.number] = claim{alias: true, mode: l.mode}
				given = append(given, l)
			}
		}
	}
	if len(given) > maxFiles {
		return nil, fmt.Errorf("listen on %d addresses, with those that are still served: more than %d", len(given), maxFiles)
	}
	for _, l := range given {
		if err := l.admit(); err != nil {
			return nil, err
		}
	}
	return given, nil
}

// given is what a generation is told of a socket.
func (l *listening) given(g *generation) given {
	return given{Address: l.Address(), Key: l.key, Alias: l.wanted[g.number].alias}
}
