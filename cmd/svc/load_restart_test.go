//go:build linux

package main

import (
	"testing"
	"time"

	clients "github.com/hotsvc/svc/internal/load"
)

// TestRestartsUnderLoad: no client notices a restart, whatever it speaks.
func TestRestartsUnderLoad(t *testing.T) {
	const pace = 500 * time.Millisecond
	for _, c := range []struct {
		name, network string
		secure, h2    bool
		restarts      int
		think         time.Duration
	}{
		{name: "tcp", network: "tcp", restarts: 30, think: 5 * time.Second},
		// What cannot move is left to its client, which uses it before the drain's end.
		{name: "TLS", network: "tcp", secure: true, restarts: 10, think: 2 * time.Second},
		{name: "h2", network: "tcp", secure: true, h2: true, restarts: 10, think: 5 * time.Second},
		{name: "unix", network: "unix", restarts: 10, think: 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startRecorder(t, c.network, c.secure, recorder{Generations: 2 * c.restarts})
			r.target.HTTP2 = c.h2
			l, err := clients.Start(t.Context(), clients.Options{
				Target: r.target, Fresh: 8, Busy: 16, Idle: 200,
				ThinkMin: time.Millisecond, ThinkMax: c.think, Timeout: 20 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			ticker := time.NewTicker(pace)
			for range c.restarts {
				r.restart()
				<-ticker.C
			}
			ticker.Stop()
			took := time.Since(began)
			seen, err := l.Stop()
			if err != nil {
				t.Fatal(err)
			}
			known := r.known()
			t.Logf("%d restarts in %v, %.0f ms each", known.Restarts, took, 1000*known.RestartSeconds/float64(known.Restarts))
			wantNoFailure(t, seen)
			if known.Restarts != uint64(c.restarts) || known.Failed != 0 {
				t.Errorf("%d restarts, %d failed, want %d", known.Restarts, known.Failed, c.restarts)
			}
			if !c.secure && seen.Busy.Kept+seen.Idle.Kept != 16+200 {
				t.Errorf("connections were not kept: %d of 16 busy ones, %d of 200 idle ones", seen.Busy.Kept, seen.Idle.Kept)
			}
			r.alone()
			r.stopped()
			executions, err := l.Executions(r.path(recorderRecord))
			if err != nil {
				t.Fatal(err)
			}
			if want := (clients.Executions{Executed: seen.Requests()}); executions != want {
				t.Errorf("executions %+v, want %+v", executions, want)
			}
			if cut := r.cuts(); len(cut) > 0 {
				t.Errorf("cut off: %q", cut)
			}
		})
	}
}
