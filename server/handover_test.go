package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/internal/memnet"
	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/liveconn"
)

// keyed is a listener with a key.
type keyed struct {
	*memnet.Listener

	key string
}

func (l keyed) Key() string { return l.key }

// handing is a Server that hands over, under virtual time, on two listeners. The
// first is kept.
type handing struct {
	*running

	t             *testing.T // of the bubble
	kept, givenUp keyed
}

func inHandover(t *testing.T, h http.Handler, f func(*handing), edit ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &handing{t: t, kept: keyed{memnet.Listen(), "kept"}, givenUp: keyed{memnet.Listen(), "given up"}}
		s.running = startOn(t, []net.Listener{s.kept, s.givenUp}, Options{Handler: h}, edit...)
		synctest.Wait()
		f(s)
	})
}

// handOver hands over to nobody.
func (s *handing) handOver(within time.Duration) {
	s.Handover(keeper.Handover{Kept: map[string]bool{"kept": true}, By: time.Now().Add(within)})
	synctest.Wait()
}

func (s *handing) dial(t *testing.T, l keyed) *raw {
	t.Helper()
	nc, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, nc)
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// closedAfter waits until the server has closed the connection.
func (c *raw) closedAfter(t *testing.T, began time.Time) time.Duration {
	t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
		t.Fatalf("%q, %v", rest, err)
	}
	return time.Since(began)
}

func TestHandoverClosesWhatIsKept(t *testing.T) {
	inHandover(t, handler(hello), func(s *handing) {
		t := s.t
		s.handOver(30 * time.Second)
		if _, err := s.kept.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial of the kept listener: %v", err)
		}
		c := s.dial(t, s.givenUp)
		c.send(t, getRoot)
		if a := c.receive(t); a.body != "hello" || !a.Close {
			t.Errorf("answer %q, close %v", a.body, a.Close)
		}
		s.Release([]string{"other", "given up"})
		time.Sleep(releaseQuiet / 2)
		synctest.Wait()
		c = s.dial(t, s.givenUp) // it was in the queue
		c.send(t, getRoot)
		c.receive(t)
		time.Sleep(releaseQuiet + releaseQuiet/2)
		synctest.Wait()
		if _, err := s.givenUp.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial of the released listener: %v", err)
		}
		select {
		case <-s.ended:
			t.Fatal("Run has returned before it was settled")
		default:
		}
		s.Settle()
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
	})
}

// A released listener that never gets quiet is closed all the same.
func TestReleaseIsBounded(t *testing.T) {
	inHandover(t, handler(hello), func(s *handing) {
		t := s.t
		s.handOver(30 * time.Second)
		s.Release([]string{"given up"})
		began := time.Now()
		for {
			nc, err := s.givenUp.Dial(t.Context())
			if err != nil {
				break
			}
			_ = nc.Close()
			time.Sleep(releaseQuiet / 2)
		}
		if took := time.Since(began); took < releaseLimit || took > releaseLimit+releaseQuiet {
			t.Errorf("closed after %v", took)
		}
	})
}

// What cannot move is left to its client until shortly before the end.
func TestHandoverKeepsWhatCannotMove(t *testing.T) {
	inHandover(t, handler(hello), func(s *handing) {
		t := s.t
		idle, asks := s.dial(t, s.kept), s.dial(t, s.kept)
		for _, c := range []*raw{idle, asks} {
			c.send(t, getRoot)
			c.receive(t)
		}
		began := time.Now()
		s.handOver(30 * time.Second)
		time.Sleep(20 * time.Second)
		asks.send(t, getRoot)
		if a := asks.receive(t); a.body != "hello" || !a.Close {
			t.Errorf("answer %q, close %v", a.body, a.Close)
		}
		if took := idle.closedAfter(t, began); took != 29*time.Second {
			t.Errorf("the idle connection was closed after %v", took)
		}
		s.Settle()
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
	})
}

// DrainBy moves the end; server.timeout.idle counts as ever.
func TestDrainBy(t *testing.T) {
	for name, c := range map[string]struct {
		idle, by, want time.Duration
	}{
		"sooner":       {time.Hour, 10 * time.Second, 9 * time.Second},
		"later":        {time.Hour, 10 * time.Minute, 10*time.Minute - time.Second},
		"idle is over": {20 * time.Second, 10 * time.Minute, 20 * time.Second},
		"at once":      {time.Hour, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inHandover(t, handler(hello), func(s *handing) {
				t := s.t
				idle := s.dial(t, s.kept)
				idle.send(t, getRoot)
				idle.receive(t)
				began := time.Now()
				s.handOver(time.Minute)
				s.Settle()
				s.DrainBy(began.Add(c.by))
				s.Release([]string{"given up"})
				if took := idle.closedAfter(t, began); took != c.want {
					t.Errorf("the idle connection was closed after %v", took)
				}
				if err := s.wait(t); err != nil {
					t.Error(err)
				}
			}, func(cfg *Config) { cfg.Timeout.Idle = c.idle })
		})
	}
}

// At the end everything is cut off, counted by kind; but Run returns only when it
// was settled.
func TestHandoverCutsOff(t *testing.T) {
	h := http.NewServeMux()
	h.HandleFunc("/wait", untilDone)
	h.HandleFunc("/take", func(w http.ResponseWriter, _ *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
			t.Error(err)
		}
	})
	inHandover(t, h, func(s *handing) {
		t := s.t
		began := time.Now()
		conns := []*raw{s.dial(t, s.kept), s.dial(t, s.kept), s.dial(t, s.givenUp)}
		for i, path := range []string{"/wait", "/take", "/wait"} {
			conns[i].send(t, "GET "+path+" HTTP/1.1\nHost: x\n\n")
		}
		synctest.Wait()
		s.handOver(10 * time.Second)
		for i, c := range conns {
			if took := c.closedAfter(t, began); took != 10*time.Second {
				t.Errorf("connection %d was closed after %v", i, took)
			}
		}
		synctest.Wait()
		select {
		case <-s.ended:
			t.Fatal("Run has returned before it was settled")
		default:
		}
		s.Settle()
		err := s.wait(t)
		if !errors.Is(err, ErrDrainTimeout) || !strings.Contains(err.Error(), "3 cut off: ") ||
			!strings.HasSuffix(err.Error(), "; by kind: custom 1, http1 2") {
			t.Errorf("Run returned %v", err)
		}
	}, requestTime(0))
}

// A successor that has died changes nothing.
func TestResume(t *testing.T) {
	inHandover(t, handler(hello), func(s *handing) {
		t := s.t
		idle := s.dial(t, s.kept)
		idle.send(t, getRoot)
		idle.receive(t)
		for range 2 {
			s.handOver(10 * time.Second)
			if !s.Draining() {
				t.Error("it does not drain")
			}
			time.Sleep(2 * time.Second)
			again, twice := keyed{memnet.Listen(), "kept"}, keyed{memnet.Listen(), "given up"}
			s.Resume([]net.Listener{again, twice})
			synctest.Wait()
			if s.Draining() {
				t.Error("it drains")
			}
			if _, err := twice.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("dial of a listener that is served already: %v", err)
			}
			for _, c := range []*raw{idle, s.dial(t, again), s.dial(t, s.givenUp)} {
				c.send(t, getRoot)
				if a := c.receive(t); a.body != "hello" || a.Close {
					t.Errorf("answer %q, close %v", a.body, a.Close)
				}
			}
			s.kept = again
			time.Sleep(time.Minute) // far beyond the end of the drain that was undone
		}
		s.stop()
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
	})
}

// The end of the context ends a drain that was not settled.
func TestStopAfterHandover(t *testing.T) {
	inHandover(t, handler(hello), func(s *handing) {
		t := s.t
		idle := s.dial(t, s.kept)
		idle.send(t, getRoot)
		idle.receive(t)
		s.handOver(30 * time.Second)
		time.Sleep(5 * time.Second)
		began := time.Now()
		s.stop()
		if took := idle.closedAfter(t, began); took != maxLinger {
			t.Errorf("the idle connection was closed after %v", took)
		}
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
		// After the end nothing happens, and nothing blocks.
		late := keyed{memnet.Listen(), "late"}
		s.Resume([]net.Listener{late})
		s.handOver(time.Second)
		s.DrainBy(time.Now())
		s.Release(nil)
		s.Settle()
		if _, err := late.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial of a listener that nobody serves: %v", err)
		}
	})
}

// A handler that holds its connection hears of each drain, and when to leave.
func TestHandlersHearOfTheDrain(t *testing.T) {
	type leave struct{ at, by time.Duration }
	var heard chan leave // of the bubble
	inHandover(t, handler(func(w http.ResponseWriter, r *http.Request) {
		c := liveconn.FromContext(r.Context())
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = nc.Close() }()
		for range 2 {
			<-c.Draining()
			at, by := c.Leave()
			heard <- leave{time.Until(at), time.Until(by)}
			time.Sleep(time.Second)
		}
	}), func(s *handing) {
		t := s.t
		const clients = 20
		heard = make(chan leave)
		for range clients {
			s.dial(t, s.kept).send(t, getRoot)
		}
		for round := range 2 {
			synctest.Wait()
			s.handOver(30 * time.Second)
			moments := map[time.Duration]bool{}
			for range clients {
				l := <-heard
				if l.by != 30*time.Second || l.at < 0 || l.at > 5*time.Second {
					t.Errorf("to leave in %v, closed in %v", l.at, l.by)
				}
				moments[l.at] = true
			}
			if len(moments) < clients/2 {
				t.Errorf("they all leave at the same moments: %v", moments)
			}
			if round == 0 {
				s.kept = keyed{memnet.Listen(), "kept"}
				s.Resume([]net.Listener{s.kept})
				time.Sleep(time.Minute)
			}
		}
		s.Release([]string{"given up"})
		s.Settle()
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
	})
}

func TestLimitsHeldAndList(t *testing.T) {
	inHandover(t, handler(hello), func(s *handing) {
		t := s.t
		want := keeper.Limits{Timeout: 30 * time.Second, Overlap: 5 * time.Second, Generations: 4}
		if d := cmp.Diff(want, s.Limits()); d != "" {
			t.Errorf("limits (-want +got):\n%s", d)
		}
		s.dial(t, s.kept)
		synctest.Wait()
		if d := cmp.Diff(map[string]int{"http1": 1}, s.Held()); d != "" {
			t.Errorf("held (-want +got):\n%s", d)
		}
		if l := s.List(5); len(l) != 1 || l[0].Key != "kept" || l[0].State != liveconn.StateNew {
			t.Errorf("list %+v", l)
		}
		if !s.Plain() {
			t.Error("it is not plain")
		}
	})
}

// Nothing is adopted by a server that has ended, or whose Run is never called.
func TestAdoptWithoutRun(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)})
	s.stop()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	if err := s.Adopt(t.Context(), &net.UnixConn{}); !errors.Is(err, errNotServing) {
		t.Errorf("Adopt returned %v", err)
	}
	never, err := New(Options{Handler: handler(hello), Config: func(context.Context) *Config { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := never.Adopt(ctx, &net.UnixConn{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Adopt returned %v", err)
	}
}
