package liveconn

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// descriptor is a connection in memory that looks as if it had a descriptor.
type descriptor struct{ net.Conn }

func (descriptor) SyscallConn() (syscall.RawConn, error) { return nil, syscall.ENOTSUP }

// moving is a service whose connections may move.
type moving struct {
	*service
	feed *pipes
}

const listenerKey = "127.0.0.1:80"

func serveMoving(t *testing.T, tr transport, timeouts Timeouts, handler http.HandlerFunc) *moving {
	t.Helper()
	s := &moving{serve(t, tr, timeouts, handler), newPipes()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.server.Serve(s.feed)
	}()
	t.Cleanup(func() {
		_ = s.feed.Close()
		<-done
	})
	return s
}

func (s *moving) connect(t *testing.T) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	s.pipes.conns <- descriptor{theirs}
	return newClient(ours)
}

// moveTo moves what may, until nothing more comes.
func (s *moving) moveTo(t *testing.T, to *moving) int {
	t.Helper()
	s.Move(map[string]bool{listenerKey: true})
	sweep := s.Sweep()
	for sweep.Next(3) == 3 {
		synctest.Wait()
	}
	synctest.Wait()
	s.Move(nil)
	conns := s.Take(1000)
	for _, c := range conns {
		moved := to.Adopt(c.NetConn(), c.Origin(), ListenerOptions{Key: c.Key(), H2C: s.transport.h2c})
		to.feed.conns <- moved
		c.forget() // and not Moved, which would close a pipe
	}
	synctest.Wait()
	return len(conns)
}

// named answers with the name of the server that has served it.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %s", name, r.Method, r.URL.Path, body)
	}
}

// Whatever a client has sent, its requests are served whole, in order, once, and
// the connection moves exactly when nothing of it was read.
func TestWhatMoves(t *testing.T) {
	post := func(path, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\nHost: x\nContent-Length: %d\n\n%s", path, len(body), body)
	}
	for _, c := range []struct {
		name       string
		before     string   // sent before the move
		answers    []string // to it, before the move
		moves      bool
		then       string
		thenAnswer string
	}{
		{name: "new", moves: true, then: post("/1", "a"), thenAnswer: "new POST /1 a"},
		{
			name: "idle", before: post("/1", "a"), answers: []string{"old POST /1 a"},
			moves: true, then: post("/2", "b"), thenAnswer: "new POST /2 b",
		},
		{
			name: "pipelined", before: post("/1", "a") + post("/2", "b"), answers: []string{"old POST /1 a", "old POST /2 b"},
			moves: true, then: post("/3", "c"), thenAnswer: "new POST /3 c",
		},
		{name: "one byte of a new one", before: "P", then: post("/1", "a")[1:], thenAnswer: "old POST /1 a"},
		{
			name: "one byte glued", before: post("/1", "a") + "P", answers: []string{"old POST /1 a"},
			then: post("/2", "b")[1:], thenAnswer: "old POST /2 b",
		},
		{
			name: "three bytes glued", before: post("/1", "a") + "POS", answers: []string{"old POST /1 a"},
			then: post("/2", "b")[3:], thenAnswer: "old POST /2 b",
		},
		{
			name: "ten bytes glued", before: post("/1", "a") + post("/2", "b")[:10], answers: []string{"old POST /1 a"},
			then: post("/2", "b")[10:], thenAnswer: "old POST /2 b",
		},
		{
			name: "half a body", before: post("/1", "a") + post("/2", "bbbb")[:len(post("/2", "bbbb"))-2], answers: []string{"old POST /1 a"},
			then: "bb", thenAnswer: "old POST /2 bbbb",
		},
		{
			// What is in the buffer ends with a line: its rest looks empty.
			name:    "a line that ends with the buffer",
			before:  "GET /1 HTTP/1.1\nHost: x\n\n" + "GET /2 HTTP/1.1\nX: " + strings.Repeat("x", 4096-26-2-len("GET /2 HTTP/1.1\nX: ")-1) + "\n",
			answers: []string{"old GET /1 "}, then: "Host: x\n\n", thenAnswer: "old GET /2 ",
		},
	} {
		for _, h2c := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, h2c %v", c.name, h2c), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr := transport{h2c: h2c, key: listenerKey}
					older, newer := serveMoving(t, tr, Timeouts{}, named("old")), serveMoving(t, tr, Timeouts{}, named("new"))
					cl := older.connect(t)
					if c.before != "" {
						cl.sendSoon(c.before)
					}
					for _, want := range c.answers {
						if got := cl.receive(t); got != want {
							t.Fatalf("answer %q, want %q", got, want)
						}
					}
					synctest.Wait()
					n := older.moveTo(t, newer)
					if moved := n == 1; moved != c.moves {
						t.Fatalf("%d moved", n)
					}
					cl.sendSoon(c.then)
					if got := cl.receive(t); got != c.thenAnswer {
						t.Errorf("answer %q, want %q", got, c.thenAnswer)
					}
					if c.moves != older.Empty() || c.moves == newer.Empty() {
						t.Errorf("open in the old %v, in the new %v", older.Counts(), newer.Counts())
					}
				})
			})
		}
	}
}

// A connection goes from one to the next and back, used or not.
func TestMovesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transport{key: listenerKey, h2c: true}
		one, two := serveMoving(t, tr, Timeouts{}, named("one")), serveMoving(t, tr, Timeouts{}, named("two"))
		used, unused := one.connect(t), one.connect(t)
		for range 3 {
			if n := one.moveTo(t, two); n != 2 {
				t.Fatalf("%d moved", n)
			}
			if n := two.moveTo(t, one); n != 2 {
				t.Fatalf("%d moved back", n)
			}
			used.send(t, get)
			if got := used.receive(t); got != "one GET / " {
				t.Fatalf("answer %q", got)
			}
		}
		unused.send(t, get)
		if got := unused.receive(t); got != "one GET / " {
			t.Errorf("answer %q", got)
		}
		if n := one.MovedCount(); n != 0 {
			t.Errorf("%d counted, and nobody said so", n)
		}
	})
}

// Time goes on where it was.
func TestMovedTimeouts(t *testing.T) {
	for name, c := range map[string]struct {
		ask  bool // first
		want time.Duration
	}{"idle": {true, 10 * time.Second}, "new": {false, 4 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, timeouts := transport{key: listenerKey}, Timeouts{ReadHeader: 4 * time.Second, Idle: 10 * time.Second}
				older, newer := serveMoving(t, tr, timeouts, hello), serveMoving(t, tr, timeouts, hello)
				cl := older.connect(t)
				if c.ask {
					cl.send(t, get)
					cl.receive(t)
				}
				began := time.Now()
				time.Sleep(3 * time.Second)
				if n := older.moveTo(t, newer); n != 1 {
					t.Fatalf("%d moved", n)
				}
				state := StateIdle
				if !c.ask {
					state = StateNew
				}
				if n := newer.Counts()[Class{KindHTTP1, state}]; n != 1 {
					t.Errorf("it is counted as %v", newer.Counts())
				}
				<-cl.ended()
				if took := time.Since(began); took != c.want {
					t.Errorf("closed after %v, want %v", took, c.want)
				}
			})
		})
	}
}

// Connections that must not move do not: of another listener, with TLS, with
// HTTP/2, hijacked; and none after the end of the move.
func TestWhatDoesNotMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveMoving(t, transport{key: listenerKey, tls: true}, Timeouts{}, hello)
		ours, theirs := net.Pipe()
		s.pipes.conns <- descriptor{theirs}
		secure := tls.Client(ours, s.certs)
		defer func() { _ = ours.Close() }()
		c := newClient(secure)
		s.connect(t) // one that has said nothing
		c.send(t, get)
		c.receive(t)
		synctest.Wait()
		if n := s.moveTo(t, s); n != 0 {
			t.Errorf("%d with TLS moved", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := serveMoving(t, transport{key: "127.0.0.1:81"}, Timeouts{}, hello)
		s.connect(t)
		synctest.Wait()
		if n := s.moveTo(t, s); n != 0 {
			t.Errorf("%d of another listener moved", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := serveMoving(t, transport{key: listenerKey, h2c: true}, Timeouts{}, hello)
		c := s.connect(t)
		c.send(t, "PRI * HTTP/2.0\n\nSM\n\n")
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
		_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // SETTINGS
		synctest.Wait()
		if n := s.moveTo(t, s); n != 0 {
			t.Errorf("%d with HTTP/2 moved", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := serveMoving(t, transport{key: listenerKey}, Timeouts{}, hello)
		c := s.connect(t)
		s.Move(map[string]bool{listenerKey: true})
		s.Move(nil)
		c.send(t, get)
		if got := c.receive(t); got != "hello" {
			t.Errorf("answer %q", got)
		}
		if s.Leaving() != 0 {
			t.Error("it was detached after the end of the move")
		}
	})
}

// What was detached and not taken by anybody is served again.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveMoving(t, transport{key: listenerKey}, Timeouts{Idle: time.Minute}, hello)
		c := s.connect(t)
		c.send(t, get)
		c.receive(t)
		synctest.Wait()
		s.Move(map[string]bool{listenerKey: true})
		if n := s.Sweep().Next(10); n != 1 {
			t.Fatalf("%d asked", n)
		}
		<-s.Detached()
		if n := s.Counts()[Class{KindHTTP1, StateMoved}]; n != 1 || s.Empty() {
			t.Errorf("counted as %v", s.Counts())
		}
		s.Move(nil)
		for _, restored := range s.Restore(s.Take(10)) {
			s.feed.conns <- restored
		}
		c.send(t, get)
		if got := c.receive(t); got != "hello" {
			t.Errorf("answer %q", got)
		}
		synctest.Wait()
		if n := s.Counts()[Class{KindHTTP1, StateIdle}]; n != 1 {
			t.Errorf("counted as %v", s.Counts())
		}
	})
}

// The list of connections says what each of them is, the oldest first.
func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveMoving(t, transport{key: listenerKey}, Timeouts{}, hello)
		began := time.Now()
		idle := s.connect(t)
		time.Sleep(time.Second)
		s.connect(t)
		time.Sleep(time.Second)
		idle.send(t, get)
		idle.receive(t)
		synctest.Wait()
		want := []Info{
			{Class{KindHTTP1, StateIdle}, listenerKey, "pipe", began, began.Add(2 * time.Second)},
			{Class{KindHTTP1, StateNew}, listenerKey, "pipe", began.Add(time.Second), began.Add(time.Second)},
		}
		if d := cmp.Diff(want, s.List(0)); d != "" {
			t.Errorf("list (-want +got):\n%s", d)
		}
		if d := cmp.Diff(want[:1], s.List(1)); d != "" {
			t.Errorf("list of one (-want +got):\n%s", d)
		}
	})
}

// sendSoon sends what is read later, if at all: a pipe has no buffer.
func (c *client) sendSoon(text string) {
	go func() { _, _ = io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")) }()
}
