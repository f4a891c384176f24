package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waysToRefuse are Refuse and each of its ways by itself, as far as this user may
// go them: that is what it does for a user who may not go the other.
func waysToRefuse(t *testing.T) map[string]func(s *Socket) error {
	t.Helper()
	by := func(way func(*deaf, int) error) func(*Socket) error {
		return func(s *Socket) error {
			s.deaf = &deaf{}
			return way(s.deaf, s.fd)
		}
	}
	ways := map[string]func(s *Socket) error{"whole": (*Socket).Refuse, "interface": by((*deaf).move)}
	switch err := (&deaf{}).filter(openOn(t, "127.0.0.1:0").fd); {
	case err == nil:
		ways["filter"] = by((*deaf).filter)
	case !errors.Is(err, fs.ErrPermission):
		t.Error(err)
	}
	return ways
}

// eachRefusal runs a test for each way and each kind of socket. addr is what a
// client connects to.
func eachRefusal(t *testing.T, ways map[string]func(*Socket) error, test func(t *testing.T, s *Socket, addr net.Addr, refuse func(*Socket) error)) {
	t.Helper()
	for way, refuse := range ways {
		for _, tt := range []struct{ name, addr, client string }{
			{"IPv4", "127.0.0.1:0", "127.0.0.1"},
			{"IPv6", "[::1]:0", "[::1]"},
			{"IPv4 on both", ":0", "127.0.0.1"},
			{"IPv6 on both", ":0", "[::1]"},
		} {
			t.Run(way+" "+tt.name, func(t *testing.T) {
				s := openOn(t, tt.addr)
				test(t, s, loopback(t, tt.client, fmt.Sprintf(":%d", netip.MustParseAddrPort(s.Addr()).Port())), refuse)
			})
		}
	}
}

func TestRefuse(t *testing.T) { eachRefusal(t, waysToRefuse(t), testRefuse) }

func testRefuse(t *testing.T, s *Socket, addr net.Addr, refuse func(*Socket) error) {
	t.Helper()
	dial(t, addr) // queued
	if err := refuse(s); err != nil {
		t.Fatal(err)
	}
	if err := s.Refuse(); err != nil { // again
		t.Fatal(err)
	}
	ln := listenerOf(t, s)
	dialed := make(chan error, 1)
	go func() {
		nc, err := dialFor(t.Context(), 20*time.Second, addr)
		if err == nil {
			_ = nc.Close()
		}
		dialed <- err
	}()
	if s.deaf.moved {
		// Nobody else has the address.
		if err := <-dialed; !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a new connection gets %v", err)
		}
	} else {
		select {
		case err := <-dialed:
			t.Fatalf("a new connection is answered: %v", err)
		case <-time.After(300 * time.Millisecond):
		}
		// Its SYN, sent again, is answered after Admit.
		defer func() {
			if err := <-dialed; err != nil {
				t.Errorf("the one that was refused: %v", err)
			}
		}()
	}
	// What is set up is not touched.
	served(t, accept(t, ln))

	for range 2 {
		if err := s.Admit(); err != nil {
			t.Fatal(err)
		}
	}
	dial(t, addr)
	served(t, accept(t, listenerOf(t, s)))
}

// served writes a byte.
func served(t *testing.T, nc net.Conn) {
	t.Helper()
	if _, err := nc.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// A user who may not take it back gets another socket in its place; what the old
// one has queued is for who has a duplicate.
func TestAdmitByAnotherSocket(t *testing.T) {
	ways := waysToRefuse(t)
	delete(ways, "filter") // who may set it may take it back
	eachRefusal(t, ways, func(t *testing.T, s *Socket, addr net.Addr, refuse func(*Socket) error) {
		t.Helper()
		old := listenerOf(t, s)
		dial(t, addr)
		if err := refuse(s); err != nil {
			t.Fatal(err)
		}
		before, files := s.FD(), openFiles(t)
		if err := s.replace(); err != nil {
			t.Fatal(err)
		}
		if s.FD() == before || openFiles(t) != files {
			t.Errorf("descriptor %d, before %d; %d are open, before %d", s.FD(), before, openFiles(t), files)
		}
		ln := listenerOf(t, s)
		if KeyOf(ln) != KeyOf(old) {
			t.Errorf("key %s, before %s", KeyOf(ln), KeyOf(old))
		}
		served(t, accept(t, old))
		dial(t, addr)
		served(t, accept(t, ln))
	})
}

// A handshake whose last packet has not come comes to its end: the kernel is told
// to wait for the client's first data before it takes it for set up.
func TestRefuseLetsAHandshakeEnd(t *testing.T) {
	eachRefusal(t, waysToRefuse(t), func(t *testing.T, s *Socket, addr net.Addr, refuse func(*Socket) error) {
		t.Helper()
		if err := unix.SetsockoptInt(s.FD(), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30); err != nil {
			t.Fatal(err)
		}
		nc := dial(t, addr)
		if err := refuse(s); err != nil {
			t.Fatal(err)
		}
		if n := queued(t, s); n != 0 {
			t.Fatalf("%d connections are set up already", n)
		}
		served(t, nc)
		server := accept(t, listenerOf(t, s))
		served(t, server)
		for _, end := range []net.Conn{nc, server} {
			var b [1]byte
			if _, err := end.Read(b[:]); err != nil || b[0] != 'x' {
				t.Errorf("read %q, %v", b, err)
			}
		}
	})
}

// queued is how many connections wait to be accepted.
func queued(t *testing.T, s *Socket) uint32 {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(s.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Error(err)
		return 0
	}
	return info.Unacked // of a socket that listens (tcp(7))
}

// 127.0.0.1 is given up beside 0.0.0.0 while clients connect all the time: it
// refuses, is accepted on until it is empty, and closed. Nobody is reset, and
// nobody waits in vain.
func TestNarrowListenerIsGivenUpUnderLoad(t *testing.T) {
	for name, refuse := range waysToRefuse(t) {
		t.Run(name, func(t *testing.T) { giveUpUnderLoad(t, refuse) })
	}
}

func giveUpUnderLoad(t *testing.T, refuse func(*Socket) error) {
	t.Helper()
	port := freePort(t)
	addr := loopback(t, "127.0.0.1", port)
	greet := func(ln net.Listener) error {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return err
			}
			if _, err := nc.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			_ = nc.Close()
		}
	}
	narrow := openAt(t, Address{"tcp4", "127.0.0.1" + port, 0})
	wide := besideOf(t, narrow, Address{"tcp4", "0.0.0.0" + port, 0})
	wideListener := listenerOf(t, wide)
	var servers, clients sync.WaitGroup
	servers.Go(func() { _ = greet(wideListener) })

	stop := make(chan struct{})
	const atOnce = 8
	var served [atOnce]int
	for i := range served {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				nc, err := dialFor(t.Context(), 20*time.Second, addr)
				if err != nil {
					t.Error(err)
					return
				}
				var b [1]byte
				if _, err := nc.Read(b[:]); err != nil {
					t.Error(err)
				}
				_ = nc.Close()
				served[i]++
			}
		})
	}
	for round := range 5 {
		if round > 0 {
			narrow = besideOf(t, wide, narrow.Address())
		}
		ln := listenerOf(t, narrow).(deadliner)
		quiet, refused := make(chan error), make(chan struct{})
		go func() {
			err := greet(ln)
			for <-refused; queued(t, narrow) != 0 && errors.Is(err, os.ErrDeadlineExceeded); {
				if err = ln.SetDeadline(time.Now().Add(time.Second)); err == nil {
					err = greet(ln)
				}
			}
			quiet <- err
		}()
		time.Sleep(30 * time.Millisecond)
		if err := refuse(narrow); err != nil {
			t.Error(err)
		}
		close(refused)
		// What is under way comes to the queue in this time.
		if err := ln.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		if err := <-quiet; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the server of the narrow one ends with %v", err)
		}
		if err := errors.Join(ln.Close(), narrow.Close()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	clients.Wait()
	if err := wideListener.Close(); err != nil {
		t.Error(err)
	}
	servers.Wait()
	for i, n := range served {
		if n == 0 {
			t.Errorf("client %d was never served", i)
		}
	}
}
