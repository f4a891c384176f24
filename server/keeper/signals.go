package keeper

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// catch takes over the signals of a process that does the work. Until Serve is
// called those that stop it end ctx, and the others wait.
func (w *Worker) catch(ctx context.Context) (context.Context, func()) {
	w.stops, w.others = make(chan os.Signal, 2), make(chan os.Signal, 8)
	early := make(chan os.Signal, 1)
	signal.Notify(early, syscall.SIGTERM, os.Interrupt)
	signal.Notify(w.stops, syscall.SIGTERM, os.Interrupt)
	if others := otherSignals(); len(others) > 0 {
		signal.Notify(w.others, others...)
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-early:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		signal.Stop(early)
		signal.Stop(w.stops)
		signal.Stop(w.others)
		cancel()
		watching.Wait()
	}
}

// signalled obeys a signal that is no stop. In a worker those that are for the
// service are dropped: they belong to the keeper.
func (w *Worker) signalled(sig os.Signal, reloads *reloader) {
	switch {
	case sig == syscall.SIGQUIT:
		dump(w.stderr)
	case w.keeper != nil:
	case sig == syscall.SIGHUP:
		reloads.ask(func() {})
	default:
		w.log.Error("restart on signal", "error", errNoKeeper)
	}
}
