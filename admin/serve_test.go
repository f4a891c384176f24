package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are in memory, for the virtual clock.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	close    sync.Once
}

func newPipes() *pipes { return &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// connect returns nil where the listener takes no connection now.
func (p *pipes) connect() net.Conn {
	ours, theirs := net.Pipe()
	synctest.Wait()
	select {
	case p.accepted <- theirs:
		return ours
	default:
		return nil
	}
}

// startPipes serves in memory. The second func ends it.
func startPipes(t *testing.T) (*pipes, func()) {
	t.Helper()
	p, s := newPipes(), &tcp{}
	s.access.Store(&Access{Config: &Config{Token: canary}})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- ServeTCP(ctx, []net.Listener{p}, Handler(s.backend(), nil), s.access.Load, discard())
	}()
	return p, func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// TestSlowClients: each phase that a client can stall ends by itself.
func TestSlowClients(t *testing.T) {
	head := strings.Join(request("localhost"), "\r\n")
	for _, c := range []struct {
		name, sends string
		closed      time.Duration
	}{
		{"nothing", "", readHeaderTimeout},
		{"half a header", "POST /api/v1/reload HTTP/1.1\r\nHost:", readHeaderTimeout},
		{"half a body", strings.ReplaceAll(strings.ReplaceAll(head, "reload", "plan"), "Content-Length: 0", "Content-Length: 9") + "\r\n\r\nx", readTimeout},
		{"idle", head + "\r\n\r\n", idleTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, stop := startPipes(t)
				defer stop()
				conn := p.connect()
				began := time.Now()
				if _, err := io.WriteString(conn, c.sends); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("read: %v", err)
				}
				if took := time.Since(began); took < c.closed || took > c.closed+time.Second {
					t.Errorf("closed after %v, want %v", took, c.closed)
				}
			})
		})
	}
}

// TestStalledReader: an answer that is not read ends too.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := startPipes(t)
		defer stop()
		conn := p.connect()
		if _, err := io.WriteString(conn, strings.Join(request("localhost"), "\r\n")+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second)
		if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := startPipes(t)
		defer stop()
		var open []net.Conn
		for {
			conn := p.connect()
			if conn == nil {
				break
			}
			if open = append(open, conn); len(open) > maxConnections {
				break
			}
		}
		if len(open) != maxConnections {
			t.Errorf("%d connections, want %d", len(open), maxConnections)
		}
		_ = open[0].Close()
		if p.connect() == nil {
			t.Error("no connection after one was closed")
		}
	})
}

func TestHugeRequests(t *testing.T) {
	s := startTCP(t, &Access{Config: &Config{Token: canary}})
	good := request(s.addr)
	big := strings.Repeat("x", 2*maxHeader)
	for _, c := range []struct {
		name   string
		lines  []string
		status int
	}{
		{"a header", append(good, "X-Big: "+big), 431},
		{"many headers", append(good, strings.Split(strings.Repeat("X-Many: 0123456789abcdef\n", 3000), "\n")[:2999]...), 431},
		{"a target", append([]string{"GET /" + big + " HTTP/1.1"}, good[1:]...), 431},
		{"an announced body", append([]string{"POST /api/v1/plan HTTP/1.1"}, with(good[1:], "Content-Length: 1000000000000")...), 413},
		{"an announced body and no token", with(good, "Content-Length: 1000000000000", "Authorization: none"), 401},
	} {
		conn := s.dial(t)
		written := make(chan struct{})
		go func() {
			defer close(written)
			// The service may close the connection before it has all.
			_, _ = io.WriteString(conn, strings.Join(c.lines, "\r\n")+"\r\n\r\n")
			if c.status == 413 {
				_, _ = io.WriteString(conn, strings.Repeat("x", maxDocument+1))
			}
		}()
		a, err := http.ReadResponse(conn.r, nil)
		switch {
		case err == nil:
			_ = a.Body.Close()
			if a.StatusCode != c.status {
				t.Errorf("%s: %d, want %d", c.name, a.StatusCode, c.status)
			}
		case c.status != http.StatusRequestHeaderFieldsTooLarge:
			// Where net/http leaves a part of a header unread, the end of the
			// connection may overtake its answer.
			t.Errorf("%s: %v", c.name, err)
		}
		_ = conn.Close()
		<-written
	}
	if n := s.reached.Load(); n != 0 {
		t.Errorf("%d requests got through", n)
	}
}

func TestServeTCPOnSeveralListeners(t *testing.T) {
	s := &tcp{}
	s.access.Store(&Access{Config: &Config{Token: canary}})
	var listeners []net.Listener
	var lc net.ListenConfig
	for range 3 {
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	s.serve(t, listeners...)
	for _, l := range listeners {
		s.addr = l.Addr().String()
		if a := s.dial(t).ask(t, request(s.addr)...); a.StatusCode != 200 {
			t.Errorf("%s: %d", s.addr, a.StatusCode)
		}
	}
	// They count failures together.
	for i := range failedBurst + 1 {
		s.addr = listeners[i%len(listeners)].Addr().String()
		a := s.dial(t).ask(t, with(request(s.addr), "Authorization: none")...)
		if want := map[bool]int{false: 401, true: 429}[i == failedBurst]; a.StatusCode != want {
			t.Errorf("attempt %d: %d, want %d", i, a.StatusCode, want)
		}
	}
}

// TestServeTCPEndsTogether: a listener that fails ends the others.
func TestServeTCPEndsTogether(t *testing.T) {
	broken, whole := &brokenListener{pipes: newPipes()}, newPipes()
	access := func() *Access { return nil }
	err := ServeTCP(t.Context(), []net.Listener{whole, broken}, Handler(Backend{}, nil), access, discard())
	if !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
	if _, err := whole.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the other listener: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ServeTCP(ctx, nil, Handler(Backend{}, nil), access, discard()); err != nil {
		t.Errorf("no listeners: %v", err)
	}
}

var errBroken = errors.New("broken")

type brokenListener struct{ *pipes }

func (*brokenListener) Accept() (net.Conn, error) { return nil, errBroken }
