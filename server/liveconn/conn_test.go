package liveconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// lateConn has bytes to read even after it was closed, as a Read that was on
// its way up has, unless its deadline has come. It remembers what was set.
type lateConn struct {
	net.Conn
	mu     sync.Mutex
	closed int
	read   time.Time
}

func (c *lateConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if over(c.read, time.Now()) {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(p, "GET /"), nil
}

func (c *lateConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *lateConn) Close() error                     { c.closed++; return nil }
func (c *lateConn) SetWriteDeadline(time.Time) error { return nil }
func (c *lateConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

func (c *lateConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return nil
}

func TestReadAfterTheDrainHasGivenUp(t *testing.T) {
	c := NewRegistry(Timeouts{}).add(&lateConn{}, ListenerOptions{})
	c.to(http.StateIdle)
	now := time.Now()
	if due := c.closeIdle(now, now, time.Minute, time.Time{}); due.IsZero() || c.phase != phaseIdle {
		t.Fatalf("given up before its time, due at %v", due)
	}
	if due := c.closeIdle(now.Add(2*time.Minute), now, time.Minute, time.Time{}); !due.IsZero() || c.phase != phaseClosing {
		t.Fatalf("not given up in time, due at %v", due)
	}
	if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes of a request that cannot be answered, %v", n, err)
	}
}

func TestReadBeforeTheDrainGivesUp(t *testing.T) {
	c := NewRegistry(Timeouts{}).add(&lateConn{}, ListenerOptions{})
	c.to(http.StateIdle)
	if n, err := c.Read(make([]byte, 10)); n != 5 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	now := time.Now()
	if due := c.closeIdle(now, now, 0, time.Time{}); !due.IsZero() || c.phase != phaseReading {
		t.Errorf("given up with half a request, due at %v", due)
	}
}

// Whatever net/http, handlers and the drain do to connections, and in whatever
// order, the counts are those of the set, and what is closed is in neither.
func TestCountsMatchTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewRegistry(Timeouts{Idle: time.Minute})
		var open []*Conn
		pick := func(t *rapid.T) *Conn {
			if len(open) == 0 {
				t.Skip("no connection")
			}
			return open[rapid.IntRange(0, len(open)-1).Draw(t, "connection")]
		}
		drop := func(c *Conn) {
			for i := range open {
				if open[i] == c {
					open = append(open[:i], open[i+1:]...)
					return
				}
			}
		}
		states := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle}
		began := time.Now()
		t.Repeat(map[string]func(*rapid.T){
			"accept": func(*rapid.T) { open = append(open, r.add(&lateConn{}, ListenerOptions{})) },
			"state": func(t *rapid.T) {
				c := pick(t)
				if c.phase != phaseCustom { // net/http is silent about those
					r.ConnState(c, rapid.SampledFrom(states).Draw(t, "state"))
				}
			},
			"h2": func(t *rapid.T) {
				if c := pick(t); c.phase == phaseNew && !c.h2.on {
					c.h2.on = true
				}
			},
			"read": func(t *rapid.T) { _, _ = pick(t).Read(make([]byte, 8)) },
			"hijack": func(t *rapid.T) {
				c := pick(t)
				if c.h2.on { // net/http has no way to
					return
				}
				closing := c.phase == phaseClosing
				r.ConnState(c, http.StateHijacked)
				if closing {
					drop(c)
				}
			},
			"close": func(t *rapid.T) {
				c := pick(t)
				custom := c.phase == phaseCustom
				_ = c.Close()
				if !custom {
					r.ConnState(c, http.StateClosed)
				}
				drop(c)
			},
			"close again": func(t *rapid.T) {
				c := pick(t)
				custom := c.phase == phaseCustom
				_, _ = c.Close(), c.Close()
				if custom {
					drop(c)
				}
			},
			"timeouts": func(t *rapid.T) {
				r.SetTimeouts(Timeouts{Idle: time.Duration(rapid.IntRange(0, 3).Draw(t, "hours")) * time.Hour})
			},
			"drain":  func(*rapid.T) { r.Drain(time.Time{}, 0) },
			"linger": func(*rapid.T) { r.CloseIdle(began.Add(time.Hour), began, time.Second, time.Time{}) },
			"idle":   func(t *rapid.T) { pick(t).closeIdle(began, began, 0, time.Time{}) },
			"": func(t *rapid.T) {
				if len(r.all()) != len(open) || r.Empty() != (len(open) == 0) {
					t.Fatalf("%d connections in the registry, want %d", len(r.all()), len(open))
				}
				want, sum := map[Class]int{}, 0
				for _, c := range open {
					class, isOpen := c.class()
					if !isOpen {
						t.Error("a connection that is not closed counts as closed")
					}
					if r.Draining() {
						class.State = StateDraining
					}
					want[class]++
				}
				for class, n := range r.Counts() {
					if n != want[class] {
						t.Errorf("%d of %v, want %d", n, class, want[class])
					}
					sum += n
				}
				if sum != len(open) {
					t.Errorf("the classes add up to %d, want %d", sum, len(open))
				}
			},
		})
	})
}

// A TLS connection on which nothing of a request was read is new, and cuts
// nothing off.
func TestSilentTLSConnectionIsNew(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		synctest.Test(t, func(t *testing.T) {
			s := serve(t, transport{tls: true}, Timeouts{}, hello)
			s.certs.MaxVersion = version
			c := s.connect(t, "http/1.1")
			synctest.Wait()
			if n := s.Counts()[Class{KindHTTP1, StateNew}]; n != 1 {
				t.Errorf("TLS %x: %v", version, s.Counts())
			}
			c.send(t, "GET / HT")
			synctest.Wait()
			if n := s.Counts()[Class{KindHTTP1, StateActive}]; n != 1 {
				t.Errorf("TLS %x, with half a header: %v", version, s.Counts())
			}
			other := s.connect(t, "http/1.1")
			synctest.Wait()
			if cuts := s.CloseAll(); len(cuts) != 1 || cuts[0].What != "half a request" {
				t.Errorf("TLS %x: cut off %v", version, cuts)
			}
			_, _ = c.Close(), other.Close()
		})
	}
}
