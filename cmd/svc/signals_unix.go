//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

// reloadTimeout bounds a re-read that a signal asked for.
const reloadTimeout = 30 * time.Second

// catchSignals makes the signals that end a service end ctx, also while it
// starts, and keeps a hang-up at that time from killing it.
func catchSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	early := make(chan os.Signal, 1)
	signal.Notify(early, syscall.SIGHUP) // what comes before there is anything to read again is dropped
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	return ctx, func() {
		stop()
		signal.Stop(early)
	}
}

// handleSignals obeys the signals that the contract names until ctx ends.
func (s *service) handleSignals(ctx context.Context, stop context.CancelFunc) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR2)
	defer signal.Stop(signals)
	// A re-read may take long, and must not keep a stop waiting. Of several
	// that come in meanwhile, one is kept.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	var reloading sync.WaitGroup
	defer reloading.Wait()
	reloading.Go(func() { s.reloadOnSignals(ctx, hangups) })
	stopping := false
	for {
		select {
		case <-ctx.Done():
			return
		case got := <-signals:
			switch got {
			case syscall.SIGQUIT:
				_ = pprof.Lookup("goroutine").WriteTo(s.stderr, 2)
			case syscall.SIGUSR2:
				s.log.Error("graceful restart is not available in this version; stop the service and start it again")
			default:
				if stopping {
					s.log.Warn("stopping at once: requests under way are cut")
					_ = s.server.Close()
					continue
				}
				stopping = true
				s.log.Info("stopping: finishing the requests under way; a second signal stops at once", "signal", got.String())
				stop()
			}
		}
	}
}

func (s *service) reloadOnSignals(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		readCtx, cancel := context.WithTimeout(ctx, reloadTimeout)
		entry, err := s.manager.Reload(readCtx)
		cancel()
		if err != nil {
			s.log.Error("re-read on signal", "error", err)
			continue
		}
		s.log.Info("re-read on signal", "outcome", entry.Outcome, "revision", entry.Revision)
	}
}
