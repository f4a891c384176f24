// Command hello is a gin program that follows hello.yaml with the library's packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hotsvc/svc/configsrc/file"
	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/keeper"
)

// Config is the program's own settings beside those of the server.
type Config struct {
	Server   server.Config `config:"server"`
	Workers  int           `config:"workers" validate:"min=1"`                 // needs a restart
	Greeting string        `config:"greeting" reload:"live" validate:"max=99"` // changes in place
	Visitors string        `config:"visitors" reload:"live"`                   // the file that names are written to
}

func main() {
	err := keeper.Run(context.Background(), keeper.Options{Logger: slog.Default()}, func(ctx context.Context, w *keeper.Worker) error {
		return run(ctx, w, "hello.yaml")
	})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// run is the work of one process. A change that needs a restart starts another.
func run(ctx context.Context, w *keeper.Worker, path string) error {
	source, err := file.New(path, file.Options{})
	if err != nil {
		return err
	}
	m, err := reload.New(reload.Options[Config]{
		Default: func() Config { return Config{server.Default(), 2, "Hello", os.DevNull} },
		Layers:  []reload.Layer{{Name: "file", Address: path, Source: source, Quiet: 300 * time.Millisecond}},
		Logger:  slog.Default(),
		Restart: w.Restarter(), Handed: w.Content(), Applied: w.SetContent, Settled: w.Settled(),
	})
	if err != nil {
		return err
	}
	// Opened anew when the setting changes; closed when its last request has ended.
	visitors := reload.Register(m, "visitors", func(c *Config) string { return c.Visitors },
		func(_ context.Context, name string) (*os.File, error) {
			return os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the operator names it
		})
	router := gin.New()
	router.GET("/hello/:name", func(c *gin.Context) { //nolint:contextcheck // its context is the request's
		rev := m.From(c.Request.Context()) // one revision for the whole request
		_, _ = fmt.Fprintln(visitors.Get(rev), c.Param("name"))
		c.String(200, "%s, %s! (%d workers)\n", rev.Config.Greeting, c.Param("name"), rev.Config.Workers)
	})
	settings := func(ctx context.Context) *server.Config { return &m.From(ctx).Config.Server }
	srv, err := server.New(server.Options{Pin: m.Pin, Config: settings, Handler: router})
	if err != nil {
		return err
	}
	// Timeouts and limits follow on connections that are open, too.
	reload.Subscribe(m, "server", func(c *Config) server.Config { return c.Server }, srv.Apply)
	if err := m.Start(ctx); err != nil {
		return err
	}
	listeners, err := w.Listen(ctx, m.Load().Config.Server.Listen, 0o660)
	if err != nil {
		return err
	}
	var following sync.WaitGroup
	var followed error
	ctxFollow, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the last request has ended
	err = w.Serve(ctx, srv, listeners, keeper.Hooks{
		Began:      func() { following.Go(func() { followed = m.Run(ctxFollow) }) },
		HandedOver: m.Suspend,
		Resumed:    func(cause error, _ []net.Listener) { m.Return(cause) },
	})
	stop()
	following.Wait()
	return errors.Join(err, followed)
}
