//go:build unix

package server

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/liveconn"
)

// HTTP/2 does not move, and does not wait for the end of the drain either: the
// client is told, what is on its way is served, and it is closed a second later.
func TestHandoverOfH2Connections(t *testing.T) {
	g := startGenerations(t, handler(hello), allowH2C)
	f := dialH2(t, g.current.addr)
	if err := f.open(1, "/"); err != nil {
		t.Fatal(err)
	}
	f.read(t, func(s *seen) bool { return s.ended[1] })
	eventually(t, "an idle connection", func() bool { return g.current.count(liveconn.KindH2, liveconn.StateIdle) == 1 })
	old, a := g.next(t)
	f.read(t, func(s *seen) bool { return s.goAway })
	if err := f.open(3, "/"); err != nil {
		t.Fatal(err)
	}
	if got := f.read(t, nil); !got.ended[3] {
		t.Error("the stream after the GOAWAY has no answer")
	}
	old.Settle()
	if err := old.wait(t); err != nil {
		t.Error(err)
	}
	if err := a.wait(t); err != nil || old.registry.MovedCount() != 0 {
		t.Errorf("%d moved, %v", old.registry.MovedCount(), err)
	}
}

// With TLS nothing moves, whatever the successor is said to be, and an idle
// connection is left to its client, whose next answer ends it.
func TestHandoverOfTLSConnections(t *testing.T) {
	s := startTLS(t, Options{Handler: handler(hello)}, nil)
	asks, _ := s.mustDialTLS(t, s.clientTLS(nil))
	silent, _ := s.mustDialTLS(t, s.clientTLS(nil))
	to, from := pair(t, unix.SOCK_STREAM)
	began := time.Now()
	s.Handover(keeper.Handover{Kept: map[string]bool{s.addr: true}, Moves: to, By: began.Add(4 * time.Second)})
	s.Settle()
	if n, err := from.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the stream is not closed: %d, %v", n, err)
	}
	asks.send(t, getRoot)
	if a := asks.receive(t); a.body != "hello" || !a.Close {
		t.Errorf("answer %s, closed %v", a.Status, a.Close)
	}
	wantCloseNotify(t, asks)
	wantCloseNotify(t, silent)
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("the idle connection was closed after %v", took)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}
