package socket

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// resolved is the address of what is written as in server.listen.
func resolved(tb testing.TB, addr string) Address {
	tb.Helper()
	as, err := Resolve(tb.Context(), []string{addr})
	if err != nil {
		tb.Fatal(err)
	}
	return as[0]
}

// listenOn listens until the test ends.
func listenOn(tb testing.TB, addr string) net.Listener {
	tb.Helper()
	ln, err := Listen(tb.Context(), resolved(tb, addr), 0o660)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	return ln
}

// dial connects, and fails the test when that takes too long for any machine.
func dial(tb testing.TB, addr net.Addr) net.Conn {
	tb.Helper()
	nc, err := dialFor(tb.Context(), 20*time.Second, addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	return nc
}

func dialFor(ctx context.Context, limit time.Duration, addr net.Addr) (net.Conn, error) {
	d := net.Dialer{Timeout: limit}
	return d.DialContext(ctx, addr.Network(), addr.String())
}

// accept accepts one connection.
func accept(tb testing.TB, ln net.Listener) net.Conn {
	tb.Helper()
	if err := ln.(deadliner).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	return nc
}

func wantError(tb testing.TB, err error, prefix string) {
	tb.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), prefix) {
		tb.Errorf("error %v, want %q at its start", err, prefix)
	}
}
