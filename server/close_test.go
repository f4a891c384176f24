package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

func TestCloseStopsAtOnce(t *testing.T) {
	g := newGate()
	s := start(t, Options{Handler: g})
	idle := dial(t, s.addr)
	c := dial(t, s.addr)
	c.send(t, getRoot)
	<-g.entered
	s.stop()
	eventually(t, "drain", s.Draining)
	close(g.leave) // it returns, and its answer is lost or not: both may be
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	idle.wantClosed(t)
	began := time.Now()
	_ = s.wait(t)
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("Run returned after %s", took)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func TestCloseNamesWhatItCut(t *testing.T) {
	g := newGate()
	defer close(g.leave)
	s := start(t, Options{Handler: g})
	dial(t, s.addr).send(t, getRoot)
	<-g.entered
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	err := s.wait(t)
	if err == nil || errors.Is(err, ErrDrainTimeout) || !strings.HasPrefix(err.Error(), "stop server: 1 cut off: GET / from ") {
		t.Errorf("Run returned %v", err)
	}
}

func TestCloseOfAnIdleServer(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)})
	c := dial(t, s.addr)
	eventually(t, "the connection", func() bool { return s.count(liveconn.KindHTTP1, liveconn.StateNew) == 1 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	c.wantClosed(t)
}

func TestCloseBeforeRun(t *testing.T) {
	listeners, err := Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	s, err := New(Options{Handler: handler(hello), Config: func(context.Context) *Config { return &cfg }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context(), listeners); err != nil {
		t.Errorf("run after close: %v", err)
	}
	if _, err := listeners[0].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
	if err := s.Run(t.Context(), listeners); err == nil {
		t.Error("Run may be called twice")
	}
}
