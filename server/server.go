package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits on every connection.
//
// There is none on writing an answer: net/http starts that time with the
// request, so a fixed one would cut off the answers that a longer
// server.timeout.request, or none, allows. A client that stops reading holds its
// connection until it goes away or the server drains.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second // header and body
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 1 << 20
)

// Options are what a Server is made of.
type Options struct {
	// Pin fixes the configuration for one request. It is called first for
	// every request; the context it returns, made from the one it is given, is
	// the request's, and the func it returns, never nil, is called once, when
	// the request has ended. nil: nothing is pinned.
	Pin func(context.Context) (context.Context, func())
	// Config returns the settings in force for a context: that of a request,
	// after Pin, or one without a request, for what the server itself does.
	// It is called for every request and must not block. Required.
	Config func(context.Context) *Config
	// Handler is the application. Required.
	Handler http.Handler
	// Logger gets panics of handlers and the complaints of net/http.
	// nil: they are dropped.
	Logger *slog.Logger
	// Registerer gets the metrics, from New until Run has returned.
	// nil: no metrics.
	Registerer prometheus.Registerer
}

// Server serves an application on some listeners. Its methods may be called
// from any goroutine.
type Server struct {
	pin      func(context.Context) (context.Context, func())
	config   func(context.Context) *Config
	handler  http.Handler
	log      *slog.Logger
	metrics  *metrics
	http     *http.Server
	conns    *connections
	requests atomic.Int64 // handlers that have not returned

	listeners []net.Listener
	started   atomic.Bool
	stopOnce  sync.Once
	stop      chan struct{} // closed by Close
}

// New makes a Server. From then on the listeners belong to it: they are closed
// by Run or by Close. When New returns an error, they are still the caller's.
func New(listeners []net.Listener, o Options) (*Server, error) {
	switch {
	case len(listeners) == 0:
		return nil, errors.New("make server: no listener")
	case o.Handler == nil:
		return nil, errors.New("make server: no handler")
	case o.Config == nil:
		return nil, errors.New("make server: no func to read the settings")
	}
	s := &Server{
		pin:       o.Pin,
		config:    o.Config,
		handler:   o.Handler,
		log:       o.Logger,
		conns:     newConnections(),
		listeners: listeners,
		stop:      make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		Protocols:         &protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ConnState:         s.conns.hook,
		ConnContext:       connContext,
	}
	if o.Registerer != nil {
		m, err := newMetrics(o.Registerer, s)
		if err != nil {
			return nil, fmt.Errorf("make server: %w", err)
		}
		s.metrics = m
	}
	return s, nil
}

// Run serves until ctx ends, Close is called or a listener breaks, and then
// drains: it stops accepting, serves what it has accepted, answers with
// "Connection: close", and closes a connection when it has been idle for a
// second. It returns when all connections are closed and all handlers have
// returned. It may be called once.
//
// What a handler has hijacked is waited for like a request.
//
// It returns nil after a drain that cut nothing off. It returns an error that is
// [ErrDrainTimeout] when server.drain.timeout was over first: then it has closed
// the remaining connections, has given their handlers a second to notice, and
// names what it cut off. A handler that did not notice still runs. After Close it
// returns an error when something was cut off. When a listener broke, it drains
// all the same and returns that error too.
func (s *Server) Run(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("run server: called twice")
	}
	if s.metrics != nil {
		defer s.metrics.unregister()
	}

	ended := make(chan error, len(s.listeners))
	var accepting sync.WaitGroup
	for _, ln := range s.listeners {
		accepting.Go(func() {
			err := s.http.Serve(&listener{Listener: ln, set: s.conns})
			ended <- fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		})
	}

	var broken error
	select {
	case <-ctx.Done():
	case <-s.stop:
	case broken = <-ended:
		if s.stopped() {
			broken = nil // Close closed the listener
		}
	}

	// Readiness fails from here on. The listeners are closed after that, and
	// every accept loop is over before a connection is looked at: one that was
	// accepted but is not in the set yet would be lost.
	s.conns.draining.Store(true)
	closed := s.closeListeners()
	accepting.Wait()
	drained := s.drain(context.WithoutCancel(ctx))
	// Nothing is left that it could cut off; it releases what is its own.
	_ = s.http.Close()
	return errors.Join(broken, closed, drained)
}

// Close stops at once: it closes the listeners, and Run, if it runs, closes all
// connections and returns. It does not wait for Run. It may be called at any
// time and more than once.
func (s *Server) Close() error {
	s.stopOnce.Do(func() { close(s.stop) })
	return s.closeListeners()
}

func (s *Server) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, ln := range s.listeners {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close listener %s: %w", ln.Addr(), err))
		}
	}
	return errors.Join(errs...)
}

// Addrs returns the addresses of the listeners, in their order, with the port
// that was given for port 0.
func (s *Server) Addrs() []string {
	addrs := make([]string, len(s.listeners))
	for i, ln := range s.listeners {
		addrs[i] = ln.Addr().String()
	}
	return addrs
}

// Draining reports whether the server has begun to drain.
func (s *Server) Draining() bool { return s.conns.draining.Load() }

// Connections returns how many connections are open, by kind and state, zeros
// included.
func (s *Server) Connections() map[Class]int { return s.conns.classes() }
