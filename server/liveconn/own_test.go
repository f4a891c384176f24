package liveconn

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A deadline that a handler sets wins over the live value, none included, until
// the request ends.
func TestOwnDeadlineWins(t *testing.T) {
	for _, tr := range transports() {
		for _, tt := range []struct {
			name string
			own  time.Duration // 0: none
			want time.Duration // 0: never
		}{{"shorter", time.Second, time.Second}, {"longer", time.Minute, time.Minute}, {"none", 0, 0}} {
			deadline := func() time.Time {
				if tt.own == 0 {
					return time.Time{}
				}
				return time.Now().Add(tt.own)
			}
			play := func(t *testing.T, request string, handler func(*http.ResponseController, http.ResponseWriter, *http.Request) error) {
				t.Helper()
				synctest.Test(t, func(t *testing.T) {
					ended := make(chan error, 1)
					s := serve(t, tr, Timeouts{Read: 10 * time.Second, Write: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
						ended <- handler(http.NewResponseController(w), w, r)
					})
					c := s.connect(t, "http/1.1")
					c.send(t, request)
					began := time.Now()
					synctest.Wait()
					// It is not touched by a change either.
					s.SetTimeouts(Timeouts{Read: 5 * time.Second, Write: 5 * time.Second})
					if tt.want == 0 {
						time.Sleep(time.Hour)
						synctest.Wait()
						select {
						case err := <-ended:
							t.Errorf("over with %v", err)
						default:
						}
						_ = c.Close()
						if err := <-ended; err == nil {
							t.Error("it goes on with a client that has gone")
						}
						return
					}
					if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("over with %v", err)
					}
					if took := time.Since(began); took != tt.want {
						t.Errorf("over after %v, want %v", took, tt.want)
					}
				})
			}
			t.Run(tr.name+"/read/"+tt.name, func(t *testing.T) {
				play(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 10\n\nhalf", func(rc *http.ResponseController, _ http.ResponseWriter, r *http.Request) error {
					if err := rc.SetReadDeadline(deadline()); err != nil {
						return err
					}
					_, err := io.ReadAll(r.Body)
					return err
				})
			})
			t.Run(tr.name+"/write/"+tt.name, func(t *testing.T) {
				play(t, get, func(rc *http.ResponseController, w http.ResponseWriter, _ *http.Request) error {
					if err := rc.SetWriteDeadline(deadline()); err != nil {
						return err
					}
					_, err := w.Write(make([]byte, large))
					return err
				})
			})
		}
	}
}

// The next request on the connection has the live value again.
func TestOwnDeadlineEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 2)
		s := serve(t, transport{}, Timeouts{Read: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/own" {
				rc := http.NewResponseController(w)
				if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{})); err != nil {
					t.Error(err)
				}
				hello(w, r)
				return
			}
			_, err := io.ReadAll(r.Body)
			ended <- err
		})
		c := s.connect(t, "http/1.1")
		c.send(t, "GET /own HTTP/1.1\nHost: x\n\n")
		c.receive(t)
		c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 10\n\nhalf")
		began := time.Now()
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("over with %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("over after %v", took)
		}
	})
}

// The time of an answer begins with its first byte: neither a slow handler nor a
// slow body, with or without an invitation to send it, is held against it.
func TestAnswerTimeBeginsWithTheAnswer(t *testing.T) {
	for _, tr := range transports() {
		for name, request := range map[string]string{
			"a slow handler": get,
			"a slow body":    "POST / HTTP/1.1\nHost: x\nContent-Length: 4\n\nbo",
			"an invitation":  "POST / HTTP/1.1\nHost: x\nContent-Length: 4\nExpect: 100-continue\n\n",
		} {
			t.Run(tr.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := serve(t, tr, Timeouts{Write: time.Second}, func(w http.ResponseWriter, r *http.Request) {
						_, _ = io.Copy(io.Discard, r.Body)
						time.Sleep(time.Minute)
						hello(w, r)
					})
					c := s.connect(t, "http/1.1")
					c.send(t, request)
					if name == "an invitation" {
						c.receive(t) // 100 Continue
					}
					time.Sleep(time.Minute)
					switch name {
					case "a slow body":
						c.send(t, "dy")
					case "an invitation":
						c.send(t, "body")
					}
					if body := c.receive(t); body != "hello" {
						t.Errorf("answer %q", body)
					}
				})
			})
		}
	}
}

// After a write timeout nothing more is written: TLS would wait for its
// good-bye, 5 s more.
func TestNothingIsWrittenAfterAWriteTimeout(t *testing.T) {
	for _, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, tr, Timeouts{Write: time.Second}, func(w http.ResponseWriter, _ *http.Request) {
					_, _ = w.Write(make([]byte, large))
				})
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				began := time.Now()
				for !s.Empty() {
					time.Sleep(time.Millisecond)
				}
				if took := time.Since(began); took > time.Second+10*time.Millisecond {
					t.Errorf("the connection was closed after %v", took)
				}
			})
		})
	}
}

// A connection that a handler has taken over has no deadline but its own, and
// the request no time; it is counted until its Close.
func TestHijacked(t *testing.T) {
	for _, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				taken := make(chan net.Conn, 1)
				all := Timeouts{time.Second, time.Second, time.Second, time.Second, time.Second}
				s := serve(t, tr, all, func(w http.ResponseWriter, r *http.Request) {
					nc, _, err := http.NewResponseController(w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					select {
					case <-r.Context().Done():
						t.Error("the request has a time")
					case <-time.After(time.Minute):
					}
					taken <- nc
				})
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				nc := <-taken
				time.Sleep(time.Hour)
				s.SetTimeouts(Timeouts{Read: time.Millisecond, Write: time.Millisecond})
				go func() {
					time.Sleep(time.Hour)
					c.send(t, "late")
				}()
				if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil {
					t.Errorf("read after an hour: %v", err)
				}
				go func() {
					time.Sleep(time.Hour)
					_, _ = io.ReadFull(c.r, make([]byte, 4))
				}()
				if _, err := io.WriteString(nc, "late"); err != nil {
					t.Errorf("write for an hour: %v", err)
				}
				if err := nc.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
					t.Error(err)
				}
				began := time.Now()
				if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
					t.Errorf("own deadline: %v after %v", err, time.Since(began))
				}
				if n := s.Counts()[Class{KindCustom, StateActive}]; n != 1 {
					t.Errorf("%d custom connections", n)
				}
				_ = nc.Close()
				if !s.Empty() {
					t.Error("it is counted after its Close")
				}
			})
		})
	}
}

// pace is a connection below that can copy for itself, and is slow.
type pace struct {
	*lateConn
	deadlines chan time.Time
	wake      chan struct{}
}

func (c *pace) SetWriteDeadline(t time.Time) error {
	c.deadlines <- t
	return nil
}

func (c *pace) ReadFrom(r io.Reader) (int64, error) {
	<-c.wake
	return io.Copy(io.Discard, r)
}

// A copy in the kernel cannot be woken and go on, so its deadline is the right
// one all the time.
func TestReadFromHasTheExactDeadline(t *testing.T) {
	below := &pace{lateConn: &lateConn{}, deadlines: make(chan time.Time, 10), wake: make(chan struct{})}
	r := NewRegistry(Timeouts{Write: time.Minute})
	c := r.add(below, ListenerOptions{})
	c.to(http.StateActive)
	if _, err := c.Write([]byte("header")); err != nil {
		t.Fatal(err)
	}
	began := <-below.deadlines
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n, err := c.ReadFrom(strings.NewReader("file")); n != 4 || err != nil {
			t.Errorf("copied %d, %v", n, err)
		}
	}()
	for c.mu.Lock(); c.write.blocked == 0; c.mu.Lock() {
		c.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	c.mu.Unlock()
	for _, d := range []time.Duration{time.Second, time.Hour} {
		r.SetTimeouts(Timeouts{Write: d})
		if got, want := <-below.deadlines, began.Add(d-time.Minute); !got.Equal(want) {
			t.Errorf("the deadline is %v after the first write, want %v", got.Sub(began.Add(-time.Minute)), d)
		}
	}
	r.SetTimeouts(Timeouts{})
	if got := <-below.deadlines; !got.IsZero() {
		t.Errorf("the deadline is %v, want none", got)
	}
	close(below.wake)
	<-done
}

// Beyond the limit some connections may be told so, and the rest is closed
// unheard.
func TestLimit(t *testing.T) {
	r := NewRegistry(Timeouts{})
	r.SetLimit(2)
	over := 0
	for range 2 + overLimit {
		c := r.add(&lateConn{}, ListenerOptions{})
		if c == nil {
			t.Fatal("closed unheard")
		}
		if c.Over() {
			over++
		}
	}
	if over != overLimit {
		t.Errorf("%d are over the limit, want %d", over, overLimit)
	}
	below := &lateConn{}
	if c := r.add(below, ListenerOptions{}); c != nil || below.closed != 1 || r.Refused() != 1 {
		t.Errorf("taken in: %v, closed %d times, %d refused", c != nil, below.closed, r.Refused())
	}
	r.SetLimit(0)
	if c := r.add(&lateConn{}, ListenerOptions{}); c == nil || c.Over() {
		t.Error("without a limit one is over it")
	}
}
