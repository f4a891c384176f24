package memnet

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Listener is a [net.Listener] in memory. All methods may be called from many
// goroutines.
type Listener struct {
	conns  chan net.Conn
	done   chan struct{}
	closed sync.Once
}

// Listen makes a listener that is open. The caller closes it.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial makes a connection. It waits until the other end is accepted, or until
// ctx ends, with its error, or the listener is closed, with [net.ErrClosed]. The
// caller closes the connection.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	err := net.ErrClosed
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = near.Close()
	_ = far.Close()
	return nil, fmt.Errorf("dial in memory: %w", err)
}

// Accept waits for a connection. It returns [net.ErrClosed] after Close.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Conns is where connections that are made elsewhere are handed to Accept; who
// sends looks at Done too, because a closed listener takes none.
func (l *Listener) Conns() chan<- net.Conn { return l.conns }

// Done is closed when the listener is.
func (l *Listener) Done() <-chan struct{} { return l.done }

// Close ends all calls of Accept and Dial, and leaves the connections alone. It
// always returns nil and may be called again.
func (l *Listener) Close() error {
	l.closed.Do(func() { close(l.done) })
	return nil
}

// Addr is that of a pipe, as of both ends of a connection.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "pipe" }
func (addr) String() string  { return "pipe" }
