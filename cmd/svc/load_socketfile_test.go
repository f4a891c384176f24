//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// socketProbe looks at a unix socket all the time: that its path is there, and
// that it connects, and is answered.
type socketProbe struct {
	path    string
	probes  int
	answers int
	errs    []error
}

func (p *socketProbe) run(ctx context.Context) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := p.probe(context.WithoutCancel(ctx)); err != nil {
			p.errs = append(p.errs, fmt.Errorf("probe %d: %w", p.probes, err))
		}
		p.probes++
		<-ticker.C
	}
}

func (p *socketProbe) probe(ctx context.Context) error {
	if info, err := os.Lstat(p.path); err != nil || info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("the path: %w", err)
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", p.path)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	if p.probes%8 != 0 {
		return nil
	}
	p.answers++
	return exchange(nc, true)
}

// TestRestartsOfUnixSocket: the path is there and connects at all times, whatever
// is restarted or killed, and moves with the config.
func TestRestartsOfUnixSocket(t *testing.T) {
	t.Parallel()
	// TempDir's names are too long for a socket.
	dir, err := os.MkdirTemp("", "svc") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	first, second := dir+"/first", dir+"/second"
	listen := func(path string) []string { return []string{"unix:" + path} }
	r := startFollowed(t, settings{"server.listen": listen(first), "server.drain.overlap": "1s"})
	probed := func(path string, during func()) {
		t.Helper()
		probe := &socketProbe{path: path}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var probing sync.WaitGroup
		probing.Go(func() { probe.run(ctx) })
		during()
		stop()
		probing.Wait()
		t.Logf("%d probes of the path, %d answers", probe.probes, probe.answers)
		if len(probe.errs) > 0 || probe.answers < 5 {
			t.Errorf("%d of %d probes failed: %v", len(probe.errs), probe.probes, probe.errs[:min(3, len(probe.errs))])
		}
	}
	probed(first, func() {
		for range 10 {
			r.restart()
			time.Sleep(50 * time.Millisecond)
		}
	})
	r.alone()

	// To another path, back before that was given up, and to the other again.
	probed(first, func() {
		r.change("server.listen", listen(second))
		r.change("server.listen", listen(first))
		r.alone()
	})
	probed(first, func() { r.change("server.listen", listen(second)) }) // and the overlap goes on
	probed(second, func() {
		r.eventually("the end of the path that was given up", func() bool {
			_, err := os.Lstat(first)
			return errors.Is(err, fs.ErrNotExist)
		})
		r.alone()
	})

	// A run that was killed leaves its file behind, which is in nobody's way.
	pids := append(r.workers(), r.cmd.Process.Pid)
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.exited()
	if _, err := os.Lstat(second); err != nil {
		t.Fatalf("a killed run leaves no file: %v", err)
	}
	again := &followed{r.start(), r.settings}
	probed(second, func() { again.restart() })
	again.alone()

	// What is not the service's socket any more is not removed.
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(second, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again.change("server.listen", listen(first))
	probed(first, again.alone)
	again.stopped()
	if _, err := os.Lstat(second); err != nil {
		t.Errorf("a file of somebody else: %v", err)
	}
	if _, err := os.Lstat(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left after the stop: %v", err)
	}
}
