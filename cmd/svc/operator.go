package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/server/socket"
)

// operatorAPI serves the operator's listeners while this generation is the
// service. The hooks of the worker use it, one at a time.
type operatorAPI struct {
	service *service
	socket  string // the key of the one in the state folder
	failed  func() // called when it has ended by itself

	cancel  context.CancelFunc // nil: it does not run
	running sync.WaitGroup
	mu      sync.Mutex
	err     error
}

// start serves the listeners, and closes them at the end. The metrics wait for
// what the generation before tells, as long as wait says.
func (a *operatorAPI) start(listeners []net.Listener, wait time.Duration) {
	if a.cancel != nil || len(listeners) == 0 {
		for _, ln := range listeners {
			_ = ln.Close() // they are served already
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := a.service
	waiting, done := context.WithTimeout(ctx, wait)
	a.cancel = func() { done(); cancel() }
	handler := admin.Handler(s.backend(), prometheus.Gatherers{s.registry, afterWord{s.counters, waiting.Done()}})
	var local, remote []net.Listener
	for _, ln := range listeners {
		if socket.KeyOf(ln) == a.socket {
			local = append(local, ln)
			continue
		}
		remote = append(remote, ln)
	}
	for _, ln := range local {
		a.running.Go(func() { a.ended(admin.Serve(ctx, ln, handler, s.log)) })
	}
	a.running.Go(func() {
		a.ended(admin.ServeTCP(ctx, remote, handler, newAdminAccess(s.certificates).load, s.log))
	})
}

// ended notes the error of a listener that broke, which ends the service.
func (a *operatorAPI) ended(err error) {
	if err == nil {
		return
	}
	a.mu.Lock()
	a.err = errors.Join(a.err, err)
	a.mu.Unlock()
	a.failed()
}

// stop lets requests under way go on for a second.
func (a *operatorAPI) stop() {
	if a.cancel == nil {
		return
	}
	a.cancel()
	a.running.Wait()
	a.cancel = nil
}
