package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// accepted is what a call of Accept returned.
type accepted struct {
	conn net.Conn
	err  error
}

func accept(l *Listener) <-chan accepted {
	c := make(chan accepted, 1)
	go func() {
		conn, err := l.Accept()
		c <- accepted{conn, err}
	}()
	return c
}

// The virtual clock goes on whatever waits: Accept, Dial, Read and a deadline.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Listen()
		defer l.Close() //nolint:errcheck // it returns nil
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := l.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("dialed for %v: %v", time.Since(began), err)
		}

		server := accept(l)
		time.Sleep(time.Hour)
		client, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := <-server
		if a.err != nil {
			t.Fatal(a.err)
		}
		go func() { _, _ = io.WriteString(client, "x") }()
		if b, err := io.ReadAll(io.LimitReader(a.conn, 1)); string(b) != "x" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		began = time.Now()
		if err := a.conn.SetReadDeadline(began.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("read for %v: %v", time.Since(began), err)
		}
		if err := a.conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if _, err := a.conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read after the close: %v", err)
		}
		if got := l.Addr(); got != (addr{}) || got.String() != client.LocalAddr().String() || got.Network() != client.LocalAddr().Network() {
			t.Errorf("address %v, that of a connection %v", got, client.LocalAddr())
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Listen()
		server := accept(l)
		synctest.Wait()
		select {
		case <-l.Done():
			t.Error("it is closed from the start")
		default:
		}
		for range 2 {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		<-l.Done()
		if a := <-server; !errors.Is(a.err, net.ErrClosed) {
			t.Errorf("accepted %v, %v", a.conn, a.err)
		}
		if c, err := l.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dialed %v, %v", c, err)
		}

		waiting := Listen()
		time.AfterFunc(time.Hour, func() { _ = waiting.Close() })
		if c, err := waiting.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dialed %v, %v", c, err)
		}
	})
}

func TestConns(t *testing.T) {
	l := Listen()
	defer l.Close() //nolint:errcheck // it returns nil
	server := accept(l)
	near, far := net.Pipe()
	defer near.Close() //nolint:errcheck // nothing was sent
	l.Conns() <- far
	if a := <-server; a.conn != far || a.err != nil {
		t.Errorf("accepted %v, %v", a.conn, a.err)
	}
}
