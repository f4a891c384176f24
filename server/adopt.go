package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

var errNotServing = errors.New("the server has ended")

// Adopt serves the connections that a predecessor moves here, until the stream
// ends, ctx ends or the server stops. It blocks until then, and closes the
// stream. Run must have been called; until it serves, Adopt waits. The stream is
// one of a connected pair, of type SOCK_STREAM or SOCK_SEQPACKET.
//
// A connection that was idle there is idle here, with its time going on; one that
// was new is new. One whose listener this server does not have is served all the
// same. With an error, the predecessor keeps what was not served here; nothing is
// lost by it. A server with TLS adopts none.
//
// Run does not return after a Handover while a stream is read, so that what is
// on its way is not lost.
func (s *Server) Adopt(ctx context.Context, from *net.UnixConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &adoption{cancel: cancel, done: make(chan struct{})}
	entered := make(chan error, 1)
	err := errNotServing
	if s.tellUntil(ctx, func(r *run) { entered <- r.enter(a) }) {
		err = <-entered
	} else if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("adopt connections: %w", err), from.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = from.Close() })
	err = s.adopt(a, newBatchReader(from), from)
	if ended := ctx.Err(); ended != nil && err != nil {
		err = ended
	}
	if stop() {
		err = errors.Join(err, from.Close())
	}
	close(a.done)
	s.wake()
	if err != nil {
		return fmt.Errorf("adopt connections: %w", err)
	}
	return nil
}

// adoption is a stream that is read.
type adoption struct {
	feed    *feed
	options liveconn.ListenerOptions // without a key
	cancel  context.CancelFunc
	done    chan struct{} // closed when nothing comes from it any more
}

func (a *adoption) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func (s *Server) adopt(a *adoption, r *batchReader, from *net.UnixConn) error {
	for {
		b, conns, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		err = from.SetWriteDeadline(now.Add(moveTimeout))
		if err == nil {
			// From here on they are this process's, and before not.
			_, err = from.Write([]byte{movesVersion})
		}
		if err != nil {
			for _, nc := range conns {
				_ = nc.Close() // the predecessor has it
			}
			return fmt.Errorf("answer that they are taken: %w", err)
		}
		for i, nc := range conns {
			o := a.options
			o.Key = b.Keys[b.Conns[i].Key]
			a.feed.serve(s.registry.Adopt(nc, b.Conns[i].origin(now), o))
		}
	}
}

// feed is a listener for connections that were accepted elsewhere.
type feed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	over   chan struct{} // closed when nothing more is taken from it
}

func newFeed() *feed {
	return &feed{conns: make(chan net.Conn), closed: make(chan struct{}), over: make(chan struct{})}
}

// serve has a connection served. After Close it closes it instead.
func (f *feed) serve(c *liveconn.Conn) {
	select {
	case f.conns <- c:
	case <-f.closed:
		_ = c.Close() // nothing is served any more
		c.Registry().ConnState(c, http.StateClosed)
	}
}

// Accept is that of a net.Listener.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case nc := <-f.conns:
		return nc, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close is that of a net.Listener.
func (f *feed) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// Addr is that of a net.Listener, and nobody's address.
func (f *feed) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
