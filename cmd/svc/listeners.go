package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/keeper"
)

// addresses are what to listen on.
type addresses struct{ server, admin []string }

func addressesOf(c *Config) addresses { return addresses{c.Server.Listen, c.Admin.Listen} }

// listeners are the sockets of the service and of its operator as one resource
// of the config: a busy port fails the start like anything else that cannot be
// built, and nothing of the others is left open then.
type listeners struct{ server, admin []net.Listener }

// openFunc opens all addresses or none.
type openFunc func(ctx context.Context, addrs []string) ([]net.Listener, error)

// listen opens all addresses or none.
func listen(ctx context.Context, open openFunc, a addresses) (*listeners, error) {
	service, err := open(ctx, a.server)
	if err != nil {
		return nil, fmt.Errorf("server.listen: %w", err)
	}
	l := &listeners{server: service}
	if l.admin, err = open(ctx, a.admin); err != nil {
		return nil, errors.Join(fmt.Errorf("admin.listen: %w", err), l.Close())
	}
	return l, nil
}

// socketMode is that of unix sockets: a proxy of the same group connects.
const socketMode = 0o660

// registerListeners has the sockets opened with the first revision. A later one
// with other addresses needs a restart, so whoever asks then is checking a
// content, and gets none.
func registerListeners(m *reload.Manager[Config], w *keeper.Worker) *reload.Resource[Config, *listeners] {
	return reload.Register(m, "listeners", addressesOf, func(ctx context.Context, a addresses) (*listeners, error) {
		if m.Load() != nil {
			return &listeners{}, nil
		}
		l, err := listen(ctx, func(ctx context.Context, addrs []string) ([]net.Listener, error) {
			return w.Listen(ctx, addrs, socketMode)
		}, a)
		return l, reload.Retryable(err)
	})
}

// shownAddresses are those that were asked for, with the port that was given for
// port 0.
func shownAddresses(ls []net.Listener) []string {
	return server.Addrs(slices.DeleteFunc(slices.Clone(ls), keeper.Alias))
}

// take hands the sockets over to those who serve on them and close them.
func (l *listeners) take() (service, operator []net.Listener) {
	service, operator = l.server, l.admin
	*l = listeners{}
	return service, operator
}

// Close closes what was not taken.
func (l *listeners) Close() error {
	var errs []error
	for _, sockets := range [][]net.Listener{l.server, l.admin} {
		for _, s := range sockets {
			if err := s.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close listener: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}
