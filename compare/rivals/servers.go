package rivals

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/certs"
)

// The servers of the child. Each pair serves the same gin routes with the same
// limits: the first one's are live, the second one's static.
const (
	serverOurs     = "svc"
	serverGin      = "gin"
	serverOursTLS  = "svc, TLS"
	serverGinTLS   = "gin, TLS"
	serverMeasured = "svc with its metrics"
	serverOursH2C  = "svc, h2c"
	serverStockH2C = "net/http, h2c"
)

// h2Idle is the idle timeout of the servers with HTTP/2.
const h2Idle = 100 * time.Millisecond

// serversConfig is the child's own configuration.
type serversConfig struct {
	Server server.Config `config:"server"`
}

// servers are all of them, and what is needed to end them.
type servers struct {
	addresses map[string]string
	roots     []byte
	manager   *reload.Manager[serversConfig]
	source    *memory
	reloader  reloader
	reloads   int // so far; each publishes another value
	idle      *server.Server
	config    func(context.Context) *server.Config
	closers   []func() error // the last one first
}

func (s *servers) close() error {
	_, err := s.reloader.quiet()
	errs := []error{err}
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

func (s *servers) do(ctx context.Context, c command) (reply, error) {
	switch c.Op {
	case opAddresses:
		return reply{Addresses: s.addresses, Roots: s.roots}, nil
	case opUsage:
		cpu, err := processorTime()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return reply{CPU: cpu, Mallocs: m.Mallocs}, err
	case opReload:
		s.reloader.start(ctx, s.reload)
		return reply{}, nil
	case opQuiet:
		n, err := s.reloader.quiet()
		return reply{Reloads: n}, err
	case opIdle:
		changed := *s.config(ctx)
		changed.Timeout.Idle = c.Idle
		began := time.Now()
		s.idle.Apply(changed)
		return reply{Took: time.Since(began)}, nil
	}
	return reply{}, fmt.Errorf("no such command: %q", c.Op)
}

// reload publishes a document in which a limit differs from the one before, and
// waits until it is in force.
func (s *servers) reload(ctx context.Context) error {
	s.reloads++
	idle := 120 + s.reloads%2
	s.source.publish(serversDocument(idle))
	entry, err := s.manager.Reload(ctx)
	if err != nil {
		return err
	}
	if want := time.Duration(idle) * time.Second; s.manager.Load().Config.Server.Timeout.Idle != want {
		return fmt.Errorf("reload: %s %s", entry.Outcome, entry.Reason)
	}
	return nil
}

func serversDocument(idle int) []byte {
	return fmt.Appendf(nil, "server:\n  timeout:\n    idle: %ds\n", idle)
}

func openServers(ctx context.Context) (_ *servers, err error) {
	gin.SetMode(gin.ReleaseMode)
	s := &servers{addresses: map[string]string{}, source: newMemory(serversDocument(120))}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.manager, err = reload.New(reload.Options[serversConfig]{
		Default: func() serversConfig { return serversConfig{server.Default()} },
		Layers:  []reload.Layer{{Name: "measured", Source: s.source}},
	})
	if err != nil {
		return nil, err
	}
	s.config = func(ctx context.Context) *server.Config { return &s.manager.From(ctx).Config.Server }
	h2 := server.Default()
	h2.H2C, h2.Timeout.Idle = true, h2Idle
	certificate, store, err := s.certificate(ctx)
	if err != nil {
		return nil, err
	}
	secure := server.Default()
	secure.TLS.Mode = server.ModeTLS

	ours, err := s.ours(server.Options{Pin: s.manager.Pin, Config: s.config})
	if err != nil {
		return nil, err
	}
	s.idle = ours
	measured, err := s.ours(server.Options{Pin: s.manager.Pin, Config: s.config, Registerer: prometheus.NewRegistry()})
	if err != nil {
		return nil, err
	}
	overTLS, err := s.ours(server.Options{Pin: s.manager.Pin, Config: fixed(&secure), Certificates: store.Load})
	if err != nil {
		return nil, err
	}
	withH2, err := s.ours(server.Options{Config: fixed(&h2)})
	if err != nil {
		return nil, err
	}
	reload.Subscribe(s.manager, "servers", func(c *serversConfig) server.Config { return c.Server }, func(c server.Config) {
		ours.Apply(c)
		measured.Apply(c)
	})
	if err := s.manager.Start(ctx); err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	s.background(ctx, s.manager.Run)
	return s, errors.Join(
		s.run(ctx, serverOurs, ours), s.run(ctx, serverMeasured, measured),
		s.run(ctx, serverOursTLS, overTLS), s.run(ctx, serverOursH2C, withH2),
		s.static(ctx, serverGin, nil, server.Default().Timeout.Idle), s.static(ctx, serverGinTLS, certificate, server.Default().Timeout.Idle),
		s.static(ctx, serverStockH2C, nil, h2Idle),
	)
}

func fixed(c *server.Config) func(context.Context) *server.Config {
	return func(context.Context) *server.Config { return c }
}

// routes are what all servers serve.
func routes(middleware ...gin.HandlerFunc) *gin.Engine {
	e := gin.New()
	e.Use(middleware...)
	e.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "hello") })
	e.POST("/", func(c *gin.Context) {
		n, err := io.Copy(io.Discard, c.Request.Body)
		if err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		c.String(http.StatusOK, "%d", n)
	})
	return e
}

func (s *servers) ours(o server.Options) (*server.Server, error) {
	o.Handler = routes()
	return server.New(o)
}

func (s *servers) run(ctx context.Context, name string, srv *server.Server) error {
	ln, err := listenHere(ctx)
	if err != nil {
		return err
	}
	s.addresses[name] = ln.Addr().String()
	s.background(ctx, func(ctx context.Context) error {
		err := srv.Run(ctx, []net.Listener{ln})
		if errors.Is(err, server.ErrDrainTimeout) {
			return nil // clients that do not care
		}
		return err
	})
	return nil
}

// static is a gin engine as one runs it without us: the limits of http.Server,
// and the request's by a middleware.
func (s *servers) static(ctx context.Context, name string, certificate *tls.Certificate, idle time.Duration) error {
	ln, err := listenHere(ctx)
	if err != nil {
		return err
	}
	s.addresses[name] = ln.Addr().String()
	t := server.Default().Timeout
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	hs := &http.Server{
		Handler: routes(requestTimeout(t.Request)), Protocols: &protocols, //nolint:contextcheck // its requests have their own
		ReadHeaderTimeout: t.ReadHeader, ReadTimeout: t.Read, WriteTimeout: t.Write, IdleTimeout: idle,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	if name != serverStockH2C {
		protocols.SetUnencryptedHTTP2(false)
	}
	if certificate != nil {
		ln = tls.NewListener(ln, &tls.Config{
			Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		})
	}
	s.background(ctx, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = hs.Close() }) // all its clients have ended
		defer stop()
		if err := hs.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// requestTimeout is the middleware by which a gin service limits its requests.
func requestTimeout(limit time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		ctx, cancel := context.WithTimeout(c.Request.Context(), limit)
		defer cancel()
		c.Request = c.Request.WithContext(ctx)
		c.Next()
	}
}

// background runs f until close, or until ctx ends.
func (s *servers) background(ctx context.Context, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	var err error
	var running sync.WaitGroup
	running.Go(func() { err = f(ctx) })
	s.closers = append(s.closers, func() error {
		cancel()
		running.Wait()
		return err
	})
}

func listenHere(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the measurement: %w", err)
	}
	return ln, nil
}

// certificate is one for loopback, as the rival and as ours want it.
func (s *servers) certificate(ctx context.Context) (*tls.Certificate, *certs.Store, error) {
	own := testcert.SelfSigned("measured", testcert.Hosts("127.0.0.1"))
	cert, key := testcert.PEM(own)
	s.roots = []byte(cert)
	store, err := certs.Open(ctx, certs.Config{Cert: cert, Key: configsrc.Secret(key)}, certs.Options{})
	if err != nil {
		return nil, nil, err
	}
	s.closers = append(s.closers, store.Close)
	return &own, store, nil
}
