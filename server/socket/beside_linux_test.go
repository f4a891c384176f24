package socket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// freePort is a port that nobody listens on, at any address.
func freePort(tb testing.TB) string {
	tb.Helper()
	s := openOn(tb, ":0")
	ap, err := netip.ParseAddrPort(s.Addr())
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf(":%d", ap.Port())
}

// besideOf opens a beside an older socket, which listens already.
func besideOf(tb testing.TB, old *Socket, a Address) *Socket {
	tb.Helper()
	if err := old.ReusePort(); err != nil {
		tb.Fatal(err)
	}
	s, err := OpenBeside(tb.Context(), a, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func loopback(tb testing.TB, ip, port string) net.Addr {
	tb.Helper()
	addr, err := net.ResolveTCPAddr("tcp", ip+port)
	if err != nil {
		tb.Fatal(err)
	}
	return addr
}

// Two that overlap, in either order. What comes goes to the more specific one.
func TestOpenBeside(t *testing.T) {
	const ip4, ip6 = "127.0.0.1", "[::1]"
	for _, tt := range []struct{ wide, narrow, toNarrow, toWide string }{
		{"tcp4 0.0.0.0", "tcp4 127.0.0.1", ip4, "127.0.0.2"},
		{"tcp [::]", "tcp4 127.0.0.1", ip4, ip6},
		{"tcp [::]", "tcp6 [::1]", ip6, ip4},
		{"tcp [::]", "tcp4 0.0.0.0", ip4, ip6},
		{"tcp6 [::]", "tcp6 [::1]", ip6, ""},
	} {
		for _, order := range []string{"narrowing", "widening"} {
			t.Run(order+" "+tt.wide+" "+tt.narrow, func(t *testing.T) {
				port := freePort(t)
				at := func(s string) Address {
					var a Address
					if _, err := fmt.Sscan(s, &a.Network, &a.Target); err != nil {
						t.Fatal(err)
					}
					a.Target += port
					return a
				}
				wide, narrow := at(tt.wide), at(tt.narrow)
				if !wide.Covers(narrow) || narrow.Covers(wide) {
					t.Errorf("%v covers %v: %v, and the other way round: %v", wide, narrow, wide.Covers(narrow), narrow.Covers(wide))
				}
				first, second := wide, narrow
				if order == "widening" {
					first, second = narrow, wide
				}
				old := openAt(t, first)
				if _, err := Open(t.Context(), second, 0); !errors.Is(err, errAddrInUse) {
					t.Fatalf("it opens without more: %v", err)
				}
				if _, err := OpenBeside(t.Context(), second, 0); !errors.Is(err, errAddrInUse) {
					t.Fatalf("it opens beside one that does not share: %v", err)
				}
				sockets := map[Address]*Socket{first: old, second: besideOf(t, old, second)}
				if tt.toWide != "" {
					dial(t, loopback(t, tt.toWide, port))
					accept(t, listenerOf(t, sockets[wide]))
				}
				dial(t, loopback(t, tt.toNarrow, port))
				accept(t, listenerOf(t, sockets[narrow]))
				if _, err := Open(t.Context(), second, 0); !errors.Is(err, errAddrInUse) {
					t.Errorf("another one that does not share opens too: %v", err)
				}
			})
		}
	}
}

// [::] for both families and [::] for IPv6 alone are two keys and two sockets.
func TestOpenBothBesideIPv6(t *testing.T) {
	port := freePort(t)
	both, only6 := Address{"tcp", "[::]" + port, 0}, Address{"tcp6", "[::]" + port, 0}
	old := openAt(t, both)
	other := besideOf(t, old, only6)
	if !both.Covers(only6) || old.Is(only6) {
		t.Errorf("%v covers %v: %v; it is the same: %v", both, only6, both.Covers(only6), old.Is(only6))
	}
	dial(t, loopback(t, "127.0.0.1", port))
	accept(t, listenerOf(t, old))
	// Given up, it takes no more of IPv6, though it is as specific as the other.
	if err := old.Refuse(); err != nil {
		t.Fatal(err)
	}
	ln := listenerOf(t, other)
	for range 20 {
		dial(t, loopback(t, "[::1]", port))
		accept(t, ln)
	}
}

func TestOpenBesideOnAUnixSocket(t *testing.T) {
	path := t.TempDir() + "/svc.sock"
	s := openOn(t, "unix:"+path)
	if err := errors.Join(s.ReusePort(), s.Refuse(), s.Admit()); err != nil {
		t.Error(err)
	}
	if _, err := OpenBeside(t.Context(), s.Address(), 0o660); !errors.Is(err, errAddrInUse) {
		t.Errorf("a second one opens: %v", err)
	}
	dial(t, &net.UnixAddr{Net: "unix", Name: path})
	accept(t, listenerOf(t, s))
}
