package liveconn

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What this package leans on in net/http, one rule a test. The timeouts of the
// http.Server are 0. A test that fails here with a new Go version names the rule
// that it has broken; Conn is to be changed then, before that version is used.

// tape records what net/http does to a connection.
type tape struct {
	net.Conn
	mu     sync.Mutex
	events []string
	sizes  []int // of the buffers it reads into
}

func (c *tape) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, fmt.Sprintf(format, args...))
}

func (c *tape) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.sizes = append(c.sizes, len(p))
	c.mu.Unlock()
	return c.Conn.Read(p)
}

func (c *tape) SetReadDeadline(t time.Time) error {
	c.note("read %s", deadlineWord(t))
	return c.Conn.SetReadDeadline(t)
}

func (c *tape) SetWriteDeadline(t time.Time) error {
	c.note("write %s", deadlineWord(t))
	return c.Conn.SetWriteDeadline(t)
}

func (c *tape) SetDeadline(t time.Time) error {
	c.note("both %s", deadlineWord(t))
	return c.Conn.SetDeadline(t)
}

func deadlineWord(t time.Time) string {
	switch {
	case t.IsZero():
		return "none"
	case t.Before(time.Now()):
		return "past"
	}
	return "later"
}

// tapes wraps what it accepts.
type tapes struct {
	*pipes
	last *tape
}

func (l *tapes) Accept() (net.Conn, error) {
	nc, err := l.pipes.Accept()
	if err != nil {
		return nil, err
	}
	l.last = &tape{Conn: nc}
	return l.last, nil
}

// record plays f against a plain http.Server and returns what that did to the
// connection.
func record(t *testing.T, protocols *http.Protocols, handler http.HandlerFunc, f func(c *client)) *tape {
	t.Helper()
	var got *tape
	synctest.Test(t, func(t *testing.T) {
		l := &tapes{pipes: newPipes()}
		s := &http.Server{
			Protocols: protocols, Handler: handler,
			ConnState: func(nc net.Conn, state http.ConnState) {
				nc.(*tape).note("%v", state)
			},
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Serve(l)
		}()
		nc := l.dial(t)
		c := newClient(nc)
		f(c)
		synctest.Wait()
		l.last.mu.Lock()
		got = &tape{events: slices.Clone(l.last.events), sizes: slices.Clone(l.last.sizes)}
		l.last.mu.Unlock()
		_ = nc.Close()
		_ = s.Close()
		<-done
		time.Sleep(time.Minute) // for the handler
	})
	return got
}

func (c *tape) want(t *testing.T, rule string, want ...string) {
	t.Helper()
	got := c.events[:min(len(c.events), len(want))]
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("net/http no longer keeps the rule: %s\nall it did: %s\ndifference (-rule +net/http):\n%s",
			rule, strings.Join(c.events, ", "), d)
	}
}

func readBody(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

func slow(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }

func TestConformance(t *testing.T) {
	const (
		ruleNew    = "a new connection: the read deadline is cleared when the header is whole, then the connection is active"
		ruleNoBody = ruleNew + "; without a body it is cleared once more, for the background read"
		ruleBody   = ruleNew + "; it is not touched again until the body has ended"
		ruleEnd    = "the end of a request: an interruption of the background read, then no deadlines, then idle"
		ruleIdle   = "an idle connection: the read deadline is cleared before the first byte of a request, " +
			"once more after its first bytes, and again when the header is whole"
	)
	begin := []string{"new", "read none", "active"}
	end := []string{"read past", "read none", "write none", "idle", "read none"}

	t.Run("half a header", func(t *testing.T) {
		c := record(t, nil, hello, func(c *client) { c.send(t, "GET / HTTP/1.1\nHost:") })
		c.want(t, "nothing happens to a connection before the header is whole", "new")
		if len(c.events) != 1 {
			t.Errorf("more happens: %v", c.events)
		}
	})
	t.Run("no body", func(t *testing.T) {
		c := record(t, nil, slow, func(c *client) { c.send(t, get) })
		c.want(t, ruleNoBody, append(begin, "read none")...)
	})
	t.Run("a body", func(t *testing.T) {
		c := record(t, nil, readBody, func(c *client) {
			c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 10\n\nhalf")
		})
		c.want(t, ruleBody, begin...)
		if len(c.events) != len(begin) {
			t.Errorf("net/http no longer keeps the rule: %s; it did %v", ruleBody, c.events)
		}
	})
	t.Run("the end of a body", func(t *testing.T) {
		c := record(t, nil, func(w http.ResponseWriter, r *http.Request) { readBody(w, r); slow(w, r) }, func(c *client) {
			c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 4\n\nbody")
		})
		c.want(t, "the read deadline is cleared at the end of a body, for the background read", append(begin, "read none")...)
	})
	t.Run("idle", func(t *testing.T) {
		c := record(t, nil, hello, func(c *client) {
			c.send(t, get)
			c.receive(t)
		})
		c.want(t, ruleEnd, append(append(begin, "read none"), end...)...)
		if n := len(c.events); n != 4+len(end) {
			t.Errorf("net/http no longer keeps the rule: %s; it did %v", ruleIdle, c.events)
		}
	})
	t.Run("three bytes after an answer", func(t *testing.T) {
		c := record(t, nil, hello, func(c *client) {
			c.send(t, get)
			c.receive(t)
			synctest.Wait()
			c.send(t, "GET")
		})
		if n := len(c.events); n != 4+len(end) {
			t.Errorf("net/http now acts on the first bytes of a header: %v", c.events)
		}
	})
	t.Run("half a header after an answer", func(t *testing.T) {
		c := record(t, nil, hello, func(c *client) {
			c.send(t, get)
			c.receive(t)
			synctest.Wait()
			c.send(t, "GET / HT")
		})
		c.want(t, ruleIdle, append(append(append(begin, "read none"), end...), "read none")...)
	})
	t.Run("half a header that came with the request before", func(t *testing.T) {
		c := record(t, nil, hello, func(c *client) {
			c.send(t, get+"GET / HT")
			c.receive(t)
		})
		c.want(t, ruleIdle, append(append(append(begin, "read none"), end...), "read none")...)
	})
	t.Run("a second request", func(t *testing.T) {
		c := record(t, nil, hello, func(c *client) {
			for range 2 {
				c.send(t, get)
				c.receive(t)
				synctest.Wait()
			}
		})
		c.want(t, ruleIdle, append(append(append(append(begin, "read none"), end...), "read none", "read none", "active", "read none"), end...)...)
	})
	t.Run("a connection taken over", func(t *testing.T) {
		c := record(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = nc.Close()
		}, func(c *client) { c.send(t, get) })
		c.want(t, "a hijack interrupts the background read, clears both deadlines, and only then says so",
			append(begin, "read none", "read past", "read none", "both none", "hijacked")...)
		for _, event := range c.events {
			if event == "closed" {
				t.Error("net/http now reports the end of a hijacked connection")
			}
		}
	})
	t.Run("HTTP/2 without TLS", func(t *testing.T) {
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		c := record(t, &protocols, hello, func(c *client) {
			go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
			c.send(t, "PRI * HTTP/2.0\n\nSM\n\n")
			_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // SETTINGS
		})
		c.want(t, "both deadlines are cleared before HTTP/2 begins; it is active for a moment and then idle",
			"new", "read none", "write none", "active", "idle")
	})
	t.Run("the buffer", func(t *testing.T) {
		c := record(t, nil, hello, func(c *client) {
			c.send(t, get)
			c.receive(t)
		})
		// What moves idle connections to another process leans on this: see the
		// description of the package.
		want := []int{4096, 1, 4096}
		if d := cmp.Diff(want, c.sizes); d != "" {
			t.Errorf("net/http no longer keeps the rule: an empty buffer is read into whole, 4096 bytes, and in the background 1 (-want +got):\n%s", d)
		}
	})
}
