//go:build unix

package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/liveconn"
)

// idleOn makes connections that have had an answer.
func idleOn(t *testing.T, r *running, n int) []*raw {
	t.Helper()
	conns := make([]*raw, n)
	for i := range conns {
		conns[i] = dial(t, r.addr)
		conns[i].send(t, getRoot)
		conns[i].receive(t)
	}
	eventually(t, "idle connections", func() bool { return r.count(liveconn.KindHTTP1, liveconn.StateIdle) >= n })
	return conns
}

// stillServed has an answer on each connection.
func stillServed(t *testing.T, conns []*raw) {
	t.Helper()
	for i, c := range conns {
		c.send(t, getRoot)
		if a := c.receive(t); a.body != "hello" {
			t.Errorf("connection %d: %s %q", i, a.Status, a.body)
		}
	}
}

func (g *generations) handover(moves *net.UnixConn) keeper.Handover {
	return keeper.Handover{Kept: map[string]bool{g.key(): true}, Moves: moves, By: time.Now().Add(time.Minute)}
}

// On a pair of either type everything moves, more than fits one message.
func TestEverythingMoves(t *testing.T) {
	for name, kind := range map[string]int{"stream": unix.SOCK_STREAM, "seqpacket": unix.SOCK_SEQPACKET} {
		t.Run(name, func(t *testing.T) {
			g := startGenerations(t, handler(hello))
			g.kind = kind
			conns := idleOn(t, g.current, maxBatch+50)
			old, a := g.next(t)
			old.Settle()
			if err := errors.Join(old.wait(t), a.wait(t)); err != nil {
				t.Error(err)
			}
			if n := old.registry.MovedCount(); n != uint64(len(conns)) {
				t.Errorf("%d moved", n)
			}
			if n := g.current.count(liveconn.KindHTTP1, liveconn.StateIdle); n != len(conns) {
				t.Errorf("%v in the new one", g.current.Connections())
			}
			stillServed(t, conns)
		})
	}
}

// A connection looks the same in the next process: not blocking, alive probes as
// before.
func TestMovedSocketKeepsItsOptions(t *testing.T) {
	g := startGenerations(t, handler(hello))
	conns := idleOn(t, g.current, 1)
	options := func(r *running) map[string]int {
		got := map[string]int{}
		for _, c := range r.conns() {
			raw, err := c.NetConn().(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			err = raw.Control(func(fd uintptr) {
				flags, _ := unix.FcntlInt(fd, unix.F_GETFL, 0)
				got["nonblock"] = flags & unix.O_NONBLOCK
				got["cloexec"], _ = unix.FcntlInt(fd, unix.F_GETFD, 0)
				got["nodelay"], _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
				got["keepalive"], _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
				got["interval"], _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
				got["count"], _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	before := options(g.current)
	old, a := g.next(t)
	old.Settle()
	if err := errors.Join(old.wait(t), a.wait(t)); err != nil {
		t.Error(err)
	}
	after := options(g.current)
	for name, want := range before {
		if after[name] != want {
			t.Errorf("%s was %d and is %d", name, want, after[name])
		}
	}
	if before["nonblock"] == 0 || len(after) == 0 {
		t.Errorf("before %v, after %v", before, after)
	}
	stillServed(t, conns)
}

// conns are the connections by what a move would take of them.
func (r *running) conns() []*liveconn.Conn {
	r.registry.Move(map[string]bool{r.registry.List(1)[0].Key: true})
	r.registry.Sweep().Next(100)
	for r.registry.Leaving() < len(r.registry.List(0)) {
		<-r.registry.Detached()
	}
	r.registry.Move(nil)
	taken := r.registry.Take(100)
	restored := make(chan []*liveconn.Conn, 1)
	r.tell(func(run *run) {
		run.startFeed()
		again := r.registry.Restore(taken)
		for _, c := range again {
			run.feed.serve(c)
		}
		restored <- again
	})
	return <-restored
}

// Connections to a unix socket move too.
func TestUnixSocketConnectionsMove(t *testing.T) {
	path := t.TempDir() + "/s"
	listeners, err := Listen(t.Context(), []string{"unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	old := startOn(t, listeners, Options{Handler: handler(hello)})
	var d net.Dialer
	nc, err := d.DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, nc)
	c.send(t, getRoot)
	c.receive(t)
	eventually(t, "idle connection", func() bool { return old.count(liveconn.KindHTTP1, liveconn.StateIdle) == 1 })
	successor := start(t, Options{Handler: handler(hello)})
	to, from := pair(t, unix.SOCK_STREAM)
	a := adopt(successor.Server, from)
	old.Handover(keeper.Handover{Kept: map[string]bool{"unix:" + path: true}, Moves: to, By: time.Now().Add(time.Minute)})
	old.Settle()
	if err := errors.Join(old.wait(t), a.wait(t)); err != nil {
		t.Error(err)
	}
	stillServed(t, []*raw{c})
}

// What the successor does not take stays here: it dies, it dies with a batch it
// has not answered, it is stuck and the drain is undone, or another one comes.
func TestSuccessorThatDoesNotTakeThem(t *testing.T) {
	served := func(t *testing.T, g *generations, conns []*raw) {
		t.Helper()
		eventually(t, "return of the connections", func() bool {
			return g.current.count(liveconn.KindHTTP1, liveconn.StateMoved) == 0
		})
		stillServed(t, conns)
		if n := g.current.registry.MovedCount(); n != 0 {
			t.Errorf("%d are counted as moved", n)
		}
	}
	t.Run("dead before", func(t *testing.T) {
		g := startGenerations(t, handler(hello))
		conns := idleOn(t, g.current, 3)
		to, from := pair(t, unix.SOCK_STREAM)
		_ = from.Close()
		g.current.Handover(g.handover(to))
		served(t, g, conns)
	})
	t.Run("dies with a batch", func(t *testing.T) {
		g := startGenerations(t, handler(hello))
		conns := idleOn(t, g.current, 3)
		to, from := pair(t, unix.SOCK_STREAM)
		g.current.Handover(g.handover(to))
		_, taken, err := newBatchReader(from).next()
		if err != nil || len(taken) != 3 {
			t.Fatalf("%d connections, %v", len(taken), err)
		}
		for _, nc := range taken {
			_ = nc.Close()
		}
		_ = from.Close()
		served(t, g, conns)
	})
	t.Run("is stuck", func(t *testing.T) {
		g := startGenerations(t, handler(hello))
		conns := idleOn(t, g.current, 3)
		to, from := pair(t, unix.SOCK_STREAM)
		g.current.Handover(g.handover(to))
		eventually(t, "move", func() bool { return g.current.count(liveconn.KindHTTP1, liveconn.StateMoved) == 3 })
		g.current.Resume(nil)
		served(t, g, conns)
		// It comes to itself, too late.
		a := adopt(start(t, Options{Handler: handler(hello)}).Server, from)
		if err := a.wait(t); err == nil {
			t.Error("Adopt returned nil")
		}
		stillServed(t, conns)
	})
	t.Run("is stuck for long", func(t *testing.T) {
		g := startGenerations(t, handler(hello))
		conns := idleOn(t, g.current, 3)
		to, _ := pair(t, unix.SOCK_STREAM)
		g.current.Handover(g.handover(to))
		eventually(t, "move", func() bool { return g.current.count(liveconn.KindHTTP1, liveconn.StateMoved) == 3 })
		served(t, g, conns) // within moveTimeout
	})
	t.Run("another one", func(t *testing.T) {
		g := startGenerations(t, handler(hello))
		conns := idleOn(t, g.current, 3)
		old := g.current
		to, from := pair(t, unix.SOCK_STREAM)
		old.Handover(g.handover(to))
		eventually(t, "move", func() bool { return old.count(liveconn.KindHTTP1, liveconn.StateMoved) == 3 })
		_, a := g.next(t)
		old.Settle()
		if err := errors.Join(old.wait(t), a.wait(t)); err != nil {
			t.Error(err)
		}
		if late := adopt(g.current.Server, from); late.wait(t) == nil {
			t.Error("the former successor could still answer")
		}
		stillServed(t, conns)
	})
}

// A server does not end while it reads what comes from its predecessor, and
// passes it on.
func TestAdoptBeforeTheEnd(t *testing.T) {
	g := startGenerations(t, handler(hello))
	conns := idleOn(t, g.current, 2)
	first := g.current
	to, from := pair(t, unix.SOCK_STREAM)
	middle := g.start(t)
	g.current = middle
	a := adopt(middle.Server, from)
	eventually(t, "adoption", func() bool {
		n := make(chan int, 1)
		middle.tell(func(r *run) { n <- len(r.adopting) })
		return <-n == 1
	})
	_, b := g.next(t) // from middle to last
	middle.Settle()
	select {
	case <-middle.ended:
		t.Fatal("Run returned while a stream was read")
	case <-time.After(50 * time.Millisecond):
	}
	first.Handover(g.handover(to))
	first.Settle()
	if err := errors.Join(first.wait(t), a.wait(t), middle.wait(t), b.wait(t)); err != nil {
		t.Error(err)
	}
	if n := g.current.count(liveconn.KindHTTP1, liveconn.StateIdle); n != 2 {
		t.Errorf("%v in the last one", g.current.Connections())
	}
	stillServed(t, conns)
}

// The end of the context, or of the server, ends an adoption.
func TestAdoptEnds(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)})
	_, from := pair(t, unix.SOCK_STREAM)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.Adopt(ctx, from); !errors.Is(err, context.Canceled) {
		t.Errorf("Adopt returned %v", err)
	}
	_, from = pair(t, unix.SOCK_STREAM)
	a := adopt(s.Server, from)
	eventually(t, "adoption", func() bool {
		n := make(chan int, 1)
		s.tell(func(r *run) { n <- len(r.adopting) })
		return <-n == 1
	})
	s.stop()
	if err := a.wait(t); !errors.Is(err, context.Canceled) {
		t.Errorf("Adopt returned %v", err)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// A server with TLS takes no connection without.
func TestAdoptWithTLS(t *testing.T) {
	s := startTLS(t, Options{Handler: handler(hello)}, nil)
	_, from := pair(t, unix.SOCK_STREAM)
	if err := s.Adopt(t.Context(), from); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("Adopt returned %v", err)
	}
	if s.Plain() {
		t.Error("it is plain")
	}
}

// A message that is not of this protocol takes nothing in, and what came with it
// is closed.
func TestBadBatches(t *testing.T) {
	header := func(version byte, rest string) []byte {
		return append([]byte{'s', 'v', 'c', 'm', version, 0, 0, 0, 0, 0, byte(len(rest) >> 8), byte(len(rest))}, rest...)
	}
	good := `{"keys":["k"],"conns":[{"key":0,"open":1,"idle":1}]}`
	for name, c := range map[string]struct {
		message []byte
		files   int
		want    string
	}{
		"nothing of it":   {[]byte("GET / HTTP/1.1\r\n\r\n"), 1, "no batch"},
		"short":           {[]byte("svcm"), 1, "no batch"},
		"newer":           {header(2, good), 1, "version 2, this one by 1"},
		"no JSON":         {header(1, "x"), 1, "read a batch"},
		"too few files":   {header(1, good), 0, "1 connections came with 0"},
		"too many files":  {header(1, good), 2, "1 connections came with 2"},
		"no such key":     {header(1, strings.Replace(good, `"key":0`, `"key":1`, 1)), 1, "cannot be"},
		"from the future": {header(1, strings.Replace(good, `"idle":1`, `"idle":-1`, 1)), 1, "cannot be"},
		"cut":             {header(1, good)[:30], 1, "EOF"},
		"too long":        {[]byte{'s', 'v', 'c', 'm', 1, 0, 0, 0, 255, 255, 255, 255}, 1, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{Handler: handler(hello)})
			a, b := pair(t, unix.SOCK_STREAM)
			ours, theirs := pair(t, unix.SOCK_STREAM)
			raw, err := theirs.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var rights []byte
			_ = raw.Control(func(fd uintptr) {
				if c.files > 0 {
					rights = unix.UnixRights([]int{int(fd), int(fd)}[:c.files]...)
				}
			})
			if _, _, err := a.WriteMsgUnix(c.message, rights, nil); err != nil {
				t.Fatal(err)
			}
			_ = a.CloseWrite()
			_ = theirs.Close()
			if err := s.Adopt(t.Context(), b); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Adopt returned %v", err)
			}
			if n, err := ours.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("a descriptor is still open: %d, %v", n, err)
			}
			if n, _ := a.Read(make([]byte, 1)); n != 0 {
				t.Error("it was answered")
			}
		})
	}
}

// A batch that a newer process has written with more in it is read all the same.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`{"keys":["k"],"conns":[{"key":0,"open":1,"idle":1,"new":true,"more":1}],"more":{}}`), 1)
	f.Add([]byte(`{"keys":[],"conns":[]}`), 0)
	f.Fuzz(func(t *testing.T, rest []byte, files int) {
		b, err := decodeBatch(append(make([]byte, movesHeader), rest...), files)
		if err != nil {
			return
		}
		if len(b.Conns) != files || files == 0 {
			t.Errorf("%d connections of %d descriptors", len(b.Conns), files)
		}
		for _, c := range b.Conns {
			if b.Keys[c.Key] == "" || c.origin(time.Unix(0, 0)).Since.After(time.Unix(0, 0)) {
				t.Errorf("connection %+v of %q", c, b.Keys)
			}
		}
		if _, err := json.Marshal(b); err != nil {
			t.Error(err)
		}
	})
}
