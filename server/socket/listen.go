package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Listen listens on a, for a process that stands alone: closing the listener
// removes the file of a unix socket, where it is still the one that was bound.
// mode is that of the file, and counts for nothing else; a socket that nobody
// listens on any more is replaced, and what is no socket is not touched.
//
// The listener is as [Listener] describes it. The error is an [*Error].
func Listen(ctx context.Context, a Address, mode os.FileMode) (net.Listener, error) {
	ln, f, err := open(ctx, a, mode, nil)
	if err != nil {
		return nil, explain(a.written(), err)
	}
	return newListener(ln, a, f), nil
}

// control is called with each socket before it is bound.
type control = func(network, address string, c syscall.RawConn) error

// open binds and listens. The second result is the file of a unix socket, nil
// where there is none or where net's listener removes it itself.
func open(ctx context.Context, a Address, mode os.FileMode, before control) (net.Listener, *file, error) {
	lc := net.ListenConfig{Control: before}
	// A socket of MPTCP cannot be handed to another process as a TCP one.
	lc.SetMultipathTCP(false)
	switch a.Network {
	case networkUnix:
		return openUnix(ctx, &lc, a.Target, mode)
	case networkBoth:
		// Without the host, net listens on what the machine has of the two families.
		_, port, err := net.SplitHostPort(a.Target)
		if err != nil {
			return nil, nil, err
		}
		ln, err := lc.Listen(ctx, "tcp", ":"+port)
		return ln, nil, err
	}
	ln, err := lc.Listen(ctx, a.Network, a.Target)
	return ln, nil, err
}

func openUnix(ctx context.Context, lc *net.ListenConfig, path string, mode os.FileMode) (net.Listener, *file, error) {
	if path == "" {
		return nil, nil, errors.New("the address has no path")
	}
	spelling := path
	abstract := path[0] == '@'
	if !abstract {
		spelling = bindable(path)
		lc.Control = withMode(mode)
	}
	ln, err := lc.Listen(ctx, "unix", spelling)
	if errors.Is(err, errAddrInUse) && !abstract {
		if err := removeAbandoned(ctx, spelling); err != nil {
			return nil, nil, err
		}
		ln, err = lc.Listen(ctx, "unix", spelling)
	}
	if err != nil || abstract { // an abstract socket has no file
		return ln, nil, err
	}
	f, err := newFile(path)
	if err == nil {
		err = f.chmod(mode)
	}
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	if runtime.GOOS == "windows" {
		// Files cannot be told apart there before they are opened, and a socket
		// cannot be opened. net removes the path.
		return ln, nil, nil
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	return ln, f, nil
}

// removeAbandoned removes path where it is a socket that nobody listens on.
// Where somebody does, it leaves the error to the next try.
func removeAbandoned(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it has just gone
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errNotSocket
	}
	d := net.Dialer{Timeout: time.Second}
	nc, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = nc.Close()
		return nil
	}
	if !errors.Is(err, errConnRefused) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket that nobody listens on: %w", err)
	}
	return nil
}

// listener is a [net.Listener] that knows its key. It has the methods of what it
// is on that a caller may need.
type listener struct {
	deadliner
	addr net.Addr
	key  string
	file *file // to be removed by Close; nil: none
	once sync.Once
}

// deadliner is what *net.TCPListener and *net.UnixListener have in common.
type deadliner interface {
	net.Listener
	syscall.Conn
	SetDeadline(t time.Time) error
}

func newListener(ln net.Listener, a Address, f *file) *listener {
	l := &listener{deadliner: ln.(deadliner), addr: ln.Addr(), key: a.withPort(ln.Addr()).String(), file: f}
	if a.Network == networkUnix {
		// It may have been bound by another spelling.
		l.addr = &net.UnixAddr{Name: a.Target, Net: "unix"}
	}
	return l
}

// Key returns the key of the address that the listener is on, with the port that
// was given for port 0.
func (l *listener) Key() string { return l.key }

// Addr returns the address, of a unix socket by its absolute path.
func (l *listener) Addr() net.Addr { return l.addr }

// Unwrap returns the listener below, a *net.TCPListener or *net.UnixListener.
func (l *listener) Unwrap() net.Listener { return l.deadliner }

// Close closes the descriptor; one by [Listen] removes the file of its socket
// before, as long as nobody can have replaced it.
func (l *listener) Close() error {
	var err error
	l.once.Do(func() {
		if l.file != nil {
			err = l.file.remove()
		}
	})
	return errors.Join(err, l.deadliner.Close())
}

// KeyOf returns the key of what ln listens on: that of its method Key, where it
// has one, or else its address as server.listen writes it.
func KeyOf(ln net.Listener) string {
	if k, ok := ln.(interface{ Key() string }); ok {
		return k.Key()
	}
	if addr := ln.Addr(); addr.Network() != networkUnix {
		return addr.String()
	}
	return unixPrefix + ln.Addr().String()
}
