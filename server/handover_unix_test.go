//go:build unix

package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// duplicate is another descriptor of a listener's socket, as a process of its own
// would have one.
func duplicate(tb testing.TB, ln net.Listener) net.Listener {
	tb.Helper()
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(p uintptr) { fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || dupErr != nil {
		tb.Fatal(err, dupErr)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer func() { _ = f.Close() }()
	dup, err := net.FileListener(f)
	if err != nil {
		tb.Fatal(err)
	}
	return dup
}

// pair is a connected pair of unix sockets.
func pair(tb testing.TB, kind int) (a, b *net.UnixConn) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		tb.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			tb.Fatal(err)
		}
		nc, err := fileConn(fd)
		if err != nil {
			tb.Fatal(err)
		}
		conns[i] = nc.(*net.UnixConn)
		tb.Cleanup(func() { _ = nc.Close() })
	}
	return conns[0], conns[1]
}

// generations are servers that follow each other on one socket.
type generations struct {
	socket  net.Listener
	handler http.Handler
	edit    []func(*Config)
	current *running
	kind    int // of the pairs
}

func startGenerations(tb testing.TB, h http.Handler, edit ...func(*Config)) *generations {
	tb.Helper()
	listeners, err := Listen(tb.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listeners[0].Close() })
	g := &generations{socket: listeners[0], handler: h, edit: edit, kind: unix.SOCK_STREAM}
	g.current = g.start(tb)
	return g
}

func (g *generations) start(tb testing.TB) *running {
	tb.Helper()
	r := startOn(tb, []net.Listener{duplicate(tb, g.socket)}, Options{Handler: g.handler, Logger: slog.New(slog.DiscardHandler)}, g.edit...)
	eventually(tb, "serving", func() bool { return len(r.Addrs()) > 0 })
	return r
}

func (g *generations) key() string { return addressOf(g.socket) }

// adoption is an Adopt under way.
type adopting struct {
	done chan struct{}
	err  error
}

func adopt(s *Server, from *net.UnixConn) *adopting {
	a := &adopting{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = s.Adopt(context.Background(), from)
	}()
	return a
}

// wait returns what Adopt returned.
func (a *adopting) wait(tb testing.TB) error {
	tb.Helper()
	select {
	case <-a.done:
		return a.err
	case <-time.After(20 * time.Second):
		tb.Fatal("Adopt did not return within 20 s")
		return nil
	}
}

// next starts the next generation and hands over to it. It returns the one
// before.
func (g *generations) next(tb testing.TB) (old *running, a *adopting) {
	tb.Helper()
	old, g.current = g.current, g.start(tb)
	to, from := pair(tb, g.kind)
	a = adopt(g.current.Server, from)
	old.Handover(keeper.Handover{Kept: map[string]bool{g.key(): true}, Moves: to, By: time.Now().Add(20 * time.Second)})
	return old, a
}

// once counts how often each request was executed.
type once struct {
	mu   sync.Mutex
	seen map[string]int
}

func (o *once) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "mangled", http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	o.seen[r.URL.Path]++
	o.mu.Unlock()
	_, _ = w.Write(body)
}

// Connections that are used in every way, one request behind the other and cut
// anywhere, pass from generation to generation: no request fails, none is
// executed twice, none is mangled, and no connection ends.
func TestHandoverHammer(t *testing.T) {
	const (
		handovers = 25
		clients   = 24
	)
	o := &once{seen: map[string]int{}}
	g := startGenerations(t, o, func(c *Config) { c.Timeout.ReadHeader = time.Minute })
	addr := g.socket.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var sent atomic.Int64
	for i := range clients {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 5))
			nc, err := net.Dial("tcp", addr) //nolint:noctx // a test
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = nc.Close() }()
			br := bufio.NewReader(nc)
			for n := 0; ctx.Err() == nil; n++ {
				if err := askSome(nc, br, r, fmt.Sprintf("/%d/%d", i, n)); err != nil {
					t.Errorf("client %d, request %d: %v", i, n, err)
					return
				}
				sent.Add(1)
				if n%3 == 0 {
					time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond)
				}
			}
		})
	}
	idle := dial(t, addr) // is never used, and moves all the same
	moved := uint64(0)
	for range handovers {
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		old, a := g.next(t)
		old.Settle()
		if err := old.wait(t); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if err := a.wait(t); err != nil {
			t.Errorf("Adopt returned %v", err)
		}
		moved += old.registry.MovedCount()
	}
	cancel()
	all.Wait()
	idle.send(t, "POST /idle HTTP/1.1\nHost: x\nContent-Length: 1\n\nx")
	if a := idle.receive(t); a.StatusCode != http.StatusOK || a.body != "x" {
		t.Errorf("the idle connection: %s %q", a.Status, a.body)
	}
	for path, n := range o.seen {
		if n != 1 {
			t.Errorf("%s was executed %d times", path, n)
		}
	}
	t.Logf("%d rounds, %d requests, %d moves", sent.Load(), len(o.seen), moved)
	if moved < handovers {
		t.Errorf("only %d connections have moved", moved)
	}
}

// askSome sends one to four requests glued together and cut anywhere.
func askSome(nc net.Conn, br *bufio.Reader, r *rand.Rand, path string) error {
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	var text strings.Builder
	bodies := make([]string, 1+r.IntN(4))
	for i := range bodies {
		bodies[i] = strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(6000))
		fmt.Fprintf(&text, "POST %s/%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, i, len(bodies[i]), bodies[i])
	}
	out := text.String()
	sent := make(chan error, 1)
	cuts := [2]int{1 + r.IntN(3), r.IntN(len(out))}
	go func() {
		for _, cut := range cuts {
			n := min(cut, len(out))
			if _, err := io.WriteString(nc, out[:n]); err != nil {
				sent <- err
				return
			}
			out = out[n:]
			time.Sleep(time.Millisecond)
		}
		_, err := io.WriteString(nc, out)
		sent <- err
	}()
	for i, want := range bodies {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || string(got) != want || res.Close {
			return fmt.Errorf("answer %d: %s, %d bytes of %d, close %v: %w", i, res.Status, len(got), len(want), res.Close, err)
		}
	}
	return <-sent
}
