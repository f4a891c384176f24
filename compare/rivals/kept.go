package rivals

import (
	"context"
	"errors"
	"fmt"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/load"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/certs"
	"github.com/hotsvc/svc/server/keeper"
)

// serveKept serves with our server, under our keeper: the first process is the
// keeper, and the ones that report to be serving are its workers.
func serveKept(ctx context.Context, g *generation) error {
	return keeper.Run(ctx, keeper.Options{StateDir: g.StateDir}, func(ctx context.Context, w *keeper.Worker) (err error) {
		config := server.Default()
		// With TLS the old processes keep their idle connections until these are used:
		// as many as there are restarts within the longest pause of a client.
		config.Drain.MaxGenerations = 100
		options := server.Options{Handler: load.Handler(g.record), Config: fixed(&config)}
		if g.Certificate != "" {
			config.TLS.Mode = server.ModeTLS
			store, err := certs.Open(ctx, certs.Config{Cert: g.Certificate, Key: configsrc.Secret(g.Key)}, certs.Options{})
			if err != nil {
				return fmt.Errorf("serve with the keeper: %w", err)
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			options.Certificates = store.Load
		}
		srv, err := server.New(options)
		if err != nil {
			return fmt.Errorf("serve with the keeper: %w", err)
		}
		address := g.Address
		if g.Network == "unix" {
			address = "unix:" + address
		}
		listeners, err := w.Listen(ctx, []string{address}, 0o600)
		if err != nil {
			return fmt.Errorf("serve with the keeper: %w", err)
		}
		at := listeners[0].Addr().String()
		return w.Serve(ctx, srv, listeners, keeper.Hooks{
			// Who measures waits for the report, and then says that it did not come.
			Began: func() { _ = g.reports.report(stageServing, at, "") },
		})
	})
}
