package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// The bounds of a listener. They are fixed: the operator must get through
// whatever the configuration says.
const (
	readHeaderTimeout = 5 * time.Second // a TLS handshake too
	readTimeout       = 30 * time.Second
	idleTimeout       = time.Minute
	// writeTimeout is for the handler and its answer: the longest CPU profile,
	// and a minute to send it.
	writeTimeout   = maxProfile + time.Minute
	maxHeader      = 64 << 10
	maxConnections = 256
	// stopTimeout is how long requests under way may go on when Serve ends.
	stopTimeout = time.Second
)

// Serve serves handler on l until ctx ends, then closes l and returns nil.
// Requests under way are cut after a second. Further connections than 256 at a
// time wait in the queue of the socket.
//
// It asks for no credentials. l must be a socket that only the operator can
// open, such as that of [ListenUnix]; for any other there is [ServeTCP].
func Serve(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	return serve(ctx, []net.Listener{l}, handler, log)
}

// ServeTCP serves handler on all listeners, behind a guard that asks each
// request for what access returns: see the package's description. access is
// called for every connection and request, from many goroutines; it must not
// block. What it returns may change at any time, from plaintext to TLS too: a
// plaintext connection opened before is then refused and closed.
//
// It ends as [Serve] does; when one listener fails, it ends them all and
// returns the error. With no listeners it waits for ctx.
func ServeTCP(ctx context.Context, listeners []net.Listener, handler http.Handler, access func() *Access, log *slog.Logger) error {
	encrypted := make([]net.Listener, len(listeners))
	for i, l := range listeners {
		encrypted[i] = &tlsListener{l, access}
	}
	return serve(ctx, encrypted, newGuard(handler, access, log), log)
}

func serve(ctx context.Context, listeners []net.Listener, handler http.Handler, log *slog.Logger) error {
	// HTTP/1.1 alone: the API has no use for what HTTP/2 adds.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	busy := busy{conns: map[net.Conn]struct{}{}, quiet: make(chan struct{}, 1)}
	server := &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(complaints{log.Handler()}, slog.LevelWarn),
		// "OPTIONS *" must not go past the guard.
		DisableGeneralOptionsHandler: true,
		ConnState:                    busy.track,
	}
	served := make(chan error, len(listeners))
	limited := make([]net.Listener, len(listeners))
	for i, l := range listeners {
		limited[i] = limit(l)
		go func() { served <- server.Serve(limited[i]) }()
	}
	var failed error
	running := len(listeners)
	select {
	case failed = <-served:
		running--
	case <-ctx.Done():
	}
	// Shutdown would drop requests on connections that were accepted a moment
	// ago (golang/go#75591).
	for _, l := range limited {
		_ = l.Close() // whichever is closed already has failed
	}
	for range running {
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			failed = errors.Join(failed, err)
		}
	}
	server.SetKeepAlivesEnabled(false) // it closes those that are idle
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	busy.wait(stop)
	_ = server.Close() // what is left is cut
	if failed != nil {
		return fmt.Errorf("serve admin API: %w", failed)
	}
	return nil
}

// busy are the connections with a request under way, or with none yet.
type busy struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	quiet chan struct{} // told when there are none any more; has room for one
}

// track is that of http.Server.ConnState.
func (b *busy) track(c net.Conn, state http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state == http.StateNew || state == http.StateActive {
		b.conns[c] = struct{}{}
		return
	}
	delete(b.conns, c)
	if len(b.conns) == 0 {
		select {
		case b.quiet <- struct{}{}:
		default: // it is told already
		}
	}
}

// wait waits until there are none, or ctx ends. No more may come.
func (b *busy) wait(ctx context.Context) {
	for {
		b.mu.Lock()
		n := len(b.conns)
		b.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-b.quiet:
		case <-ctx.Done():
			return
		}
	}
}

// complaints is the handler of what net/http logs. Failed TLS handshakes are
// logged at level debug: anybody can cause them, as often as they like.
type complaints struct{ slog.Handler }

// Handle lowers the level of what strangers cause.
func (h complaints) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: TLS handshake error") {
		if r.Level = slog.LevelDebug; !h.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}

// limit bounds the open connections. It counts below TLS, where they are opened
// and closed.
func limit(l net.Listener) net.Listener {
	if t, ok := l.(*tlsListener); ok {
		return &tlsListener{netutil.LimitListener(t.Listener, maxConnections), t.access}
	}
	return netutil.LimitListener(l, maxConnections)
}

// tlsListener speaks TLS on the connections that it accepts while there is a
// certificate.
type tlsListener struct {
	net.Listener
	access func() *Access
}

// Accept does not wait for the handshake.
func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if a := l.access(); a != nil && a.TLS != nil {
		return tls.Server(conn, http1(a.TLS)), nil
	}
	return conn, nil
}

// http1 is config without the protocols that are not served, whatever it offers.
func http1(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"}
	if forHello := config.GetConfigForClient; forHello != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := forHello(hello)
			if c == nil || err != nil {
				return nil, err
			}
			return http1(c), nil
		}
	}
	return config
}
