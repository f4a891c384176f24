package rivals

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

// lameDuck is how long the second way with tableflip goes on serving.
const lameDuck = 300 * time.Millisecond

// serveTableflip serves with tableflip. Without a pause it does what its README
// and its example for net/http do: Shutdown as soon as the next process is ready.
// With one, it stops accepting, says Connection: close in its answers, and calls
// Shutdown later.
func serveTableflip(pause time.Duration) func(context.Context, *generation) error {
	return func(ctx context.Context, g *generation) (err error) {
		upg, err := tableflip.New(tableflip.Options{})
		if err != nil {
			return fmt.Errorf("serve with tableflip: %w", err)
		}
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer upg.Stop() // ends an upgrade that is under way
		defer cancel()

		restart, end := make(chan os.Signal, 1), make(chan os.Signal, 1)
		signal.Notify(restart, syscall.SIGHUP)
		signal.Notify(end, syscall.SIGTERM)
		running.Go(func() {
			for {
				select {
				case <-restart:
					if err := upg.Upgrade(); err != nil {
						_ = g.reports.report(stageRefused, "", err.Error()) // who measures waits, and then says so
					}
				case <-ctx.Done():
					return
				}
			}
		})
		ln, err := upg.Listen(g.Network, g.Address)
		if err != nil {
			return fmt.Errorf("serve with tableflip: %w", err)
		}
		srv, err := g.server()
		if err != nil {
			return errors.Join(err, ln.Close())
		}
		served := make(chan error, 1)
		running.Go(func() { served <- accept(srv, ln) })
		defer func() { err = errors.Join(err, srv.Close(), <-served) }()
		if err := upg.Ready(); err != nil {
			return fmt.Errorf("serve with tableflip: %w", err)
		}
		if err := g.reports.report(stageServing, ln.Addr().String(), ""); err != nil {
			return err
		}
		running.Go(func() {
			if upg.WaitForParent(ctx) == nil {
				_ = g.reports.report(stageAlone, "", "") // the same
			}
		})
		select {
		case <-upg.Exit():
		case <-end:
			upg.Stop() // unlinks a unix socket
			<-upg.Exit()
		case <-ctx.Done():
			return nil
		}
		if pause > 0 {
			g.closing.Store(true)
			if err := ln.Close(); err != nil {
				return fmt.Errorf("stop accepting: %w", err)
			}
			timer := time.NewTimer(pause)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil
			}
		}
		return shutdown(ctx, srv)
	}
}

func shutdown(ctx context.Context, srv *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}
