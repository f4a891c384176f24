package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/hotsvc/svc/server/socket"
)

// reportTime is how often a worker tells what it holds and what limits it has,
// where that has changed.
const reportTime = 500 * time.Millisecond

var errGivenUp = errors.New("the keeper has given this generation up")

// serving is a worker between its commit and its end.
type serving struct {
	*link
	worker  *Worker
	service Service
	hooks   Hooks
	reloads *reloader
	others  map[string]bool // keys of Hooks.Others
	adopt   sync.WaitGroup
	stop    context.CancelFunc
	held    map[string]int
	limits  Limits
	drains  bool
}

func (l *link) serve(ctx context.Context, w *Worker, s Service, listeners []net.Listener, h Hooks) error {
	v := &serving{link: l, worker: w, service: s, hooks: h, others: map[string]bool{}, limits: s.Limits()}
	kept := map[string]bool{}
	for _, ln := range listeners {
		kept[socket.KeyOf(ln)] = s.Plain()
	}
	for _, ln := range h.Others {
		kept[socket.KeyOf(ln)] = false
		v.others[socket.KeyOf(ln)] = true
	}
	if err := l.waitCommit(ctx, message{Kind: kindPrepared, Kept: kept, Limits: &v.limits}); err != nil {
		for _, ln := range listeners {
			_ = ln.Close() // nobody has accepted on it
		}
		return err
	}
	return v.run(ctx, listeners)
}

// waitCommit says that everything is there, and waits for the word.
func (l *link) waitCommit(ctx context.Context, prepared message) error {
	if err := l.channel.send(prepared); err != nil {
		return fmt.Errorf("tell keeper that all is prepared: %w", err)
	}
	for {
		select {
		case o := <-l.orders:
			closeFiles(o.files)
			switch o.Kind {
			case kindCommit:
				l.mu.Lock()
				defer l.mu.Unlock()
				l.started = true
				return nil
			case kindStop, kindStopNow:
				return errGivenUp
			}
		case <-l.gone:
			return errGivenUp
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *serving) run(ctx context.Context, listeners []net.Listener) error {
	// It ends by a stop, a signal, or the keeper's end, all of which end ctx or
	// are orders.
	ctx, v.stop = context.WithCancel(ctx)
	defer v.stop()
	v.reloads = newReloader(ctx, v.hooks.Reload)
	defer v.reloads.stop()
	ended := make(chan error, 1)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { ended <- v.service.Run(ctx, listeners) })
	defer v.adopt.Wait()
	defer v.stop() // where Run has ended by itself, nobody serves what is moved
	if err := v.channel.send(message{Kind: kindAccepting}); err != nil {
		v.log.Error("tell keeper that this generation accepts", "error", err)
	}
	if v.hooks.Began != nil {
		v.hooks.Began()
	}
	ticker := time.NewTicker(reportTime)
	defer ticker.Stop()
	stopping, gone := false, v.gone
	for {
		select {
		case err := <-ended:
			v.report()
			return err
		case o := <-v.orders:
			v.obey(ctx, o)
		case <-ticker.C:
			v.report()
		case <-gone:
			gone = nil
			v.log.Error("the keeper is gone: finishing the requests under way")
			v.worker.settle()
			if !v.drains && v.hooks.HandedOver != nil {
				v.hooks.HandedOver()
			}
			v.drains = true
			v.stop()
		case <-v.worker.stops:
			switch {
			case stopping:
				_ = v.service.Close() // Run tells what it cut off
			case gone != nil && !v.drains && v.channel.send(message{Kind: kindRestart, Reason: "a signal to stop to the worker"}) == nil:
				// The sockets stay open: who connects while this one drained without a
				// successor would wait for its end.
				v.log.Warn("a signal to stop came to this worker: it asks for a successor first; the service is stopped by its keeper", "keeper", v.worker.KeeperPID())
			default:
				v.stop()
			}
			stopping = true
		case sig := <-v.worker.others:
			v.worker.signalled(sig, v.reloads)
		}
	}
}

// obey does what the keeper says.
func (v *serving) obey(ctx context.Context, o order) {
	files := o.files
	defer func() { closeFiles(files) }()
	switch o.Kind {
	case kindHandover:
		h := Handover{Successor: o.Generation, Kept: o.Kept, By: time.Now().Add(o.Left)}
		if len(files) == 1 {
			if moves, err := unixConn(files[0]); err != nil {
				v.log.Error("idle connections cannot move", "error", err)
			} else {
				h.Moves = moves
			}
			files = nil
		}
		if !v.drains && v.hooks.HandedOver != nil {
			v.hooks.HandedOver()
		}
		v.drains = true
		v.service.Handover(h)
		v.report()
	case kindAdopt:
		if len(files) != 1 {
			return
		}
		from, err := unixConn(files[0])
		files = nil
		if err != nil {
			v.log.Error("take over idle connections", "generation", o.Generation, "error", err)
			return
		}
		v.adopt.Go(func() {
			if err := v.service.Adopt(ctx, from); err != nil && ctx.Err() == nil {
				v.log.Warn("take over idle connections", "generation", o.Generation, "error", err)
			}
		})
	case kindDrainBy:
		v.service.DrainBy(time.Now().Add(o.Left))
	case kindRelease:
		v.service.Release(o.Keys)
	case kindResume:
		files = nil
		v.resume(o)
	case kindSettled:
		v.worker.settle()
		if v.drains { // otherwise it is its own probation that is over
			v.service.Settle()
		}
	case kindReload:
		id := o.ID
		v.reloads.ask(func() { _ = v.channel.send(message{Kind: kindReloaded, ID: id}) }) // a keeper that is gone waits for nothing
	case kindStop:
		v.worker.settle()
		v.stop()
	case kindStopNow:
		_ = v.service.Close() // Run tells what it cut off
	default: // of a newer version
	}
}

// resume takes the service back.
func (v *serving) resume(o order) {
	v.drains = false
	listeners, err := v.listeners(o)
	if err != nil {
		// The keeper starts another one for it, and keeps what is queued.
		v.log.Error("take over again from a successor that has died", "error", err)
		_ = v.service.Close() // Run tells what it cut off
		return
	}
	var mine, others []net.Listener
	for _, ln := range listeners {
		if v.others[socket.KeyOf(ln)] {
			others = append(others, ln)
			continue
		}
		mine = append(mine, ln)
	}
	v.service.Resume(mine)
	if err := v.channel.send(message{Kind: kindAccepting}); err != nil {
		v.log.Error("tell keeper that this generation accepts again", "error", err)
	}
	if v.hooks.Resumed != nil {
		v.hooks.Resumed(errors.New(o.Error), others)
		return
	}
	for _, ln := range others {
		_ = ln.Close() // nobody serves on it
	}
}

// report tells what has changed.
func (v *serving) report() {
	held, limits := v.service.Held(), v.service.Limits()
	if maps.Equal(held, v.held) && limits == v.limits {
		return
	}
	v.held, v.limits = held, limits
	_ = v.channel.send(message{Kind: kindReport, Held: held, Limits: &limits}) // a keeper that is gone asks for nothing
}
