package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/internal/memnet"
)

// bubble is what a test under virtual time works with.
type bubble struct {
	t *testing.T
	s *running
	l *memnet.Listener
}

// dial is a new connection of a client.
func (b bubble) dial() *raw {
	b.t.Helper()
	nc, err := b.l.Dial(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = nc.Close() })
	return newRaw(b.t, nc)
}

// inBubble runs a test of a Server under virtual time, and checks how long the
// drain took from the stop on, to the millisecond.
func inBubble(t *testing.T, o Options, edit func(*Config), wantDrain time.Duration, wantErr error, f func(bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := memnet.Listen()
		s := startOn(t, []net.Listener{l}, o, edit)
		f(bubble{t, s, l})
		synctest.Wait()
		began := time.Now()
		s.stop()
		<-s.ended
		if !errors.Is(s.err, wantErr) {
			t.Errorf("Run returned %v, want %v", s.err, wantErr)
		}
		if took := time.Since(began).Round(time.Millisecond); took != wantDrain {
			t.Errorf("the drain took %s, want %s", took, wantDrain)
		}
	})
}

func TestDrainTakes(t *testing.T) {
	idle := func(b bubble) {
		c := b.dial()
		c.send(b.t, getRoot)
		c.receive(b.t)
	}
	slow := handler(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(7 * time.Second):
			hello(w, r)
		}
	})
	for _, tt := range []struct {
		name  string
		h     http.Handler
		limit time.Duration
		want  time.Duration
		err   error
		f     func(bubble)
	}{
		{"nothing: no time", handler(hello), 30 * time.Second, 0, nil, func(bubble) {}},
		{"idle: the linger", handler(hello), 30 * time.Second, maxLinger, nil, idle},
		{"idle for long: the linger all the same", handler(hello), 30 * time.Second, maxLinger, nil, func(b bubble) {
			idle(b)
			time.Sleep(time.Minute / 2)
		}},
		{"idle, short limit: half of it", handler(hello), 500 * time.Millisecond, 250 * time.Millisecond, nil, idle},
		{"new: the header's time", handler(hello), 30 * time.Second, Default().Timeout.ReadHeader, nil, func(b bubble) {
			b.dial()
		}},
		{"half a header: the header's time", handler(hello), 30 * time.Second, Default().Timeout.ReadHeader, nil, func(b bubble) {
			c := b.dial()
			c.send(b.t, "GET /")
			// net/http answers 400 if its timer is the first, and a pipe has no buffer.
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}},
		{"a byte after an answer: the header's time", handler(hello), 30 * time.Second, Default().Timeout.ReadHeader, nil, func(b bubble) {
			c := b.dial()
			c.send(b.t, getRoot)
			c.receive(b.t)
			synctest.Wait() // for idleness
			c.send(b.t, "G")
		}},
		{"new, shorter limit: nothing is lost", handler(hello), 3 * time.Second, 3 * time.Second, nil, func(b bubble) {
			b.dial()
		}},
		{"half a header, shorter limit", handler(hello), 3 * time.Second, 3 * time.Second, ErrDrainTimeout, func(b bubble) {
			b.dial().send(b.t, "GET /")
		}},
		{"a request: its time", slow, 30 * time.Second, 7 * time.Second, nil, func(b bubble) {
			c := b.dial()
			c.send(b.t, getRoot)
			go func() { _, _ = c.r.ReadByte() }()
		}},
		{"a request, shorter limit", slow, 5 * time.Second, 5 * time.Second, ErrDrainTimeout, func(b bubble) {
			b.dial().send(b.t, getRoot)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Options{Handler: tt.h}, drainTime(tt.limit), tt.want, tt.err, tt.f)
		})
	}
}

// server.drain.timeout is read again during the drain.
func TestDrainTimeoutIsLive(t *testing.T) {
	stuck := handler(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for name, tt := range map[string]struct {
		first, second, want time.Duration
	}{
		"shorter":      {time.Hour, 12 * time.Second, 12 * time.Second},
		"longer":       {15 * time.Second, time.Minute, time.Minute},
		"over already": {time.Hour, time.Second, 10*time.Second + drainCheck},
	} {
		t.Run(name, func(t *testing.T) {
			edit := func(c *Config) {
				c.Drain.Timeout = tt.first
				c.Timeout.Request = 0
			}
			inBubble(t, Options{Handler: stuck}, edit, tt.want, ErrDrainTimeout, func(b bubble) {
				b.dial().send(b.t, getRoot)
				changed := Default()
				changed.Drain.Timeout = tt.second
				// 10 s after the stop, which follows at once; 1 ms later, so that it
				// does not fall together with a check.
				time.AfterFunc(10*time.Second+time.Millisecond, func() { b.s.config.Store(&changed) })
			})
		})
	}
}

// The default of 15 s, without waiting for it.
func TestDefaultRequestTime(t *testing.T) {
	inBubble(t, Options{Handler: handler(untilDone)}, func(*Config) {}, 0, nil, func(b bubble) {
		c := b.dial()
		began := time.Now()
		c.send(b.t, "GET / HTTP/1.1\nHost: x\nConnection: close\n\n")
		wantProblem(b.t, c.receive(b.t), 503, "server.timeout.request")
		if took := time.Since(began); took != 15*time.Second {
			b.t.Errorf("answered after %s", took)
		}
	})
}

// Without server.timeout.write an answer takes as long as it likes.
func TestLongAnswerIsNotCutOff(t *testing.T) {
	edit := func(c *Config) { c.Timeout.Request, c.Timeout.Write = 0, 0 }
	h := handler(func(w http.ResponseWriter, _ *http.Request) {
		for range 10 {
			time.Sleep(time.Minute)
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
		}
	})
	inBubble(t, Options{Handler: h}, edit, maxLinger, nil, func(b bubble) {
		c := b.dial()
		if err := c.SetDeadline(time.Time{}); err != nil {
			b.t.Fatal(err)
		}
		c.send(b.t, getRoot)
		if a := c.receive(b.t); a.body != "xxxxxxxxxx" {
			b.t.Errorf("answer %q", a.body)
		}
	})
}
