//go:build !unix

package main

import (
	"context"
	"os"
	"os/signal"
)

// catchSignals makes an interrupt end ctx, also while the service starts.
func catchSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt)
}

// handleSignals stops the service on an interrupt, the only signal here.
func (s *service) handleSignals(ctx context.Context, stop context.CancelFunc) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)
	for range 2 {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			if ctx.Err() == nil {
				stop()
			}
		}
	}
	_ = s.server.Close()
}
