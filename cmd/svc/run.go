package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/certs"
	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/socket"
)

//go:embed default.yaml
var defaultDocument []byte

func newRunCommand(b *bootstrap) *cobra.Command {
	var alone bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve, and follow the config source",
		Long: `Serve, and follow the config source until a signal ends it.

The process that this starts is the keeper: it holds the listening sockets, and a
worker of the same program serves. A change that needs a restart, "svc restart"
and USR2 start a new worker, of the program as it is on disk then; when that
accepts, the old one finishes its requests and ends.

With no source configured it follows ./config.yaml, and writes that file with
every default and a comment where it is missing.

Signals: TERM and INT finish the requests under way and stop, a second one stops
at once; HUP reads the sources again; USR2 restarts gracefully; QUIT writes all
goroutines of all processes to stderr.

Exit codes: 0 after a stop that finished its requests, 1 it did not start, or
requests were cut.`,
		Example: "  svc run\n  svc run --file /etc/svc.yaml --set server.listen=0.0.0.0:80",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context(), alone) },
	}
	cmd.Flags().BoolVar(&alone, "no-keeper", false, "serve in this process alone, for debuggers; a restart is a stop and a start then")
	return cmd
}

// run serves until a signal, or the end of ctx, stops it. It is called in the
// keeper's process and in each worker's.
func (b *bootstrap) run(ctx context.Context, alone bool) error {
	if err := b.resolve(); err != nil {
		return err
	}
	// What can be told before anything is made, is.
	if _, err := b.layers(); err != nil {
		return err
	}
	for _, name := range []string{adminSocket, keeper.Socket} {
		if err := admin.CheckSocketPath(filepath.Join(b.stateDir, name)); err != nil {
			return err
		}
	}
	level := new(slog.LevelVar)
	s := &service{bootstrap: b, log: newLogger(b.stderr, level), level: level, registry: prometheus.NewRegistry(), counted: prometheus.NewRegistry()}
	s.counters = newCounters(s.counted)
	o := keeper.Options{StateDir: b.stateDir, Version: version, Direct: alone, Logger: s.log, Stderr: b.stderr}
	if keeper.IsWorker() {
		return keeper.Run(ctx, o, s.run)
	}
	state, err := openStateDir(b.stateDir)
	if err != nil {
		return err
	}
	if state.open {
		s.log.Warn("the state folder is open to other users; it holds values of the config", "path", b.stateDir)
	}
	if err = s.writeDefault(); err == nil {
		err = keeper.Run(ctx, o, s.run)
	}
	return errors.Join(err, state.close())
}

// service is one generation of the service.
type service struct {
	*bootstrap
	log          *slog.Logger
	level        *slog.LevelVar
	registry     *prometheus.Registry // of this process
	counted      *prometheus.Registry // of what goes on from one generation to the next
	counters     *counters
	tickets      *certs.Tickets
	worker       *keeper.Worker
	manager      *reload.Manager[Config]
	certificates certificates
	server       *server.Server
	addresses    []string // it listens on: the service's first, then the operator's
	since        time.Time
}

// run is the work of a generation.
func (s *service) run(ctx context.Context, w *keeper.Worker) error {
	s.worker = w
	s.tickets = s.ticketKeys()
	if w.Kept() {
		s.log = s.log.With("generation", w.Generation())
	}
	sockets, err := s.wire() //nolint:contextcheck // its handlers have their requests' contexts
	if err != nil {
		return err
	}
	if err := s.manager.Start(ctx); err != nil {
		return s.startError(err)
	}
	operator, err := w.Listen(ctx, []string{"unix:" + filepath.Join(s.stateDir, adminSocket)}, 0o600)
	if err != nil {
		return err
	}
	return s.serve(ctx, operator, sockets.Get(s.manager.Load()))
}

// wire makes the parts and connects them. It opens nothing.
func (s *service) wire() (*reload.Resource[Config, *listeners], error) {
	var err error
	s.manager, err = s.newManager(reload.Options[Config]{
		StateDir: s.stateDir, Logger: s.log, Registerer: s.counted,
		Restart: s.worker.Restarter(), Handed: s.worker.Content(), Applied: s.worker.SetContent, Settled: s.worker.Settled(),
	})
	if err != nil {
		return nil, err
	}
	m := s.manager
	// A start takes an outdated certificate: the service is not better off
	// without any.
	s.certificates = registerCertificates(m, s.log, func() bool { return m.Load() == nil })
	sockets := registerListeners(m, s.worker)
	s.server, err = server.New(server.Options{
		Pin:          m.Pin,
		Config:       func(ctx context.Context) *server.Config { return &m.From(ctx).Config.Server },
		Certificates: s.certificates.serverMaterial,
		Handler:      server.Engine(server.RouteOptions{Public: s.public}),
		Logger:       s.log,
		AccessLogger: accessLogger(s.log, func(ctx context.Context) bool { return m.From(ctx).Config.Log.Access }),
		Registerer:   keptRegisterer{s.counted},
		Tickets:      s.tickets,
	})
	if err != nil {
		return nil, err
	}
	reload.Subscribe(m, "server", func(c *Config) server.Config { return c.Server }, s.server.Apply)
	reload.Subscribe(m, "log level",
		func(c *Config) string { return c.Log.Level },
		func(text string) { _ = s.level.UnmarshalText([]byte(text)) }) // validated
	reload.Subscribe(m, "admin", func(c *Config) admin.Config { return c.Admin }, s.warnReadable)
	s.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newGenerationMetrics(s), newExpiries(s.certificates),
	)
	return sockets, nil
}

// serve runs the parts and ends them in turn: first the server, which finishes
// its requests, then the manager they read from, then the operator's listeners.
func (s *service) serve(ctx context.Context, operator []net.Listener, sockets *listeners) error {
	serverCtx, stopServer := context.WithCancel(ctx)
	defer stopServer()
	managerCtx, stopManager := context.WithCancel(context.WithoutCancel(ctx))
	defer stopManager()
	service, others := sockets.take()
	s.addresses = append(shownAddresses(service), shownAddresses(others)...)
	s.since = time.Now().UTC()
	all := slices.Concat(operator, others)
	api := &operatorAPI{service: s, socket: socket.KeyOf(operator[0]), failed: stopServer}

	next := &succession{service: s}
	hearing, deaf := context.WithCancel(context.WithoutCancel(ctx))
	defer deaf()
	var managing, listening sync.WaitGroup
	listening.Go(func() { s.listen(hearing) })
	var managerErr error
	err := s.worker.Serve(serverCtx, s.server, service, keeper.Hooks{
		Others: all,
		Began: func() {
			managing.Go(func() {
				managerErr = s.manager.Run(managerCtx)
				stopServer() // nobody follows the config any more
			})
			wait := hearTime
			if s.worker.Content() == nil {
				wait = 0 // there was none before
			}
			s.keepTickets()
			api.start(all, wait) //nolint:contextcheck // its requests have contexts
			s.log.Info("serving", "addresses", shownAddresses(service), "admin", shownAddresses(others),
				"revision", s.manager.Load().ID, "config", s.describeSource(), "state", s.stateDir, "version", version)
		},
		HandedOver: func() { //nolint:contextcheck // what it begins ends with next.end
			s.manager.Suspend()
			next.begin(api.stop)
		},
		Resumed: func(cause error, again []net.Listener) { //nolint:contextcheck // as above
			s.manager.Return(cause)
			next.end()
			s.counters.resume()
			api.start(again, 0)
		},
		Reload: s.reload,
	})
	stopManager()
	managing.Wait()
	deaf()
	listening.Wait()
	if next.end() {
		s.tell(s.counters.unsaid(), true)
	}
	api.stop()
	if err == nil {
		s.log.Info("stopped")
	}
	return errors.Join(err, managerErr, api.err)
}

// reload re-reads the sources because a signal asked for it.
func (s *service) reload(ctx context.Context) {
	entry, err := s.reloadNow(ctx)
	if err != nil {
		s.log.Error("re-read on signal", "error", err)
		return
	}
	s.log.Info("re-read on signal", "outcome", entry.Outcome, "revision", entry.Revision)
}

func (s *service) public(ctx context.Context) (string, map[string]any) {
	r := s.manager.From(ctx)
	return r.ID, r.Config.Public
}

// describeSource says where the settings are, for people.
func (b *bootstrap) describeSource() string { return "file " + cmp.Or(b.file, defaultFile) }

// fileIsThere is false where a start would write the default config.
func (b *bootstrap) fileIsThere() bool {
	if b.file != "" || b.getenv("SVC_SOURCE") != "" {
		return true // or it is an error that it is not
	}
	_, err := os.Lstat(defaultFile)
	return !errors.Is(err, fs.ErrNotExist)
}

// writeDefault writes the commented default config where no file was named,
// none is there, and no last good content would start the service either.
func (s *service) writeDefault() error {
	if s.fileIsThere() {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.stateDir, "last-good.json")); err == nil {
		return nil
	}
	f, err := os.OpenFile(defaultFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // a config file is for all to read, as any other
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write default config: %w; name a config file with --file", err)
	}
	_, err = f.Write(defaultDocument)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write default config: %w", err)
	}
	s.log.Info("wrote "+defaultFile+" with every default: edit it while the service runs, and watch it follow", "path", defaultFile)
	return nil
}

// startError adds what to do about it.
func (s *service) startError(err error) error {
	switch {
	case errors.Is(err, configsrc.ErrNotFound):
		return fmt.Errorf("%w; make the file, or name another with --file or SVC_FILE", err)
	case errors.Is(err, configsrc.ErrDenied):
		return fmt.Errorf("%w; let this user read it", err)
	}
	if s.manager.Status().Last.Outcome == reload.Refused {
		return fmt.Errorf("%w; \"svc validate\" checks a config without starting it", err)
	}
	return err
}
