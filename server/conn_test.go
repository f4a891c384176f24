package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lateConn has bytes to read even after it was closed, as a Read that was on
// its way up has.
type lateConn struct {
	net.Conn
	closed int
}

func (c *lateConn) Read(p []byte) (int, error) { return copy(p, "GET /"), nil }
func (c *lateConn) Close() error               { c.closed++; return nil }

func TestReadAfterTheDrainHasClosed(t *testing.T) {
	set := newConnections()
	below := &lateConn{}
	c := set.add(below)
	c.to(phaseIdle)
	now := time.Now()
	if due := c.closeIfDue(now, now, time.Minute); due.IsZero() || below.closed != 0 {
		t.Fatalf("closed before its time, due at %v", due)
	}
	if due := c.closeIfDue(now.Add(2*time.Minute), now, time.Minute); !due.IsZero() || below.closed != 1 {
		t.Fatalf("not closed in time, due at %v", due)
	}
	if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes of a request that cannot be answered, %v", n, err)
	}
}

func TestReadBeforeTheDrainCloses(t *testing.T) {
	set := newConnections()
	below := &lateConn{}
	c := set.add(below)
	c.to(phaseIdle)
	if n, err := c.Read(make([]byte, 10)); n != 5 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	now := time.Now()
	if due := c.closeIfDue(now, now, 0); due.IsZero() || below.closed != 0 {
		t.Errorf("closed with half a request, due at %v", due)
	}
}

// Whatever net/http, handlers and the drain do to connections, and in whatever
// order, the counts are those of the set, and what is closed is in neither.
func TestCountsMatchTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := newConnections()
		var open []*conn
		pick := func(t *rapid.T) *conn {
			if len(open) == 0 {
				t.Skip("no connection")
			}
			return open[rapid.IntRange(0, len(open)-1).Draw(t, "connection")]
		}
		drop := func(c *conn) {
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
			"accept": func(*rapid.T) { open = append(open, set.add(&lateConn{})) },
			"state": func(t *rapid.T) {
				c := pick(t)
				if c.phase != phaseCustom { // net/http is silent about those
					set.hook(c, rapid.SampledFrom(states).Draw(t, "state"))
				}
			},
			"read": func(t *rapid.T) { _, _ = pick(t).Read(make([]byte, 8)) },
			"hijack": func(t *rapid.T) {
				c := pick(t)
				closing := c.phase == phaseClosing
				set.hook(c, http.StateHijacked)
				if closing {
					drop(c)
				}
			},
			"close": func(t *rapid.T) {
				c := pick(t)
				custom := c.phase == phaseCustom
				_ = c.Close()
				if !custom {
					set.hook(c, http.StateClosed)
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
			"drain":   func(*rapid.T) { set.draining.Store(true) },
			"linger":  func(*rapid.T) { set.closeIdle(began.Add(time.Hour), began, time.Second) },
			"closing": func(t *rapid.T) { pick(t).closeIfDue(began, began, 0) },
			"": func(t *rapid.T) {
				if len(set.all()) != len(open) || set.empty() != (len(open) == 0) {
					t.Fatalf("%d connections in the set, want %d", len(set.all()), len(open))
				}
				var want [phases]int64
				for _, c := range open {
					want[c.phase]++
				}
				sum := 0
				for p := range phases {
					if got := set.counts[p].Load(); got != want[p] {
						t.Errorf("count of phase %d is %d, want %d", p, got, want[p])
					}
				}
				for _, n := range set.classes() {
					sum += n
				}
				if sum != len(open) {
					t.Errorf("the classes add up to %d, want %d", sum, len(open))
				}
			},
		})
	})
}
