package liveconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// idleH2 is an HTTP/2 connection that is idle and read, and its client's end.
func idleH2(t *testing.T, timeouts Timeouts) (c *Conn, peer net.Conn, read *operation) {
	t.Helper()
	peer, theirs := net.Pipe()
	c = NewRegistry(timeouts).add(theirs, ListenerOptions{})
	c.h2.on = true
	c.to(http.StateActive)
	c.to(http.StateIdle)
	t.Cleanup(func() { _, _ = peer.Close(), theirs.Close() })
	return c, peer, start(func() (int, error) { return c.Read(make([]byte, 9)) })
}

const goAwaySize = 17

// No GOAWAY is written beside another frame, and no stream begins beside a
// GOAWAY; one that the client does not take ends the connection.
func TestGoAwayStandsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := idleH2(t, Timeouts{Idle: 10 * time.Second})
		frame := bytes.Repeat([]byte("x"), 100)
		w := start(func() (int, error) { return c.Write(frame) })
		time.Sleep(20 * time.Second)
		synctest.Wait()
		c.mu.Lock()
		if c.h2.leaving != nil {
			t.Error("a GOAWAY is written beside another frame")
		}
		c.mu.Unlock()
		if _, err := io.ReadFull(peer, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		<-w.done
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		active := start(func() (int, error) { c.to(http.StateActive); return 0, nil })
		synctest.Wait()
		if active.over() {
			t.Error("a stream begins beside a GOAWAY")
		}
		b := make([]byte, goAwaySize)
		if _, err := io.ReadFull(peer, b); err != nil || b[3] != byte(http2.FrameGoAway) {
			t.Errorf("read %v, %v", b, err)
		}
		<-active.done
	})
	synctest.Test(t, func(t *testing.T) {
		_, _, read := idleH2(t, Timeouts{Idle: 10 * time.Second})
		began := time.Now()
		<-read.done
		if took := read.at.Sub(began); !errors.Is(read.err, io.EOF) || took < 10*time.Second || took > 13*time.Second {
			t.Errorf("ended with %v after %v", read.err, took)
		}
	})
}

// A request after the GOAWAY makes the grace begin again.
func TestGraceBeginsWithTheLastStream(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		s := serve(t, tr, Timeouts{Idle: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			hello(w, r)
		})
		c := s.h2(t)
		time.Sleep(12 * time.Second)
		c.open(1, false)
		at(t, time.Now(), time.Minute+goAwayGrace-tick, "closed", false, c.closed)
	})
}

// The deadlines of a handler on HTTP/2 win, also over what is left at its end.
func TestH2OwnDeadlines(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		handled := make(chan error, 1)
		s := serve(t, tr, Timeouts{Read: time.Second, Write: time.Second}, func(w http.ResponseWriter, r *http.Request) {
			live := w.(*answering).live
			live.OwnReadDeadline()
			live.OwnWriteDeadline()
			hello(w, r)
			_, err := io.ReadAll(r.Body)
			handled <- err
		})
		c := s.h2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		c.open(1, true)
		reset := func() bool { return c.has("reset INTERNAL_ERROR") || c.has("reset NO_ERROR") }
		at(t, time.Now(), time.Hour, "reset", false, reset)
		c.write(func(f *http2.Framer) error { return f.WriteData(1, true, []byte("body")) })
		if err := <-handled; err != nil {
			t.Errorf("the body ends with %v", err)
		}
		at(t, time.Now(), time.Hour, "reset", false, reset)
	})
}

// The time of an answer on HTTP/2 is that of the whole, the rest after the
// handler included, and there is one for an empty answer.
func TestH2AnswerIsAWhole(t *testing.T) {
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    time.Duration // until the reset; 0: none
	}{
		"in pieces": {func(w http.ResponseWriter, _ *http.Request) {
			for range 30 {
				_, _ = w.Write([]byte("x"))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
			}
		}, 10 * time.Second},
		"left by a slow handler": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("x"))
			time.Sleep(6 * time.Second)
		}, 10 * time.Second},
		"empty": {func(http.ResponseWriter, *http.Request) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inEach(t, func(t *testing.T, tr transport) {
				t.Helper()
				s := serve(t, tr, Timeouts{Write: 10 * time.Second}, tt.handler)
				window := uint32(0)
				if name == "in pieces" {
					window = 1000
				}
				c := s.h2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
				c.open(1, false)
				reset := func() bool { return c.has("reset INTERNAL_ERROR") }
				began := time.Now()
				if tt.want > 0 {
					at(t, began, tt.want-tick, "reset", false, reset)
				}
				at(t, began, 12*time.Second, "reset", tt.want > 0, reset)
				time.Sleep(time.Minute) // for the handler
				if !c.has("headers") && tt.want == 0 {
					t.Error("no answer")
				}
			})
		})
	}
}

// noDeadlines is the writer of a stream that has ended.
type noDeadlines struct{ http.ResponseWriter }

func (noDeadlines) SetReadDeadline(time.Time) error  { panic("after the end") }
func (noDeadlines) SetWriteDeadline(time.Time) error { panic("after the end") }

// What comes late for a request is not told.
func TestAfterTheEnd(t *testing.T) {
	r, live := begin(t, t.Context(), Timeouts{Request: time.Minute})
	c := live.Conn()
	due := c.alarm.due
	var second Request
	second.Begin(t.Context(), c, nil, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), time.Now())
	if !c.alarm.due.Equal(due) {
		t.Error("the alarm was moved, and would not have come too late")
	}
	second.End()
	live.End()
	live.writer = noDeadlines{}
	end{request: live, body: true, sent: true}.tell()
	if c.inside.first != nil {
		t.Error("a request has ended and is in the list")
	}
	c.to(http.StateClosed)
	if c.alarm.timer.Stop() || !r.Empty() {
		t.Error("the alarm of a closed connection is set")
	}
}

func TestDoneIsAskedForAfterTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, live := begin(t, context.WithValue(context.Background(), testKey{}, 1), Timeouts{Request: time.Second})
		time.Sleep(2 * time.Second)
		wantEnd(t, "the context", live, context.DeadlineExceeded)
		live.End()
	})
}

// A drain counts from its own start and from the GOAWAY; after it nothing is
// read, what has arrived included.
func TestDrainHasPatience(t *testing.T) {
	c := NewRegistry(Timeouts{}).add(&lateConn{}, ListenerOptions{})
	c.to(http.StateIdle)
	began := c.since.Add(time.Hour)
	if due := c.closeIdle(began, began, time.Second, time.Time{}); !due.Equal(began.Add(time.Second)) {
		t.Errorf("due at %v", due)
	}
	c.h2.on = true
	c.h2.left = began.Add(time.Hour)
	if due := c.closeIdle(c.h2.left, began, time.Second, time.Time{}); !due.Equal(c.h2.left.Add(time.Second)) {
		t.Errorf("due at %v after the GOAWAY", due)
	}
	c.cutOff()
	if n, err := c.Read(make([]byte, 9)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v, after everything was closed", n, err)
	}
}

// bothConn returns bytes and an error at once, as a net.Conn may.
type bothConn struct{ lateConn }

func (c *bothConn) Read(p []byte) (int, error) { return copy(p, "GET"), os.ErrDeadlineExceeded }

func TestBytesWinOverADeadline(t *testing.T) {
	r := NewRegistry(Timeouts{})
	c := r.add(&bothConn{}, ListenerOptions{})
	if n, err := c.Read(make([]byte, 9)); n != 3 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if n := r.Counts()[Class{KindHTTP1, StateActive}]; n != 1 {
		t.Errorf("%d connections are active with half a header", n)
	}
}

// The header's time begins with the end of the handshake.
func TestHandshakeAndHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, transport{tls: true}, Timeouts{ReadHeader: 5 * time.Second}, hello)
		began := time.Now()
		nc := s.pipes.dial(t)
		time.Sleep(3 * time.Second)
		secure := tls.Client(nc, s.certs)
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-newClient(secure).ended()
		if took := time.Since(began); took != 8*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// An own deadline of a handler that has taken the connection over ends one
// write, and not the connection.
func TestHijackedWritesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := NewRegistry(Timeouts{Write: time.Second}).add(theirs, ListenerOptions{})
		c.to(http.StateActive)
		c.to(http.StateHijacked)
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
		_ = c.SetWriteDeadline(time.Time{})
		go func() {
			time.Sleep(time.Hour)
			_, _ = io.ReadFull(ours, make([]byte, 1))
		}()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("write again: %v", err)
		}
		_, _ = c.Close(), ours.Close()
	})
}

// gate is a connection below of which a Read returns bytes when it is told to.
type gate struct {
	lateConn
	open chan struct{}
}

func (c *gate) Read(p []byte) (int, error) {
	<-c.open
	return copy(p, "GET /"), nil
}

// Bytes that were on their way up when the connection was given up are not
// handed on.
func TestBytesAfterTheDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &gate{open: make(chan struct{})}
		c := NewRegistry(Timeouts{}).add(below, ListenerOptions{})
		c.to(http.StateIdle)
		read := start(func() (int, error) { return c.Read(make([]byte, 9)) })
		synctest.Wait()
		c.closeIdle(time.Now(), time.Now(), 0, time.Time{})
		close(below.open)
		if <-read.done; read.n != 0 || !errors.Is(read.err, io.EOF) {
			t.Errorf("read %d bytes, %v", read.n, read.err)
		}
	})
}

// crumbs is a connection of a client that sends and receives a little a second.
type crumbs struct{ net.Conn }

func (c crumbs) Write(p []byte) (int, error) {
	for i := 0; i < len(p); i += 1500 {
		time.Sleep(time.Second)
		if _, err := c.Conn.Write(p[i:min(len(p), i+1500)]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (c crumbs) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return c.Conn.Read(p[:min(len(p), 1500)])
}

// Deadlines that come in the middle of a TLS record, and too soon by the value
// that counts, are not seen above: TLS could not go on after them.
func TestDeadlinesWithinRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, transport{tls: true}, Timeouts{Read: 20 * time.Second, Write: 20 * time.Second}, echo)
		secure := tls.Client(crumbs{s.pipes.dial(t)}, s.certs)
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		go func() { // each value is replaced before its end, and the deadline set for it comes
			for d := 25 * time.Second; ; d += 4 * time.Second {
				select {
				case <-stop:
					return
				case <-time.After(4 * time.Second):
					s.SetTimeouts(Timeouts{Read: d, Write: d})
				}
			}
		}()
		defer close(stop)
		body := bytes.Repeat([]byte("0123456789"), 30_000)
		began := time.Now()
		c := newClient(secure)
		c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 300000\n\n"+string(body))
		if got := c.receive(t); got != string(body) {
			t.Errorf("%d bytes, want %d, or others", len(got), len(body))
		}
		if took := time.Since(began); took < 6*time.Minute {
			t.Errorf("it took %v, less than many deadlines", took)
		}
	})
}

// A handler may go on after the end of its body's time, which it is told once.
func TestH2HandlerGoesOnAfterItsBody(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		s := serve(t, tr, Timeouts{Read: time.Second}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			time.Sleep(time.Minute)
			hello(w, r)
		})
		c := s.h2(t)
		c.open(1, true)
		at(t, time.Now(), 62*time.Second, "answer", true, func() bool { return c.has("headers") })
	})
}
