package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/server/certs"
	"github.com/hotsvc/svc/server/liveconn"
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
	// It is called for every request and must not block. It returns the same
	// pointer until the settings change, and nobody changes what it points to.
	// What it returns must be valid, by Validate and by the tags of the fields,
	// which package reload checks.
	// Required.
	Config func(context.Context) *Config
	// Certificates returns the certificate and the client CAs in force, for
	// each handshake: Load of a [certs.Store] that was opened for what
	// [TLS.Material] returns. Required where server.tls.mode is not off. With
	// mode mtls, a handshake fails under material that is not Mutual.
	Certificates func() *certs.Material
	// Handler is the application. Required.
	Handler http.Handler
	// Exempt reports the requests that server.limit.* says nothing about,
	// server.limit.connections apart. nil: those for /livez and /readyz, so
	// that a busy service is not taken for a dead one.
	Exempt func(*http.Request) bool
	// Logger gets panics of handlers and the complaints of net/http, failed TLS
	// handshakes at level debug.
	// nil: they are dropped.
	Logger *slog.Logger
	// Tickets are the keys of TLS session tickets, which may be those of a
	// predecessor: its clients resume their sessions then. nil: the sessions end
	// with the process.
	Tickets *certs.Tickets
	// AccessLogger gets a line for each request, at level info: method, path,
	// protocol, status (0 where a handler has taken the connection), bytes of the
	// answer, time, client. Whether it is enabled is asked with the request's
	// context.
	// nil: there is no access log.
	AccessLogger *slog.Logger
	// Registerer gets the metrics, from New until Run has returned.
	// nil: no metrics.
	Registerer prometheus.Registerer
}

// Server serves an application on some listeners. Its methods may be called
// from any goroutine.
type Server struct {
	pin          func(context.Context) (context.Context, func())
	config       func(context.Context) *Config
	certificates func() *certs.Material
	tickets      *certs.Tickets
	handler      http.Handler
	exempt       func(*http.Request) bool
	log, access  *slog.Logger
	metrics      *metrics

	registry *liveconn.Registry
	limiter  *limiter
	policy   atomic.Pointer[policy]
	requests atomic.Int64 // handlers that have not returned
	leaving  atomic.Bool  // the drain is about to end: each answer ends its connection
	// handshakeErrors is how many TLS handshakes have failed.
	handshakeErrors atomic.Uint64

	commands chan func(*run)
	woken    chan struct{} // gets a value when Run is to look at what has ended
	over     chan struct{} // closed when Run has returned
	started  atomic.Bool
	stopOnce sync.Once
	stop     chan struct{} // closed by Close

	mu        sync.Mutex
	listeners []net.Listener // of Run
}

// New makes a Server. It opens nothing.
func New(o Options) (*Server, error) {
	switch {
	case o.Handler == nil:
		return nil, errors.New("make server: no handler")
	case o.Config == nil:
		return nil, errors.New("make server: no func to read the settings")
	}
	s := &Server{
		pin:          o.Pin,
		config:       o.Config,
		certificates: o.Certificates,
		tickets:      o.Tickets,
		handler:      o.Handler,
		exempt:       o.Exempt,
		log:          o.Logger,
		access:       o.AccessLogger,
		registry:     liveconn.NewRegistry(Default().Timeout.timeouts()),
		limiter:      newLimiter(),
		commands:     make(chan func(*run)),
		woken:        make(chan struct{}, 1),
		over:         make(chan struct{}),
		stop:         make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.exempt == nil {
		s.exempt = isHealthCheck
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

func isHealthCheck(r *http.Request) bool { return r.URL.Path == "/livez" || r.URL.Path == "/readyz" }

// Apply makes the live settings of c count for the connections that are open and
// the requests that run, as far as they say anything to them. It is to be called
// after each change: [reload.Subscribe] does. Requests that begin later ask
// Options.Config themselves. It does not block; with many connections it takes
// about a microsecond for each.
//
// [reload.Subscribe]: https://pkg.go.dev/github.com/hotsvc/svc/reload#Subscribe
func (s *Server) Apply(c Config) {
	s.limiter.apply(c.Limit)
	s.registry.SetLimit(c.Limit.Connections)
	s.registry.SetTimeouts(c.Timeout.timeouts())
}

// Run serves on the listeners until ctx ends, Close is called or a listener
// breaks, and then drains: it stops accepting, serves what it has accepted,
// answers with "Connection: close", and closes a connection when it has been
// idle for a second. On HTTP/2 it says GOAWAY: with the next answer, or when the
// connection is idle, which is then closed a second later. It returns when all
// connections and listeners are closed and all handlers have returned. It may be
// called once.
//
// What a handler has hijacked is waited for like a request; see
// [liveconn.Conn.Draining].
//
// It drains as well when a successor takes over: see Handover.
//
// It returns nil after a drain that cut nothing off. It returns an error that is
// [ErrDrainTimeout] when server.drain.timeout was over first: then it has closed
// the remaining connections, has given their handlers a second to notice, and
// names what it cut off. A handler that did not notice still runs. After Close it
// returns an error when something was cut off. When a listener broke, it drains
// all the same and returns that error too.
func (s *Server) Run(ctx context.Context, listeners []net.Listener) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("run server: called twice")
	}
	defer close(s.over)
	if s.metrics != nil {
		defer s.metrics.unregister()
	}
	config := s.config(ctx)
	tlsConfig, err := s.tlsConfig(config, listeners)
	if err != nil {
		return errors.Join(fmt.Errorf("run server: %w", err), closeAll(listeners))
	}
	s.Apply(*config)
	r := &run{
		server: s, ctx: context.WithoutCancel(ctx), http: s.httpServer(config), tls: tlsConfig,
		options: liveconn.ListenerOptions{H2C: config.H2C && tlsConfig == nil},
	}
	for _, ln := range listeners {
		r.accept(ln)
	}
	r.publish()
	r.loop(ctx)
	r.close()
	return errors.Join(r.errs...)
}

// tlsConfig is what is put on top of the listeners; nil is nothing.
func (s *Server) tlsConfig(c *Config, listeners []net.Listener) (*tls.Config, error) {
	switch {
	case len(listeners) == 0:
		return nil, errors.New("no listener")
	case !c.TLS.On():
		return nil, nil
	}
	current := s.material(c.TLS.Mode == ModeMTLS)
	if current() == nil {
		return nil, fmt.Errorf("server.tls.mode is %s, and there is no certificate that was opened for it", c.TLS.Mode)
	}
	o := certs.TLSOptions{NextProtos: []string{"h2", "http/1.1"}, Handshaked: s.registry.Secured}
	if s.tickets != nil {
		o.TicketKeys = s.tickets.Keys
	}
	return certs.TLS(current, o), nil
}

// material returns the func that handshakes ask. With mutual it hands out nothing
// that would let a client in without a certificate, so that the handshake fails.
func (s *Server) material(mutual bool) func() *certs.Material {
	return func() *certs.Material {
		if s.certificates == nil {
			return nil
		}
		m := s.certificates()
		if m != nil && mutual && !m.Mutual() {
			return nil
		}
		return m
	}
}

// httpServer is net/http's part. Its own timeouts are 0: the registry's count.
func (s *Server) httpServer(c *Config) *http.Server {
	secure := c.TLS.On()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(secure)
	protocols.SetUnencryptedHTTP2(c.H2C && !secure)
	return &http.Server{ //nolint:gosec // its timeouts are those of the registry
		Handler:        http.HandlerFunc(s.serve),
		Protocols:      &protocols,
		MaxHeaderBytes: int(c.MaxHeaderBytes),
		// An OPTIONS * is limited, counted and drained like any other.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(complaints{s.log.Handler(), &s.handshakeErrors}, slog.LevelWarn),
		ConnState:                    s.registry.ConnState,
		ConnContext:                  s.registry.ConnContext,
	}
}

// Close stops at once: Run, if it runs, closes all listeners and connections and
// returns. It does not wait for Run. It may be called at any time and more than
// once.
func (s *Server) Close() error {
	s.stopOnce.Do(func() { close(s.stop) })
	s.mu.Lock()
	defer s.mu.Unlock()
	return closeAll(s.listeners)
}

func (s *Server) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, ln := range listeners {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close listener %s: %w", addressOf(ln), err))
		}
	}
	return errors.Join(errs...)
}

// Addrs returns the addresses of Run's listeners, in their order, with the port
// that was given for port 0; none before Run has begun to serve.
func (s *Server) Addrs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Addrs(s.listeners)
}

// Addrs returns the addresses of listeners as [Config.Listen] writes them.
func Addrs(listeners []net.Listener) []string {
	addrs := make([]string, len(listeners))
	for i, ln := range listeners {
		addrs[i] = addressOf(ln)
	}
	return addrs
}

func addressOf(ln net.Listener) string {
	if addr := ln.Addr(); addr.Network() != "unix" {
		return addr.String()
	}
	return unixPrefix + ln.Addr().String()
}
