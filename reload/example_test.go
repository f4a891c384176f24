package reload_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hotsvc/svc/configsrc/file"
	"github.com/hotsvc/svc/reload"
)

// Config is an application's settings.
type Config struct {
	Limit   int           `config:"limit" reload:"live" validate:"min=1"`
	Timeout time.Duration `config:"timeout" reload:"live"`
	Workers int           `config:"workers"` // a change needs a restart
}

// A manager follows a file; a good edit takes effect, a bad one changes nothing.
func Example() {
	dir, _ := os.MkdirTemp("", "reload")
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "config.yaml")
	edit := func(text string) { _ = os.WriteFile(path, []byte(text), 0o600) }
	edit("limit: 10")

	source, err := file.New(path, file.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := reload.New(reload.Options[Config]{
		Default: func() Config { return Config{Limit: 1, Timeout: time.Second, Workers: 4} },
		Layers:  []reload.Layer{{Name: "file", Address: path, Source: source}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := m.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	fmt.Println("limit", m.Load().Config.Limit)

	edit("limit: 20\ntimeout: 1500")
	_, _ = m.Reload(ctx) // or wait: it follows the file by itself
	fmt.Println("limit", m.Load().Config.Limit, "timeout", m.Load().Config.Timeout)

	edit("limit: 0")
	_, _ = m.Reload(ctx)
	fmt.Println("limit", m.Load().Config.Limit, m.Status().Last.Outcome)

	cancel()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
	// Output:
	// limit 10
	// limit 20 timeout 1.5s
	// limit 20 refused
}
